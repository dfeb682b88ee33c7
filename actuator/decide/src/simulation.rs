//! Scaling policies on a recorded load: what each would have cost, and how long its users would have suffered.
//!
//! A decision at step t knows the loads before t. Units that are commanded at t are ready at t + lead time and are paid
//! from the command on; a release takes effect at once. Dwell time, hysteresis, sizes and calendar bind every policy alike.
//! Units serve what is declared. A step is in violation when its load is above `violation_utilisation` of what the ready units bear.

use headroom_proto::EventTime;
use headroom_proto::time::Span;
use headroom_proto::v1::Verdict;
use serde::{Deserialize, Serialize};

use crate::planner::{ForecastView, Observation, PlannerConfig, Wanted, kept_by_calendar, wanted_by_forecast};

/// What a policy knows at a step.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    /// The step's number.
    pub step: usize,
    /// The step's start, in microseconds.
    pub now_us: i64,
    /// The step's length.
    pub length: Span,
    /// Load of the step before; the last that was known when that is a gap.
    pub observed: f64,
    /// How the workload is sized.
    pub planner: &'a PlannerConfig,
}

/// Says how many units are wanted.
pub trait ScalingPolicy {
    /// Its name in tables.
    fn name(&self) -> String;
    /// Units wanted, given what is known at the step.
    fn wanted(&mut self, context: &StepContext<'_>) -> Wanted;
}

/// The same units always: those that the largest load needs, known in hindsight.
#[derive(Clone, Copy, Debug)]
pub struct StaticPeak {
    /// The units.
    pub units: u32,
}

/// Target tracking on the load of the step before.
#[derive(Clone, Copy, Debug)]
pub struct Reactive {
    /// 1 for none; 1.5 and 2 for extra headroom.
    pub factor: f64,
}

/// The most of the last days' mean at this hour and the next, and of the reactive policy: what a predictive scaling
/// without event signals does.
#[derive(Clone, Copy, Debug)]
pub struct SeasonalMax<'a> {
    /// Loads by step; NaN is a gap.
    pub loads: &'a [f64],
    /// Steps of a day.
    pub day_steps: usize,
}

/// Knows the loads to come.
#[derive(Clone, Copy, Debug)]
pub struct Oracle<'a> {
    /// Loads by step; NaN is a gap.
    pub loads: &'a [f64],
    /// Steps of the lead time.
    pub lead_steps: usize,
}

/// Headroom at one quantile, over recorded forecasts.
pub struct Headroom<'a> {
    /// The quantile.
    pub quantile: f64,
    /// The newest forecast at a time, in microseconds.
    pub forecast_at: &'a dyn Fn(i64) -> Option<ForecastView<'a>>,
}

/// What a policy came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyResult {
    /// The policy's name.
    pub policy: String,
    /// Minutes in violation.
    pub violation_minutes: f64,
    /// Unit-hours paid.
    pub unit_hours: f64,
    /// Commands given.
    pub changes: u32,
    /// Ready units at each step.
    pub units: Vec<u32>,
}

/// Runs a policy over `loads`, one a step from `start_us` on; the first step is only seen.
#[must_use]
pub fn simulate(
    policy: &mut dyn ScalingPolicy,
    loads: &[f64],
    start_us: i64,
    step_us: i64,
    planner: &PlannerConfig,
) -> PolicyResult {
    let step = Span::from_micros(step_us);
    let hours = step.as_hours_f64();
    let lead_steps = usize::try_from(planner.lead_time.steps(step)).unwrap_or(0);
    let dwell_steps = usize::try_from(planner.dwell.steps(step)).unwrap_or(0);
    let mut observed = loads.iter().copied().find(|load| load.is_finite()).unwrap_or(0.0);
    let mut ready = planner.units_for(observed);
    let mut coming: Vec<(usize, u32)> = Vec::new();
    let mut changed_at: Option<usize> = None;
    let mut result =
        PolicyResult { policy: policy.name(), violation_minutes: 0.0, unit_hours: 0.0, changes: 0, units: Vec::new() };
    for (at, now_us) in (0..loads.len()).zip((start_us..).step_by(usize::try_from(step_us).unwrap_or(1).max(1))) {
        ready += coming.iter().filter(|(due, _)| *due <= at).map(|(_, units)| units).sum::<u32>();
        coming.retain(|(due, _)| *due > at);
        let on_the_way: u32 = coming.iter().map(|(_, units)| units).sum();
        let commanded = ready + on_the_way;
        let context = StepContext { step: at, now_us, length: step, observed, planner };
        let wanted = policy.wanted(&context);
        let since = changed_at.map_or(dwell_steps, |changed_at| at - changed_at);
        let since = step.times(i64::try_from(since).unwrap_or(i64::MAX));
        let (units, _) = planner.settle(wanted, commanded, since);
        let now = EventTime::from_micros(now_us);
        let seen = Observation { now, load: Some(observed), units_commanded: commanded, last_change: now - since };
        let kept = kept_by_calendar(planner, &seen, Some(planner.units_for(observed)), units);
        let units = kept.map_or(units, |(kept, _, _)| kept);
        if units > commanded {
            coming.push((at + lead_steps, units - commanded));
        } else if units < commanded {
            ready = units.saturating_sub(on_the_way).max(1);
        }
        if units != commanded {
            changed_at = Some(at);
            result.changes += 1;
        }
        if lead_steps == 0 {
            ready += coming.drain(..).map(|(_, units)| units).sum::<u32>();
        }
        let paid = ready + coming.iter().map(|(_, units)| units).sum::<u32>();
        result.unit_hours += f64::from(paid) * hours;
        result.units.push(ready);
        if let Some(load) = loads.get(at).copied().filter(|load| load.is_finite()) {
            if planner.is_violated(load, ready) {
                result.violation_minutes += hours * 60.0;
            }
            observed = load;
        }
    }
    result
}

