//! What the forecaster counts.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::view::ScoreView;

type Labels = Vec<(&'static str, String)>;
type Ratio = Family<Labels, Gauge<f64, AtomicU64>>;

/// What became of the input: of each row of a window record, and of each record that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// A window that an engine has observed.
    Observed,
    /// A row of another size or without the target.
    OtherWindow,
    /// A record that was read before.
    Repeat,
    /// A window that its engine has no place for: older than what it has seen, a later revision, off the steps.
    Stale,
    /// A window of a workload beyond the limit.
    BeyondLimit,
    /// A signal or outcome that was taken in.
    Learned,
    /// An outcome of units that were saturated: more was asked for than they served.
    Capped,
    /// An outcome of a workload without an engine.
    Unknown,
    /// A window whose workload has no legal name.
    BadName,
    /// A record that cannot be read.
    Dead,
    /// A signal that made room for another.
    Forgotten,
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::OtherWindow => "other_window",
            Self::Repeat => "repeat",
            Self::Stale => "stale",
            Self::BeyondLimit => "beyond_limit",
            Self::Learned => "learned",
            Self::Capped => "capped_outcome",
            Self::Unknown => "unknown_workload",
            Self::BadName => "bad_name",
            Self::Dead => "dead_letter",
            Self::Forgotten => "forgotten_signal",
        }
    }

    /// Was it set aside, rather than used or none of ours?
    pub(crate) fn is_set_aside(self) -> bool {
        !matches!(self, Self::Observed | Self::OtherWindow | Self::Learned)
    }
}

/// How often each fate was met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<Fate, u64>);

impl Tally {
    pub(crate) fn add(&mut self, fate: Fate, count: u64) {
        if count > 0 {
            *self.0.entry(fate).or_default() += count;
        }
    }

    #[cfg(test)]
    pub(crate) fn of(&self, fate: Fate) -> u64 {
        self.0.get(&fate).copied().unwrap_or(0)
    }

    pub(crate) fn set_aside(&self) -> u64 {
        self.0.iter().filter(|(fate, _)| fate.is_set_aside()).map(|(_, count)| count).sum()
    }
}

/// The forecaster's counters and gauges.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    inputs: Family<Labels, Counter>,
    pub(crate) forecasts: Counter,
    pub(crate) abstentions: Counter,
    pub(crate) models: Counter,
    pub(crate) workloads: Gauge,
    pub(crate) in_flight: Gauge,
    pub(crate) snapshot_bytes: Gauge,
    wql: Ratio,
    wape: Ratio,
    coverage_80: Ratio,
    coverage_95: Ratio,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let name = |noun: &str| format!("headroom_forecast_{noun}");
        registry.register(
            name("inputs"),
            "Window rows, signals and outcomes, by what became of them",
            metrics.inputs.clone(),
        );
        registry.register(name("forecasts"), "Forecasts published, abstentions included", metrics.forecasts.clone());
        registry.register(name("abstentions"), "Forecasts without values", metrics.abstentions.clone());
        registry.register(name("models"), "Model records published", metrics.models.clone());
        registry.register(name("workloads"), "Workloads with an engine", metrics.workloads.clone());
        registry.register(name("in_flight"), "Forecasts sent and not yet acknowledged", metrics.in_flight.clone());
        registry.register(name("snapshot_bytes"), "Size of the newest snapshot", metrics.snapshot_bytes.clone());
        registry.register(name("wql"), "Weighted quantile loss of the last scored hour", metrics.wql.clone());
        registry.register(
            name("wape"),
            "Weighted absolute percentage error of the last scored hour",
            metrics.wape.clone(),
        );
        registry.register(
            name("coverage_80"),
            "Share within the 80 % interval, last scored hour",
            metrics.coverage_80.clone(),
        );
        registry.register(
            name("coverage_95"),
            "Share within the 95 % interval, last scored hour",
            metrics.coverage_95.clone(),
        );
        metrics
    }

    pub(crate) fn count(&self, tally: &Tally) {
        for (fate, count) in &tally.0 {
            self.inputs.get_or_create(&vec![("fate", fate.word().to_owned())]).inc_by(*count);
        }
    }

    /// Shows the scores of an hour, by workload (bounded by the limit on them) and family.
    pub(crate) fn score(&self, view: &ScoreView) {
        let labels = vec![("workload", view.workload.clone()), ("family", view.family.clone())];
        let gauges = [
            ("wql", &self.wql),
            ("wape", &self.wape),
            ("coverage_80", &self.coverage_80),
            ("coverage_95", &self.coverage_95),
        ];
        for (name, gauge) in gauges {
            if let Some(score) = view.scores.get(name) {
                gauge.get_or_create(&labels).set(*score);
            }
        }
    }
}
