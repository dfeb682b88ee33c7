//! The study itself: forecasts with rolling origins, then every policy on the same load.

use headroom_actuator_decide::PlannerConfig;
use headroom_actuator_decide::simulation::PolicyResult;
use headroom_forecaster::ForecasterConfig;
use headroom_forecaster::backtest::{self, ModelScores};
use headroom_models::{Abstention, EngineConfig, ForecastSet, KnownEvent, Verdict as ModelVerdict};
use headroom_proto::v1::{Signal, Verdict};
use headroom_proto::{EventTime, Span};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::BacktestArgs;
use super::kept::{self, Kept};
use super::output::Findings;
use super::report::Course;
use super::series::Series;
use crate::cli::UserError;
use crate::scoreboard::{self, CHOSEN, Forecasts};

/// Quantiles beside those of the live engine, so that the deciles of the loss need no interpolation.
const DECILES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Units that the median load needs when no unit capacity is given.
const USUAL_UNITS: f64 = 6.0;
/// No limit on units: a backtest asks what would have been needed.
const UNLIMITED: u32 = 1_000_000;

/// Scores and policies of every workload, and its course for the report.
pub(super) fn study(
    args: &BacktestArgs,
    series: &[Series],
    signals: &[Signal],
) -> anyhow::Result<(Findings, Vec<Course>)> {
    let engine = engine_config(args)?;
    let origins = args.origins()?;
    let forecasts_file = args.forecasts.as_deref().map(kept::create).transpose()?;
    let mut kept = Kept::default();
    let mut plans = Vec::new();
    for one in series {
        plans.push(Plan::new(args, one, &engine)?);
    }
    let bar = progress_bar(series.iter().map(|one| one.loads.len() as u64).sum());
    let (mut results, mut models, mut courses, mut premises) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for plan in &plans {
        let events = backtest::events_for(signals, &plan.series.workload);
        let forecast = plan.forecast(&engine, &events, &bar, |set| {
            if args.forecasts.is_some() && origins.as_ref().is_none_or(|origins| origins.contains(&set.origin_us)) {
                kept.add(plan.series.workload.as_str(), set);
            }
        })?;
        let competed = scoreboard::compete(plan.course(), &forecast.forecasts, &plan.planner);
        courses.push(plan.report(&forecast, &competed));
        models.extend(plan.named(forecast.scores, series.len() > 1));
        premises.push(plan.premise(args, events.len()));
        results.push(competed);
    }
    bar.finish_and_clear();
    if let Some(file) = forecasts_file {
        kept.write(file)?;
    }
    Ok((Findings { policies: scoreboard::rows(&results), models, premises }, courses))
}

/// The live engine, with this step and horizon.
fn engine_config(args: &BacktestArgs) -> anyhow::Result<EngineConfig> {
    let live = ForecasterConfig::default();
    let mut levels: Vec<f64> = live.levels.iter().copied().chain(DECILES).collect();
    levels.sort_by(f64::total_cmp);
    levels.dedup_by(|one, other| (*one - *other).abs() < 1e-9);
    let config = ForecasterConfig { window_size: args.step, horizon: args.horizon, levels, ..live };
    config
        .engine()
        .map_err(|error| UserError::new(format!("--step {} and --horizon {}: {error}", args.step, args.horizon)))
}

fn progress_bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) =
        ProgressStyle::with_template("forecasting {bar:40} {percent:>3} %  {elapsed} so far, {eta} to go")
    {
        bar.set_style(style);
    }
    bar
}

/// What is scored of one workload, and how it is sized.
struct Plan<'a> {
    series: &'a Series,
    scored_from: usize,
    planner: PlannerConfig,
    is_capacity_given: bool,
}

/// The forecasts of one workload.
struct Forecast {
    scores: Vec<ModelScores>,
    forecasts: Forecasts,
    band: [Vec<f64>; 3],
}

impl<'a> Plan<'a> {
    fn new(args: &BacktestArgs, series: &'a Series, engine: &EngineConfig) -> anyhow::Result<Self> {
        let scored_from = scored_from(args, series, Span::from_micros(engine.min_history_us))?;
        let unit_capacity = match args.unit_capacity {
            Some(capacity) => capacity,
            None => usual_capacity(series, scored_from, args.target_utilisation)?,
        };
        let live = PlannerConfig::default();
        let planner = PlannerConfig {
            unit_capacity,
            target_utilisation: args.target_utilisation,
            violation_utilisation: args.violation_at,
            lead_time: up_to_steps(args.lead_time, args.step),
            look_ahead: live.look_ahead.max(args.step),
            max_units: UNLIMITED,
            max_step_up: UNLIMITED,
            max_step_down: UNLIMITED,
            ..live
        };
        let problems = planner.problems();
        if !problems.is_empty() {
            return Err(UserError::new(problems.join("; ")));
        }
        Ok(Self { series, scored_from, planner, is_capacity_given: args.unit_capacity.is_some() })
    }

