//! A history as if the forecaster had been there: the engine is told of each step in order, as the service tells it,
//! and every forecast is scored on the steps that came behind it.

mod groups;
mod outlook;
mod spikes;

use headroom_models::score::{Sums, at_level, seasonal_scale};
use headroom_models::{Abstention, Engine, EngineConfig, Family, ForecastSet, KnownEvent, ModelError, Shared};
use headroom_proto::WorkloadId;
use headroom_proto::v1::Signal;
use serde::{Deserialize, Serialize};

use crate::signals::{Added, SignalBook};
pub use groups::{GroupScores, groups};
pub use outlook::{OutlookScores, outlook};
use spikes::{Peak, Spikes};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// A regular series.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Start of the first step, a multiple of the step, in microseconds since the Unix epoch.
    pub start_us: i64,
    /// Length of a step, in microseconds.
    pub step_us: i64,
    /// One value a step, as it was told when the step ended; NaN is a gap.
    pub values: &'a [f64],
    /// What came, which forecasts are scored by: the same, unless corrections were told later.
    pub actuals: &'a [f64],
}

impl<'a> Series<'a> {
    /// A series without corrections.
    #[must_use]
    pub fn uncorrected(start_us: i64, step_us: i64, values: &'a [f64]) -> Self {
        Self { start_us, step_us, values, actuals: values }
    }
}

/// What a workload's engine is told of these signals, in their order.
#[must_use]
pub fn events_for(signals: &[Signal], workload: &WorkloadId) -> Vec<KnownEvent> {
    let mut book = SignalBook::default();
    for signal in signals {
        // A repeat changes nothing, and there is no limit that would drop one.
        let (Added::New | Added::Repeat | Added::InsteadOfOldest) = book.add(signal.clone(), usize::MAX);
    }
    book.events_for(workload)
}

/// How well one model forecast, over all steps of all forecasts from the first scored origin on. None where there was
/// nothing to score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelScores {
    /// `headroom`, which serves the champion of the moment, or the name of a family alone.
    pub model: String,
    /// Twice the mean pinball loss over the quantiles .1 to .9, divided by the sum of the actuals.
    pub wql: Option<f64>,
    /// The same on event steps: those within an event that was announced when they came.
    pub event_wql: Option<f64>,
    /// The sum of the median's absolute errors, divided by the sum of the actuals.
    pub wape: Option<f64>,
    /// The same on event steps.
    pub event_wape: Option<f64>,
    /// The median's mean absolute error, divided by that of the day before on the history that is not scored.
    pub mase: Option<f64>,
    /// Share of the actuals between the quantiles .1 and .9.
    pub coverage_80: Option<f64>,
    /// Share of the actuals between the quantiles .025 and .975.
    pub coverage_95: Option<f64>,
    /// As `coverage_80`, on event steps.
    pub event_coverage_80: Option<f64>,
    /// As `coverage_95`, on event steps.
    pub event_coverage_95: Option<f64>,
    /// How far the highest median within event steps is from the highest actual there, over it: the mean over forecasts
    /// that reach into an event.
    pub peak_error: Option<f64>,
    /// Share of the spikes that the median told. A spike is a step with more than one and a half times the usual load of
    /// its time of day, by the median of the week before.
    pub spike_recall: Option<f64>,
    /// Share of the spikes told that came.
    pub spike_precision: Option<f64>,
}

/// The mean of each score over workloads, model by model; those without a score have no part in it.
#[must_use]
pub fn means(workloads: &[&[ModelScores]]) -> Vec<ModelScores> {
    let Some(first) = workloads.first() else { return Vec::new() };
    let mean_of = |place: usize, score: fn(&ModelScores) -> Option<f64>| {
        let known: Vec<f64> = workloads.iter().filter_map(|models| score(models.get(place)?)).collect();
        #[expect(clippy::cast_precision_loss, reason = "a count of workloads")]
        let count = known.len() as f64;
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / count)
    };
    let of_model = |(place, model): (usize, &ModelScores)| ModelScores {
        model: format!("mean of {}: {}", workloads.len(), model.model),
        wql: mean_of(place, |scores| scores.wql),
        event_wql: mean_of(place, |scores| scores.event_wql),
        wape: mean_of(place, |scores| scores.wape),
        event_wape: mean_of(place, |scores| scores.event_wape),
        mase: mean_of(place, |scores| scores.mase),
        coverage_80: mean_of(place, |scores| scores.coverage_80),
        coverage_95: mean_of(place, |scores| scores.coverage_95),
        event_coverage_80: mean_of(place, |scores| scores.event_coverage_80),
        event_coverage_95: mean_of(place, |scores| scores.event_coverage_95),
        peak_error: mean_of(place, |scores| scores.peak_error),
        spike_recall: mean_of(place, |scores| scores.spike_recall),
        spike_precision: mean_of(place, |scores| scores.spike_precision),
    };
    first.iter().enumerate().map(of_model).collect()
}

