//! What the forecaster shows: its newest forecasts, models and scores.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use headroom_proto::v1::{Forecast, Model};
use serde::{Deserialize, Serialize};

use crate::lineage::{self, SCORED};

/// Scores of one model over one hour of event time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreView {
    /// Whose forecasts.
    pub workload: String,
    /// The model that made them.
    pub model_version: String,
    /// The model's family.
    pub family: String,
    /// Was it the one whose forecasts were published?
    pub champion: bool,
    /// Start of the hour in which the forecasts matured, in microseconds since the Unix epoch.
    pub from_us: i64,
    /// End of that hour.
    pub to_us: i64,
    /// By name: `wql`, `wape`, `coverage_80`, ...
    pub scores: BTreeMap<String, f64>,
}

/// Model and score records of all workloads together, at the most: of many workloads fewer of each are kept.
const ALL_MODELS: usize = 60_000;
const ALL_SCORES: usize = 120_000;

/// The newest of everything, for each workload, bounded.
#[derive(Debug)]
pub(crate) struct View {
    workloads: BTreeMap<String, WorkloadView>,
    kept_models: usize,
    kept_scores: usize,
}

#[derive(Debug, Default)]
struct WorkloadView {
    latest: Option<Arc<Forecast>>,
    outlook: Option<Arc<Forecast>>,
    models: VecDeque<Model>,
    scores: VecDeque<ScoreView>,
}

impl View {
    pub(crate) fn new(kept_models: usize, kept_scores: usize) -> Self {
        Self { workloads: BTreeMap::new(), kept_models, kept_scores }
    }

    /// Takes a forecast in, unless a newer one is known.
    pub(crate) fn forecast(&mut self, forecast: Arc<Forecast>) {
        let workload = self.workloads.entry(forecast.workload.clone()).or_default();
        if workload.latest.as_ref().is_none_or(|latest| latest.origin_us < forecast.origin_us) {
            workload.latest = Some(forecast);
        }
    }

    /// Takes an outlook in, unless a newer one is known.
    pub(crate) fn outlook(&mut self, outlook: Arc<Forecast>) {
        let workload = self.workloads.entry(outlook.workload.clone()).or_default();
        if workload.outlook.as_ref().is_none_or(|latest| latest.origin_us < outlook.origin_us) {
            workload.outlook = Some(outlook);
        }
    }

    /// Takes a model record in: a version of a model, or its scores.
    pub(crate) fn model(&mut self, model: Model) {
        let share = |of: usize| of.div_ceil(self.workloads.len().max(1));
        let (models, scores) = (self.kept_models.min(share(ALL_MODELS)), self.kept_scores.min(share(ALL_SCORES)));
        let workload = self.workloads.entry(model.workload.clone()).or_default();
        if model.reason == SCORED {
            bounded_push(&mut workload.scores, lineage::score_view(model), scores);
        } else {
            bounded_push(&mut workload.models, model, models);
        }
    }

    pub(crate) fn workloads(&self) -> Vec<String> {
        self.workloads.iter().filter(|(_, view)| view.latest.is_some()).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn latest(&self, workload: &str) -> Option<Arc<Forecast>> {
        self.workloads.get(workload)?.latest.clone()
    }

    pub(crate) fn latest_outlook(&self, workload: &str) -> Option<Arc<Forecast>> {
        self.workloads.get(workload)?.outlook.clone()
    }

    /// The models of a workload, or of every one when none is named, oldest first.
    pub(crate) fn models(&self, workload: &str) -> Vec<Model> {
        self.named(workload).flat_map(|view| view.models.iter().cloned()).collect()
    }

    pub(crate) fn scores(&self) -> Vec<ScoreView> {
        self.named("").flat_map(|view| view.scores.iter().cloned()).collect()
    }

    fn named<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a WorkloadView> {
        self.workloads.iter().filter(move |(name, _)| workload.is_empty() || *name == workload).map(|(_, view)| view)
    }
}

/// Appends what is not there yet; the oldest makes room.
fn bounded_push<T: PartialEq>(records: &mut VecDeque<T>, record: T, limit: usize) {
    if records.contains(&record) {
        return;
    }
    while records.len() >= limit.max(1) {
        records.pop_front();
    }
    records.push_back(record);
}