impl ScalingPolicy for StaticPeak {
    fn name(&self) -> String {
        "static peak (hindsight)".to_owned()
    }

    fn wanted(&mut self, _: &StepContext<'_>) -> Wanted {
        Wanted::exactly(self.units)
    }
}

impl ScalingPolicy for Reactive {
    fn name(&self) -> String {
        if self.factor > 1.0 { format!("reactive x{}", self.factor) } else { "reactive".to_owned() }
    }

    fn wanted(&mut self, context: &StepContext<'_>) -> Wanted {
        context.planner.wanted(context.observed * self.factor)
    }
}

impl ScalingPolicy for SeasonalMax<'_> {
    fn name(&self) -> String {
        "max(seasonal forecast, reactive)".to_owned()
    }

    fn wanted(&mut self, context: &StepContext<'_>) -> Wanted {
        let hour = (self.day_steps / 24).max(1);
        let from = context.step / hour * hour;
        let mean_of = |step: usize| {
            let days = (1..=14).filter_map(|day| self.loads.get(step.checked_sub(day * self.day_steps)?).copied());
            let known: Vec<f64> = days.filter(|load| load.is_finite()).collect();
            #[expect(clippy::cast_precision_loss, reason = "fourteen at the most")]
            let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
            mean
        };
        let seasonal = (from..from + 2 * hour).map(mean_of).fold(0.0, f64::max);
        context.planner.wanted(seasonal.max(context.observed))
    }
}

impl ScalingPolicy for Oracle<'_> {
    fn name(&self) -> String {
        "oracle".to_owned()
    }

    fn wanted(&mut self, context: &StepContext<'_>) -> Wanted {
        // Through a time without changes that has begun by the next step.
        let (now, length) = (EventTime::from_micros(context.now_us), context.length);
        let closed = context.planner.calendar.closed(now).filter(|closed| closed.from <= now + length);
        let ahead = closed.map_or(0, |closed| usize::try_from((closed.until - now).steps(length)).unwrap_or(0));
        let window = self.loads.iter().skip(context.step).take(ahead + self.lead_steps + 1);
        let most = window.copied().filter(|load| load.is_finite()).fold(0.0, f64::max);
        context.planner.wanted(most)
    }
}

impl ScalingPolicy for Headroom<'_> {
    fn name(&self) -> String {
        format!("headroom p{:.4}", self.quantile * 100.0).trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    fn wanted(&mut self, context: &StepContext<'_>) -> Wanted {
        let forecast = (self.forecast_at)(context.now_us);
        let trusted = forecast.filter(|f| matches!(f.verdict, Verdict::Fresh | Verdict::Suspect));
        let (planner, load) = (context.planner, context.observed);
        trusted.map_or_else(
            || planner.wanted(load),
            |forecast| wanted_by_forecast(planner, self.quantile, &forecast, load),
        )
    }
}

