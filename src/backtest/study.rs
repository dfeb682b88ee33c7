//! The study itself: forecasts with rolling origins, then every policy on the same load.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use headroom_actuator_decide::PlannerConfig;
use headroom_actuator_decide::simulation::PolicyResult;
use headroom_forecaster::ForecasterConfig;
use headroom_forecaster::backtest::{self, ModelScores};
use headroom_models::{Abstention, EngineConfig, ForecastSet, KnownEvent, ModelError, Shared, Verdict as ModelVerdict};
use headroom_proto::v1::{Signal, Verdict};
use headroom_proto::{EventTime, Span};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::BacktestArgs;
use super::kept::{self, Kept};
use super::lead;
use super::output::Findings;
use super::report::Course;
use super::results::{self, Done, Results};
use super::series::Series;
use crate::cli::UserError;
use crate::parallel::in_parallel;
use crate::scoreboard::{self, CHOSEN, Forecasts};

/// Quantiles beside those of the live engine, so that the deciles of the loss need no interpolation.
const DECILES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Units that the median load needs when no unit capacity is given.
const USUAL_UNITS: f64 = 6.0;
/// No limit on units: a backtest asks what would have been needed.
const UNLIMITED: u32 = 1_000_000;

/// A study that is done.
pub(super) struct Study {
    /// Over all workloads.
    pub(super) findings: Findings,
    /// In the order of their names.
    pub(super) workloads: Vec<Done>,
}

/// Scores and policies of every workload, as many at once as there are threads.
pub(super) fn study(args: &BacktestArgs, series: &[Series], signals: &[Signal]) -> anyhow::Result<Study> {
    let engine = engine_config(args)?;
    let origins = args.origins()?;
    let forecasts_file = args.forecasts.as_deref().map(kept::create).transpose()?;
    let results = args.results.as_deref().map(Results::open).transpose()?;
    let plans = series.iter().map(|one| Plan::new(args, one, &engine)).collect::<anyhow::Result<Vec<Plan<'_>>>>()?;
    let bar = progress_bar(series.iter().map(|one| one.loads.len() as u64).sum());
    let found_before = AtomicUsize::new(0);
    let together = Together::new(&plans, signals, &engine);
    let work = |plan: &Plan<'_>| {
        let events = backtest::events_for(signals, &plan.series.workload);
        let workload = plan.series.workload.as_str();
        let fingerprint = plan.fingerprint(args, &engine, &events, origins.as_ref()) ^ together.fingerprint;
        if let Some(done) = results.as_ref().and_then(|results| results.read(workload, fingerprint)) {
            found_before.fetch_add(1, Ordering::Relaxed);
            bar.inc(plan.series.loads.len() as u64);
            return Ok(done);
        }
        let done = plan.run(args, (&engine, together.trees()?), &events, origins.as_ref(), &bar)?;
        if let Some(results) = &results {
            results.write(workload, fingerprint, &done)?;
        }
        Ok(done)
    };
    let usual = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workloads = in_parallel(&plans, args.threads.unwrap_or(usual), work)?;
    bar.finish_and_clear();
    if let Some(file) = forecasts_file {
        kept::write(file, workloads.iter().map(|done| done.forecasts.as_slice()))?;
    }
    let mut findings = findings(&workloads);
    let found_before = found_before.into_inner();
    if found_before > 0 {
        findings.premises.insert(0, format!("{found_before} of {} workloads were done before", workloads.len()));
    }
    Ok(Study { findings, workloads })
}

/// What workloads have in common: the trees that they share, as in a forecaster.
struct Together<'a> {
    workloads: Vec<(&'a Series, Vec<KnownEvent>)>,
    engine: &'a EngineConfig,
    /// Of all workloads; 0 of one that is alone.
    fingerprint: u64,
    trees: OnceLock<Result<Shared, ModelError>>,
}