    fn forecast(
        &self,
        engine: &EngineConfig,
        events: &[KnownEvent],
        bar: &ProgressBar,
        mut made_one: impl FnMut(&ForecastSet),
    ) -> anyhow::Result<Forecast> {
        let series = self.series;
        let scored = series.loads.len() - self.scored_from;
        let mut forecasts = Forecasts::new(series.step.micros(), engine.levels.clone());
        let kept = Forecasts::steps_needed(&self.planner, series.step) * engine.levels.len();
        let lead_steps = usize::try_from(self.planner.lead_time.steps(series.step)).unwrap_or(0);
        let mut band = [vec![f64::NAN; scored], vec![f64::NAN; scored], vec![f64::NAN; scored]];
        let score_from_us = series.time(self.scored_from).micros();
        let regular =
            backtest::Series { start_us: series.start.micros(), step_us: series.step.micros(), values: &series.loads };
        let observer = |origin_us: i64, made: Result<&ForecastSet, &Abstention>| {
            bar.set_position(bar.position() + 1);
            if origin_us < score_from_us {
                return;
            }
            let Ok(set) = made else { return forecasts.add(origin_us, Vec::new(), Verdict::Abstain) };
            made_one(set);
            forecasts.add(origin_us, set.values.iter().copied().take(kept).collect(), verdict(set.verdict));
            let aimed_at = series.index_from(EventTime::from_micros(origin_us)) + lead_steps;
            if let Some(row) = set.values.chunks_exact(set.levels.len().max(1)).nth(lead_steps) {
                for (values, level) in band.iter_mut().zip([0.1, 0.5, 0.9]) {
                    if let Some(value) = aimed_at.checked_sub(self.scored_from).and_then(|at| values.get_mut(at)) {
                        *value = headroom_models::score::at_level(&set.levels, row, level);
                    }
                }
            }
        };
        let scores = backtest::rolling(regular, events, engine, score_from_us, observer)?;
        Ok(Forecast { scores, forecasts, band })
    }

    fn course(&self) -> scoreboard::Course<'a> {
        scoreboard::Course {
            start_us: self.series.start.micros(),
            step_us: self.series.step.micros(),
            loads: &self.series.loads,
            scored_from: self.scored_from,
        }
    }

    /// With several workloads, a model's name says whose it is.
    fn named(&self, scores: Vec<ModelScores>, is_one_of_many: bool) -> Vec<ModelScores> {
        let prefix = if is_one_of_many { format!("{}: ", self.series.workload) } else { String::new() };
        scores.into_iter().map(|one| ModelScores { model: format!("{prefix}{}", one.model), ..one }).collect()
    }

    fn report(&self, forecast: &Forecast, competed: &[PolicyResult]) -> Course {
        let chosen = competed.iter().find(|result| result.policy.ends_with(CHOSEN));
        let bearable = self.planner.unit_capacity * self.planner.violation_utilisation;
        Course {
            workload: self.series.workload.to_string(),
            times: (self.scored_from..self.series.loads.len()).map(|index| self.series.time(index)).collect(),
            loads: self.series.loads.get(self.scored_from..).unwrap_or_default().to_vec(),
            band: forecast.band.clone(),
            limits: chosen
                .map(|result| result.units.iter().map(|units| f64::from(*units) * bearable).collect())
                .unwrap_or_default(),
            policy: chosen.map(|result| result.policy.clone()).unwrap_or_default(),
        }
    }

    fn premise(&self, args: &BacktestArgs, signals: usize) -> String {
        let (series, planner) = (self.series, &self.planner);
        let chosen = if self.is_capacity_given { "as given" } else { "so that the median load needs six units" };
        format!(
            "{}: scored from {} to {} in steps of {} after {} steps of history, horizon {}, {signals} signals; unit \
             capacity {:.4} ({chosen}), lead time {}, violation above {:.0} %, sized for {:.0} %",
            series.workload,
            series.time(self.scored_from),
            series.end(),
            series.step,
            self.scored_from,
            args.horizon,
            planner.unit_capacity,
            planner.lead_time,
            planner.violation_utilisation * 100.0,
            planner.target_utilisation * 100.0,
        )
    }
}

/// The first step that counts; before it there must be enough to learn from.
fn scored_from(args: &BacktestArgs, series: &Series, min_history: Span) -> anyhow::Result<usize> {
    let earliest = series.start + min_history;
    let (workload, start, end) = (&series.workload, series.start, series.end());
    if earliest >= end {
        let found = Span::from_secs((end - start).micros() / 1_000_000);
        return Err(UserError::new(format!(
            "{workload}: {found} of data, from {start} to {end}: the models need more than {min_history} of history"
        )));
    }
    let third = Span::from_micros((end - start).micros() / 3);
    let from = args.score_from.unwrap_or((end - third).max(earliest));
    if from < earliest || from >= end {
        return Err(UserError::new(format!(
            "--score-from {from}: {workload} runs from {start} to {end}, and the models need {min_history} of history: choose {earliest} or later"
        )));
    }
    Ok(series.index_from(from))
}

/// The median of the scored loads, shared by six units.
fn usual_capacity(series: &Series, scored_from: usize, target_utilisation: f64) -> anyhow::Result<f64> {
    let mut loads: Vec<f64> = series.loads.iter().skip(scored_from).copied().filter(|load| load.is_finite()).collect();
    loads.sort_by(f64::total_cmp);
    let median = loads.get(loads.len() / 2).copied().unwrap_or(0.0);
    if median > 0.0 {
        return Ok(median / USUAL_UNITS / target_utilisation);
    }
    Err(UserError::new(format!(
        "{}: half of the scored load is zero or missing: give --unit-capacity",
        series.workload
    )))
}

/// A length, rounded up to whole steps: capacity changes at their borders.
fn up_to_steps(length: Span, step: Span) -> Span {
    step.times(length.steps(step) + i64::from(length.micros() % step.micros() != 0))
}

fn verdict(verdict: ModelVerdict) -> Verdict {
    match verdict {
        ModelVerdict::Fresh => Verdict::Fresh,
        ModelVerdict::Suspect => Verdict::Suspect,
        ModelVerdict::Stale => Verdict::Stale,
    }
}
