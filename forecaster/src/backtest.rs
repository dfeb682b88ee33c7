//! A history as if the forecaster had been there: the engine is told of each step in order, as the service tells it,
//! and every forecast is scored on the steps that came behind it.

use headroom_models::score::{Sums, seasonal_scale};
use headroom_models::{Abstention, Engine, EngineConfig, Family, ForecastSet, KnownEvent, ModelError};
use headroom_proto::WorkloadId;
use headroom_proto::v1::Signal;
use serde::{Deserialize, Serialize};

use crate::signals::{Added, SignalBook};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// A regular series.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Start of the first step, a multiple of the step, in microseconds since the Unix epoch.
    pub start_us: i64,
    /// Length of a step, in microseconds.
    pub step_us: i64,
    /// One value a step; NaN is a gap.
    pub values: &'a [f64],
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
}

/// Name of the engine as it is served, champion and challengers together.
pub const SERVED: &str = "headroom";

/// Runs the engine over a series and scores what it serves, and beside it each family of models at full hours. `observer`
/// sees every forecast or abstention of the served engine, in order, with its origin. Origins from `score_from_us` on
/// count.
///
/// # Errors
/// When a setting is out of range or the series does not fit the step.
pub fn rolling(
    series: Series<'_>,
    events: &[KnownEvent],
    config: &EngineConfig,
    score_from_us: i64,
    observer: impl FnMut(i64, Result<&ForecastSet, &Abstention>),
) -> Result<Vec<ModelScores>, ModelError> {
    let engine = Engine::try_new(EngineConfig { step_us: series.step_us, ..config.clone() })?;
    if series.start_us.rem_euclid(series.step_us) != 0 {
        let problem = format!("{} is not a multiple of the step", series.start_us);
        return Err(ModelError::Setting { setting: "start_us", problem });
    }
    Ok(Judge::new(series, events, &engine, score_from_us).run(engine, observer))
}

/// The series, and what a forecast of it is scored by.
struct Judge<'a> {
    series: Series<'a>,
    events: &'a [KnownEvent],
    /// For each step: was it within an event that was announced when it came?
    event_steps: Vec<bool>,
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
        let history = series.values.get(..history).unwrap_or(series.values);
        let scale = seasonal_scale(history, usize::try_from(DAY_US / series.step_us).unwrap_or(1));
        Self { series, events, event_steps, score_from_us, scale }
    }

    /// As the service does: a step without a value is a window that never came, and makes no forecast.
    fn run(
        &self,
        mut engine: Engine,
        mut observer: impl FnMut(i64, Result<&ForecastSet, &Abstention>),
    ) -> Vec<ModelScores> {
        self.events.iter().for_each(|event| engine.signal(event.clone()));
        let mut tally = Tally { served: Totals::default(), families: Family::ALL.map(|_| Totals::default()) };
        for (step, value) in self.series.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            let start_us = self.series.start_us + self.series.step_us * i64::try_from(step).unwrap_or(i64::MAX);
            engine.observe(start_us, *value);
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
        let came = self.series.values.iter().zip(&self.event_steps).skip(first);
        for (quantiles, (actual, is_event)) in values.chunks_exact(levels.len().max(1)).zip(came) {
            if actual.is_nan() {
                continue;
            }
            totals.all.add(levels, quantiles, *actual);
            if *is_event {
                totals.during_events.add(levels, quantiles, *actual);
            }
        }
    }
}

/// What one model is scored by.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    all: Sums,
    during_events: Sums,
}

/// Of what is served, and of each family, in the order of [`Family::ALL`].
struct Tally {
    served: Totals,
    families: [Totals; Family::ALL.len()],
}

fn scores(model: &str, totals: &Totals, scale: f64) -> ModelScores {
    let Totals { all, during_events } = totals;
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
    }
}

#[cfg(test)]
mod tests;