impl std::fmt::Debug for Headroom<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headroom").field("quantile", &self.quantile).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Calendar, Quiet};

    const STEP_US: i64 = 300_000_000;

    /// One unit serves 10 at 100 %, 7 at the target, and is violated above 8.5; ready after one step.
    fn planner() -> PlannerConfig {
        PlannerConfig {
            unit_capacity: 10.0,
            lead_time: Span::from_mins(5),
            dwell: Span::from_mins(10),
            hysteresis: 0.0,
            ..PlannerConfig::default()
        }
    }

    #[test]
    fn reactive_is_late_by_the_lead_time() {
        let loads = [7.0, 7.0, 14.0, 14.0, 14.0, 7.0, 7.0, 7.0];
        let result = simulate(&mut Reactive { factor: 1.0 }, &loads, 0, STEP_US, &planner());
        // The rise of step 2 is seen at step 3, ready at step 4; the fall of step 5 is seen at step 6, dwell is over.
        assert_eq!(result.units, [1, 1, 1, 1, 2, 2, 1, 1]);
        assert!((result.violation_minutes - 10.0).abs() < 1e-9);
        // Paid from the command on: 1 + 1 + 1 + 2 + 2 + 2 + 1 + 1 unit-steps.
        assert!((result.unit_hours - 11.0 / 12.0).abs() < 1e-9);
        assert_eq!(result.changes, 2);
    }

    #[test]
    fn the_oracle_is_never_late_and_the_peak_never_moves() {
        let loads = [7.0, 7.0, 14.0, 14.0, f64::NAN, 7.0, 7.0];
        let oracle = simulate(&mut Oracle { loads: &loads, lead_steps: 1 }, &loads, 0, STEP_US, &planner());
        assert!(oracle.violation_minutes.abs() < 1e-9, "{oracle:?}");
        let peak = simulate(&mut StaticPeak { units: 2 }, &loads, 0, STEP_US, &planner());
        assert_eq!(peak.units, [1, 2, 2, 2, 2, 2, 2]);
        assert!(peak.unit_hours > oracle.unit_hours);
    }

    /// From step 3 on nothing changes for three steps; what comes within them must be there before.
    #[test]
    fn the_calendar_binds_every_policy_and_who_knows_the_load_prepares_for_it() {
        let loads = [7.0, 7.0, 7.0, 7.0, 14.0, 14.0, 7.0, 7.0, 7.0];
        let when = |steps: std::ops::Range<i64>| {
            let at = |step: i64| EventTime::from_micros(step * STEP_US);
            format!("{}/{}", at(steps.start), at(steps.end)).parse().expect("a time")
        };
        let freeze = Quiet { name: "freeze".to_owned(), when: when(3..6), guard_raises: false };
        let blackouts = Calendar { blackouts: vec![freeze.clone()], ..Calendar::default() };
        let run = |policy: &mut dyn ScalingPolicy, calendar: &Calendar| {
            let planner = PlannerConfig { calendar: calendar.clone(), ..planner() };
            simulate(policy, &loads, 0, STEP_US, &planner)
        };
        let reactive = run(&mut Reactive { factor: 1.0 }, &blackouts);
        assert_eq!(reactive.units, [1, 1, 1, 1, 1, 1, 1, 2, 1], "the load is gone when it may be answered");
        assert!((reactive.violation_minutes - 10.0).abs() < 1e-9);
        let oracle = run(&mut Oracle { loads: &loads, lead_steps: 1 }, &blackouts);
        assert!(oracle.violation_minutes.abs() < 1e-9, "{oracle:?}");
        assert_eq!(oracle.units[3..6], [2; 3], "nothing changes");
        let guarded = Calendar { blackouts: vec![Quiet { guard_raises: true, ..freeze }], ..Calendar::default() };
        assert_eq!(run(&mut Reactive { factor: 1.0 }, &guarded).units[6], 2, "seen at step 5, ready at step 6");
        let nights = Calendar { release: vec![when(8..9)], ..Calendar::default() };
        assert_eq!(run(&mut Oracle { loads: &loads, lead_steps: 1 }, &nights).units[4..], [2, 2, 2, 2, 1]);
        #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
        let values: Vec<f32> = loads.iter().map(|load| *load as f32).collect();
        let lookup = |now_us: i64| {
            let values = values.get(usize::try_from(now_us / STEP_US).ok()?..)?;
            Some(ForecastView { origin_us: now_us, step_us: STEP_US, levels: &[0.5], values, verdict: Verdict::Fresh })
        };
        let headroom = run(&mut Headroom { quantile: 0.5, forecast_at: &lookup }, &blackouts);
        assert!(headroom.violation_minutes.abs() < 1e-9, "{headroom:?}");
    }

    #[test]
    fn headroom_raises_before_the_load_and_falls_back_without_forecasts() {
        let loads = [7.0, 7.0, 7.0, 35.0, 35.0, 7.0];
        #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
        let values: Vec<Vec<f32>> =
            (0..6).map(|o| (0..4).map(|k| loads.get(o + k).copied().unwrap_or(7.0) as f32).collect()).collect();
        let lookup = |now_us: i64| {
            let at = usize::try_from(now_us / STEP_US).ok()?;
            let values = values.get(at)?;
            Some(ForecastView { origin_us: now_us, step_us: STEP_US, levels: &[0.5], values, verdict: Verdict::Fresh })
        };
        let planner = PlannerConfig { look_ahead: Span::from_mins(5), ..planner() };
        let result = simulate(&mut Headroom { quantile: 0.5, forecast_at: &lookup }, &loads, 0, STEP_US, &planner);
        assert!(result.violation_minutes.abs() < 1e-9, "{result:?}");
        let blind = simulate(&mut Headroom { quantile: 0.5, forecast_at: &|_| None }, &loads, 0, STEP_US, &planner);
        let reactive = simulate(&mut Reactive { factor: 1.0 }, &loads, 0, STEP_US, &planner);
        assert_eq!(blind.units, reactive.units);
        assert_eq!(Headroom { quantile: 0.975, forecast_at: &lookup }.name(), "headroom p97.5");
    }
}
