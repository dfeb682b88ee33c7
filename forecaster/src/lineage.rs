//! Model records: where a model came from, when it was promoted, how it scored.
//!
//! `headroom.models` holds three kinds of records, told apart by `reason`: `promoted: ...`, [`SCORED`] (one for each
//! model, workload and hour of event time, `scores` filled, `scored_from_us` and `scored_to_us` among them), and any
//! other reason for a training.

use std::collections::HashMap;

use headroom_models::ModelCard;
use headroom_proto::v1::Model;

use crate::positions::Positions;
use crate::view::ScoreView;

/// The reason of a record that only adds scores.
pub(crate) const SCORED: &str = "scored";
/// Names, among the scores, of the hour in which the forecasts matured: microseconds since the Unix epoch, exact in a
/// double for the next centuries.
const SCORED_FROM: &str = "scored_from_us";
const SCORED_TO: &str = "scored_to_us";
/// The version of the code that trains.
pub(crate) const CODE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Characters of the schema's hash that name a feature version.
const FEATURE_VERSION_CHARS: usize = 16;

/// What models of one window record have in common.
#[derive(Debug)]
pub(crate) struct Lineage<'a> {
    target: &'a str,
    schema_hash: &'a str,
}

impl<'a> Lineage<'a> {
    pub(crate) fn new(target: &'a str, schema_hash: &'a str) -> Self {
        Self { target, schema_hash }
    }

    pub(crate) fn target(&self) -> &'a str {
        self.target
    }

    pub(crate) fn feature_version(&self) -> &'a str {
        self.schema_hash.get(..FEATURE_VERSION_CHARS).unwrap_or(self.schema_hash)
    }

    /// The record of a training; `positions` are the next offsets of what had been read.
    pub(crate) fn trained(&self, workload: &str, card: ModelCard, positions: &Positions) -> Model {
        let offsets = positions.next_offsets().into_iter();
        Model {
            model_version: card.version,
            workload: workload.to_owned(),
            family: card.family,
            trained_at_us: card.trained_at_us,
            train_from_us: card.train_from_us,
            train_to_us: card.train_to_us,
            train_steps: card.steps,
            train_signals: card.signals,
            train_outcomes: card.outcomes,
            table_versions: offsets.map(|(topic, partition, next)| (format!("{}/{partition}", topic.name()), next)).collect(),
            feature_schema_hash: self.schema_hash.to_owned(),
            code_version: CODE_VERSION.to_owned(),
            parameters_json: serde_json::to_string(&card.parameters).unwrap_or_default(),
            scores: HashMap::new(),
            parent: card.parent,
            reason: card.reason,
            champion: card.champion,
        }
    }

    /// The record of a promotion.
    pub(crate) fn promoted(&self, workload: &str, from: String, to: String, reason: String, at_us: i64) -> Model {
        Model {
            model_version: to,
            workload: workload.to_owned(),
            trained_at_us: at_us,
            feature_schema_hash: self.schema_hash.to_owned(),
            code_version: CODE_VERSION.to_owned(),
            parent: from,
            reason: format!("promoted: {reason}"),
            champion: true,
            ..Model::default()
        }
    }
}

/// The record of an hour's scores.
#[expect(clippy::cast_precision_loss, reason = "microseconds of the next centuries are exact in a double")]
pub(crate) fn scored(view: ScoreView) -> Model {
    let hour = [(SCORED_FROM.to_owned(), view.from_us as f64), (SCORED_TO.to_owned(), view.to_us as f64)];
    Model {
        model_version: view.model_version,
        workload: view.workload,
        family: view.family,
        code_version: CODE_VERSION.to_owned(),
        scores: view.scores.into_iter().chain(hour).collect(),
        reason: SCORED.to_owned(),
        champion: view.champion,
        ..Model::default()
    }
}

/// The scores in a record made by [`scored`].
#[expect(clippy::cast_possible_truncation, reason = "whole microseconds, saturating")]
pub(crate) fn score_view(model: Model) -> ScoreView {
    let mut scores: std::collections::BTreeMap<String, f64> = model.scores.into_iter().collect();
    let mut hour = |name: &str| scores.remove(name).map_or(0, |micros| micros as i64);
    let (from_us, to_us) = (hour(SCORED_FROM), hour(SCORED_TO));
    ScoreView {
        workload: model.workload,
        model_version: model.model_version,
        family: model.family,
        champion: model.champion,
        from_us,
        to_us,
        scores,
    }
}
