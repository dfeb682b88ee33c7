//! Model records: where a model came from, when it was promoted, how it scores.
//!
//! `headroom.models` holds three kinds of records of a model, told apart by `reason`: its training (`first`, `age`,
//! `accuracy`); its promotion (`promoted over ...`); and, with the reason [`SCORED`], how its forecasts that matured in
//! one hour of event time did. The latter two repeat the record of the training, so the newest record of a version
//! says all. A score names its hour by `scored_from_us` and `scored_to_us` among the scores.

use std::collections::{BTreeMap, HashMap};

use headroom_models::score::Sums;
use headroom_models::{MaturedScore, ModelCard};
use headroom_proto::v1::Model;

use crate::positions::Positions;
use crate::view::ScoreView;

/// The reason of a record that only adds scores.
pub(crate) const SCORED: &str = "scored";
/// Names, among the scores, of the hour in which the forecasts matured: microseconds since the Unix epoch, exact in a
/// double for the next centuries.
const SCORED_FROM: &str = "scored_from_us";
const SCORED_TO: &str = "scored_to_us";
const HOUR_US: i64 = 3_600_000_000;
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
            table_versions: offsets
                .map(|(topic, partition, next)| (format!("{}/{partition}", topic.name()), next))
                .collect(),
            feature_schema_hash: self.schema_hash.to_owned(),
            code_version: CODE_VERSION.to_owned(),
            parameters_json: card.parameters.to_string(),
            scores: HashMap::new(),
            parent: card.parent,
            reason: card.reason,
            champion: card.champion,
        }
    }
}

/// The record of a promotion over the model version `from`.
pub(crate) fn promoted(model: &Model, from: &str, reason: &str) -> Model {
    Model { reason: format!("promoted over {from}: {reason}"), ..model.clone() }
}

/// The record of the score of the hour that ends with the last step before `until_us`.
#[expect(clippy::cast_precision_loss, reason = "counts, and microseconds of the next centuries, are exact in a double")]
pub(crate) fn scored(model: &Model, score: &MaturedScore, until_us: i64) -> Model {
    let sums = Sums {
        steps: score.steps,
        pinball: score.pinball,
        abs_error: score.abs_error,
        actual: score.actual,
        in_80: score.in_80,
        in_95: score.in_95,
    };
    let from_us = (until_us - 1).div_euclid(HOUR_US) * HOUR_US;
    let scores = [
        ("wql", sums.wql()),
        ("wape", sums.wape()),
        ("coverage_80", sums.coverage_80()),
        ("coverage_95", sums.coverage_95()),
        ("steps", sums.steps as f64),
        (SCORED_FROM, from_us as f64),
        (SCORED_TO, (from_us + HOUR_US) as f64),
    ];
    // An hour without load has no relative loss.
    let scores =
        scores.into_iter().filter(|(_, score)| score.is_finite()).map(|(name, score)| (name.to_owned(), score));
    Model { scores: scores.collect(), reason: SCORED.to_owned(), ..model.clone() }
}

/// The scores in a record made by [`scored`].
#[expect(clippy::cast_possible_truncation, reason = "whole microseconds, saturating")]
pub(crate) fn score_view(model: Model) -> ScoreView {
    let mut scores: BTreeMap<String, f64> = model.scores.into_iter().collect();
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
