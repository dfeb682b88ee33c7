//! Matured scores, gathered by model over each hour of event time.

use std::collections::BTreeMap;

use headroom_models::MaturedScore;
use headroom_proto::v1::Model;
use serde::{Deserialize, Serialize};

use crate::lineage;
use crate::view::ScoreView;

const HOUR_US: i64 = 3_600_000_000;

/// The hour under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HourlyScores {
    from_us: i64,
    models: BTreeMap<String, (f64, f64)>,
}

impl HourlyScores {
    pub(crate) fn add(&mut self, at_us: i64, score: MaturedScore) {
        self.from_us = at_us.div_euclid(HOUR_US) * HOUR_US;
        let sums = self.models.entry(score.model).or_default();
        sums.0 += score.pinball;
        sums.1 += score.actual;
    }

    /// The records of the hour, when `at_us` is behind its end.
    pub(crate) fn close_before(&mut self, at_us: i64, workload: &str) -> Vec<Model> {
        let to_us = self.from_us.saturating_add(HOUR_US);
        if at_us < to_us { return Vec::new(); }
        let (from_us, models) = (self.from_us, std::mem::take(&mut self.models));
        models.into_iter().map(|(model, sums)| {
            let scores = BTreeMap::from([("wql".to_owned(), 2.0 * sums.0 / sums.1)]);
            lineage::scored(ScoreView { workload: workload.to_owned(), model_version: model.clone(), family: model, champion: true, from_us, to_us, scores })
        }).collect()
    }
}