impl<'a> Together<'a> {
    fn new(plans: &[Plan<'a>], signals: &[Signal], engine: &'a EngineConfig) -> Self {
        let of = |plan: &Plan<'a>| (plan.series, backtest::events_for(signals, &plan.series.workload));
        let workloads: Vec<_> = plans.iter().map(of).collect();
        let fingerprint = if workloads.len() > 1 { results::hash(&format!("{workloads:?}")) } else { 0 };
        Self { workloads, engine, fingerprint, trees: OnceLock::new() }
    }

    /// Grown when they are first asked for: a study that was done before needs none.
    fn trees(&self) -> anyhow::Result<Option<&Shared>> {
        if self.workloads.len() < 2 {
            return Ok(None);
        }
        let grow = || {
            let all: Vec<_> = self
                .workloads
                .iter()
                .map(|(series, events)| (&series.workload, series.regular(), events.as_slice()))
                .collect();
            backtest::shared_trees(&all, self.engine)
        };
        match self.trees.get_or_init(grow) {
            Ok(trees) => Ok(Some(trees)),
            Err(error) => anyhow::bail!("{error}"),
        }
    }
}

/// The findings over all workloads: policies add up, of models with several workloads also the mean.
fn findings(workloads: &[Done]) -> Findings {
    let results: Vec<Vec<PolicyResult>> = workloads.iter().map(|done| done.policies.clone()).collect();
    let mut policies = scoreboard::rows(&results);
    for (place, row) in policies.iter_mut().enumerate() {
        let all: Vec<f64> = workloads.iter().filter_map(|done| done.leads.get(place)).flatten().copied().collect();
        row.lead_minutes = lead::median(&all);
    }
    let is_one = workloads.len() == 1;
    let mut models = Vec::new();
    for done in workloads {
        let prefix = if is_one { String::new() } else { format!("{}: ", done.course.workload) };
        let named = |one: &ModelScores| ModelScores { model: format!("{prefix}{}", one.model), ..one.clone() };
        models.extend(done.scores.iter().map(named));
    }
    if !is_one {
        let all: Vec<&[ModelScores]> = workloads.iter().map(|done| done.scores.as_slice()).collect();
        models.splice(0..0, backtest::means(&all));
    }
    Findings { policies, models, premises: workloads.iter().map(|done| done.premise.clone()).collect() }
}

/// The live engine, with this step and horizon.
fn engine_config(args: &BacktestArgs) -> anyhow::Result<EngineConfig> {
    let live = ForecasterConfig::default();
    let mut levels: Vec<f64> = live.levels.iter().copied().chain(DECILES).collect();
    levels.sort_by(f64::total_cmp);
    levels.dedup_by(|one, other| (*one - *other).abs() < 1e-9);
    // A step of a day is longer than models of five minutes are kept for.
    let refit_after_us = live.engine.refit_after_us.max(args.step.micros());
    let engine = EngineConfig { refit_after_us, with_benchmark: true, ..live.engine.clone() };
    let config = ForecasterConfig { window_size: args.step, horizon: args.horizon, levels, engine, ..live };
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

    /// What tells this study of this workload from any other.
    fn fingerprint(
        &self,
        args: &BacktestArgs,
        engine: &EngineConfig,
        events: &[KnownEvent],
        origins: Option<&BTreeSet<i64>>,
    ) -> u64 {
        let all = self.series.loads.iter().chain(self.series.told.iter().flatten());
        let loads: Vec<u64> = all.map(|load| load.to_bits()).collect();
        let asked = (args.forecasts.is_some(), origins, self.scored_from, self.series.start);
        results::hash(&format!("{engine:?} {:?} {asked:?} {events:?} {loads:?}", self.planner))
    }

    /// Forecasts and policies of this workload.
    fn run(
        &self,
        args: &BacktestArgs,
        engine: (&EngineConfig, Option<&Shared>),
        events: &[KnownEvent],
        origins: Option<&BTreeSet<i64>>,
        bar: &ProgressBar,
    ) -> anyhow::Result<Done> {
        let mut kept = Kept::default();
        let forecast = self.forecast(engine, events, bar, |set| {
            if args.forecasts.is_some() && origins.is_none_or(|origins| origins.contains(&set.origin_us)) {
                kept.add(self.series.workload.as_str(), set);
            }
        })?;
        let policies = scoreboard::compete(self.course(), &forecast.forecasts, &self.planner);
        let loads = self.series.loads.get(self.scored_from..).unwrap_or_default();
        let needed = |load: f64| {
            let bearable = self.planner.violation_utilisation * self.planner.unit_capacity;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "units, saturating")]
            let units = (load / bearable).ceil() as u32;
            units
        };
        let step_min = self.series.step.as_hours_f64() * 60.0;
        Ok(Done {
            course: self.report(&forecast, &policies),
            leads: policies.iter().map(|policy| lead::leads(loads, &policy.units, needed, step_min)).collect(),
            scores: forecast.scores,
            policies,
            premise: self.premise(args, events.len()),
            forecasts: if args.forecasts.is_some() { kept.finish()? } else { Vec::new() },
        })
    }

    fn forecast(
        &self,
        (engine, trees): (&EngineConfig, Option<&Shared>),
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
        let observer = |origin_us: i64, made: Result<&ForecastSet, &Abstention>| {
            bar.inc(1);
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
        let trees = trees.map(|trees| (trees, &series.workload));
        let scores = backtest::rolling(series.regular(), events, engine, score_from_us, trees, observer)?;
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