/// Name of the engine as it is served, champion and challengers together.
pub const SERVED: &str = "headroom";

/// The trees that the workloads of a forecaster would have shared while it read these series, each with its name and
/// what it would have been told of events: what grew when, from the rows that had come by then.
///
/// # Errors
/// When a setting is out of range.
pub fn shared_trees(
    all: &[(&WorkloadId, Series<'_>, &[KnownEvent])],
    config: &EngineConfig,
) -> Result<Shared, ModelError> {
    let (mut trees, mut engines, mut steps) = (Shared::keeping_all(), Vec::new(), Vec::new());
    for (place, (workload, series, events)) in all.iter().enumerate() {
        let config = EngineConfig { step_us: series.step_us, ..config.clone() };
        let mut engine = Engine::gathering(config, workload.as_str())?;
        events.iter().for_each(|event| engine.signal(event.clone()));
        engines.push(engine);
        let starts = (0..).map(|step: i64| series.start_us + step * series.step_us);
        let known = starts.zip(series.values).filter(|(_, value)| !value.is_nan());
        steps.extend(known.map(|(start_us, value)| (start_us, place, *value)));
    }
    steps.sort_by_key(|(start_us, place, _)| (*start_us, *place));
    for (start_us, place, value) in steps {
        if let Some(engine) = engines.get_mut(place) {
            trees.observe(engine, start_us, value);
        }
    }
    Ok(trees)
}

/// Runs the engine over a series and scores what it serves, and beside it each family of models at full hours. `observer`
/// sees every forecast or abstention of the served engine, in order, with its origin. Origins from `score_from_us` on
/// count. `trees` are those of [`shared_trees`], when there are several workloads, with the name of this one.
///
/// # Errors
/// When a setting is out of range or the series does not fit the step.
pub fn rolling(
    series: Series<'_>,
    events: &[KnownEvent],
    config: &EngineConfig,
    score_from_us: i64,
    trees: Option<(&Shared, &WorkloadId)>,
    observer: impl FnMut(i64, Result<&ForecastSet, &Abstention>),
) -> Result<Vec<ModelScores>, ModelError> {
    let engine = Engine::try_new(EngineConfig { step_us: series.step_us, ..config.clone() })?;
    let engine = if let Some((_, workload)) = trees { engine.borrowing_trees(workload.as_str()) } else { engine };
    if series.start_us.rem_euclid(series.step_us) != 0 {
        let problem = format!("{} is not a multiple of the step", series.start_us);
        return Err(ModelError::Setting { setting: "start_us", problem });
    }
    Ok(Judge::new(series, events, &engine, score_from_us).run(engine, trees.map(|(trees, _)| trees), observer))
}

/// The series, and what a forecast of it is scored by.
struct Judge<'a> {
    series: Series<'a>,
    events: &'a [KnownEvent],
    /// For each step: was it within an event that was announced when it came?
    event_steps: Vec<bool>,
    /// For each step: the load from which on it is a spike; NaN where too little is known.
    spikes_from: Vec<f64>,
    score_from_us: i64,
    scale: f64,
}

impl<'a> Judge<'a> {
    fn new(series: Series<'a>, events: &'a [KnownEvent], engine: &Engine, score_from_us: i64) -> Self {
        let mut informed = engine.clone();
        events.iter().for_each(|event| informed.signal(event.clone()));
        let starts = (0..).take(series.values.len()).map(|step: i64| series.start_us + step * series.step_us);
        let event_steps = starts.map(|start_us| informed.is_event_step(start_us, start_us)).collect();
        let history = usize::try_from((score_from_us - series.start_us).div_euclid(series.step_us)).unwrap_or(0);
        let history = series.actuals.get(..history).unwrap_or(series.actuals);
        let day_steps = usize::try_from(DAY_US / series.step_us).unwrap_or(1);
        let scale = seasonal_scale(history, day_steps);
        let spikes_from = spikes::thresholds(series.actuals, day_steps);
        Self { series, events, event_steps, spikes_from, score_from_us, scale }
    }

    /// As the service does: a step without a value is a window that never came, and makes no forecast.
    fn run(
        &self,
        mut engine: Engine,
        trees: Option<&Shared>,
        mut observer: impl FnMut(i64, Result<&ForecastSet, &Abstention>),
    ) -> Vec<ModelScores> {
        self.events.iter().for_each(|event| engine.signal(event.clone()));
        engine.keep_last_forecasts();
        let mut tally = Tally { served: Totals::default(), families: Family::ALL.map(|_| Totals::default()) };
        for (step, value) in self.series.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            let start_us = self.series.start_us + self.series.step_us * i64::try_from(step).unwrap_or(i64::MAX);
            engine.observe(start_us, *value);
            if let Some(trees) = trees {
                trees.lend(&mut engine);
            }
            let origin_us = start_us + self.series.step_us;
            let forecast = engine.forecast();
            observer(origin_us, forecast.as_ref());
            let Some(set) = forecast.ok().filter(|_| origin_us >= self.score_from_us) else { continue };
            self.score(&set.levels, &set.values, step + 1, &mut tally.served);
            if origin_us.rem_euclid(HOUR_US.max(self.series.step_us)) == 0 {
                for (name, values) in engine.last_forecasts() {
                    let families = Family::ALL.iter().zip(&mut tally.families);
                    for (_, totals) in families.filter(|(family, _)| family.name() == name) {
                        self.score(&set.levels, values, step + 1, totals);
                    }
                }
            }
        }
        let served = [(SERVED, &tally.served)];
        let families = Family::ALL.iter().map(|family| family.name()).zip(&tally.families);
        served.into_iter().chain(families).map(|(model, totals)| scores(model, totals, self.scale)).collect()
    }

    fn score(&self, levels: &[f64], values: &[f32], first: usize, totals: &mut Totals) {
        let came = self.series.actuals.iter().zip(self.event_steps.iter().zip(&self.spikes_from)).skip(first);
        let mut peak = Peak::default();
        for (quantiles, (actual, (is_event, spike_from))) in values.chunks_exact(levels.len().max(1)).zip(came) {
            if actual.is_nan() {
                continue;
            }
            totals.all.add(levels, quantiles, *actual);
            let median = at_level(levels, quantiles, 0.5);
            totals.spikes.add(*spike_from, median, *actual);
            if *is_event {
                totals.during_events.add(levels, quantiles, *actual);
                peak.add(median, *actual);
            }
        }
        totals.spikes.close(peak);
    }
}

/// What one model is scored by.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    all: Sums,
    during_events: Sums,
    spikes: Spikes,
}

/// Of what is served, and of each family, in the order of [`Family::ALL`].
struct Tally {
    served: Totals,
    families: [Totals; Family::ALL.len()],
}

fn scores(model: &str, totals: &Totals, scale: f64) -> ModelScores {
    let Totals { all, during_events, spikes } = totals;
    let finite = |score: f64| score.is_finite().then_some(score);
    ModelScores {
        model: model.to_owned(),
        wql: finite(all.wql()),
        event_wql: finite(during_events.wql()),
        wape: finite(all.wape()),
        event_wape: finite(during_events.wape()),
        mase: finite(all.mase(scale)),
        coverage_80: finite(all.coverage_80()),
        coverage_95: finite(all.coverage_95()),
        event_coverage_80: finite(during_events.coverage_80()),
        event_coverage_95: finite(during_events.coverage_95()),
        peak_error: finite(spikes.peak_error()),
        spike_recall: finite(spikes.recall()),
        spike_precision: finite(spikes.precision()),
    }
}

#[cfg(test)]
mod tests;
