//! From a forecast to units: the quantile that the costs ask for, ready when it is needed, within bounds, never below
//! what the load of now needs.

use headroom_proto::EventTime;
use headroom_proto::time::{Span, span_text};
use headroom_proto::v1::Verdict;
use serde::{Deserialize, Serialize};

/// How a workload is sized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlannerConfig {
    /// Load that one unit serves at 100 %, in units of the forecast's target.
    pub unit_capacity: f64,
    /// Utilisation that is sized for, 0..1.
    pub target_utilisation: f64,
    /// Utilisation above which the workload's users suffer, 0..1.
    pub violation_utilisation: f64,
    /// From command to ready units.
    #[serde(with = "span_text")]
    pub lead_time: Span,
    /// How much of the forecast behind the lead time a decision covers.
    #[serde(with = "span_text")]
    pub look_ahead: Span,
    /// Fewest units.
    pub min_units: u32,
    /// Most units.
    pub max_units: u32,
    /// Most units added at once.
    pub max_step_up: u32,
    /// Most units released at once.
    pub max_step_down: u32,
    /// No release within this time after a change.
    #[serde(with = "span_text")]
    pub dwell: Span,
    /// No release of less than this share of the units, 0..1.
    pub hysteresis: f64,
    /// What a unit costs for an hour.
    pub cost_per_unit_hour: f64,
    /// What a minute in violation costs.
    pub cost_per_violation_minute: f64,
    /// The quantile to size for, instead of the one that follows from the costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self {
            unit_capacity: 100.0,
            target_utilisation: 0.7,
            violation_utilisation: 0.85,
            lead_time: Span::from_mins(15),
            look_ahead: Span::from_mins(35),
            min_units: 1,
            max_units: 1_000,
            max_step_up: 1_000,
            max_step_down: 1_000,
            dwell: Span::from_mins(30),
            hysteresis: 0.0,
            cost_per_unit_hour: 1.0,
            cost_per_violation_minute: 1.0 / 15.0,
            quantile: None,
        }
    }
}

impl PlannerConfig {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let checks = [
            (self.unit_capacity.is_finite() && self.unit_capacity > 0.0, "`unit_capacity` must be positive"),
            (
                share(self.target_utilisation) && share(self.violation_utilisation),
                "`target_utilisation` and `violation_utilisation` must be above 0 and at most 1",
            ),
            (
                self.target_utilisation <= self.violation_utilisation,
                "`target_utilisation` must not be above `violation_utilisation`",
            ),
            (self.lead_time.micros() >= 0, "`lead_time` must not be negative"),
            (self.min_units >= 1 && self.min_units <= self.max_units, "`min_units` must be 1 to `max_units`"),
            (self.max_step_up >= 1 && self.max_step_down >= 1, "`max_step_up` and `max_step_down` must be 1 or more"),
            ((0.0..1.0).contains(&self.hysteresis), "`hysteresis` must be 0 or more and below 1"),
            (
                self.cost_per_unit_hour > 0.0 && self.cost_per_violation_minute > 0.0,
                "`cost_per_unit_hour` and `cost_per_violation_minute` must be positive",
            ),
            (self.quantile.is_none_or(|q| q > 0.0 && q < 1.0), "`quantile` must be between 0 and 1"),
        ];
        checks.into_iter().filter(|(fits, _)| !fits).map(|(_, problem)| problem.to_owned()).collect()
    }

    /// The quantile to size for. A further unit is worth its cost as long as the chance that it is missed, times the
    /// cost of a step in violation, is above its cost for a step: P(load > capacity) = unit / violation, the critical
    /// ratio of the newsvendor (Arrow, Harris and Marschak, 1951) with the violation as cost of too little.
    #[must_use]
    pub fn sizing_quantile(&self) -> f64 {
        let from_costs = 1.0 - self.cost_per_unit_hour / (60.0 * self.cost_per_violation_minute);
        self.quantile.unwrap_or(from_costs).clamp(0.5, 0.99)
    }

    /// Units that serve a load at the target utilisation, within the bounds.
    #[must_use]
    pub fn units_for(&self, load: f64) -> u32 {
        let units = (load.max(0.0) / (self.unit_capacity * self.target_utilisation)).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bounds of u32")]
        let units = units.clamp(0.0, f64::from(u32::MAX)) as u32;
        units.clamp(self.min_units, self.max_units)
    }

    /// Is a load above what so many ready units bear?
    #[must_use]
    pub fn is_violated(&self, load: f64, ready: u32) -> bool {
        load > self.violation_utilisation * self.unit_capacity * f64::from(ready)
    }

    /// What is commanded, when `desired` is asked: raised at once, released after the dwell time, in limited steps.
    #[must_use]
    pub fn settle(&self, desired: u32, commanded: u32, since_change: Span) -> (u32, Option<&'static str>) {
        if desired > commanded {
            let limit = commanded.saturating_add(self.max_step_up);
            return if desired > limit { (limit, Some("rate limit")) } else { (desired, None) };
        }
        if desired == commanded {
            return (commanded, None);
        }
        if since_change < self.dwell {
            return (commanded, Some("dwell"));
        }
        if f64::from(commanded - desired) < self.hysteresis * f64::from(commanded) {
            return (commanded, Some("hysteresis"));
        }
        let limit = commanded.saturating_sub(self.max_step_down);
        if desired < limit { (limit, Some("rate limit")) } else { (desired, None) }
    }
}

/// A forecast as the planner reads it.
#[derive(Clone, Copy, Debug)]
pub struct ForecastView<'a> {
    /// When it was made, in microseconds.
    pub origin_us: i64,
    /// Length of a step, in microseconds.
    pub step_us: i64,
    /// Levels of the quantiles, ascending.
    pub levels: &'a [f64],
    /// `values[step * levels + level]`.
    pub values: &'a [f32],
    /// How far it can be trusted.
    pub verdict: Verdict,
}

impl ForecastView<'_> {
    /// How many steps it has.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.values.len().checked_div(self.levels.len()).unwrap_or(0)
    }

    /// A quantile of one step, interpolated between the levels it has; the outermost beyond them.
    #[must_use]
    pub fn quantile(&self, step: usize, level: f64) -> Option<f64> {
        let width = self.levels.len();
        let row = self.values.get(step * width..(step + 1) * width)?;
        let value = |at: usize| row.get(at).copied().map(f64::from);
        match self.levels.iter().position(|known| *known >= level) {
            None => value(width.checked_sub(1)?),
            Some(0) => value(0),
            Some(at) => {
                let (low, high) = (self.levels.get(at - 1)?, self.levels.get(at)?);
                let (below, above) = (value(at - 1)?, value(at)?);
                Some(below + (above - below) * (level - low) / (high - low))
            }
        }
    }

    fn is_trusted(&self) -> bool {
        matches!(self.verdict, Verdict::Fresh | Verdict::Suspect) && self.steps() > 0
    }
}

/// What is seen at the moment of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// The moment.
    pub now: EventTime,
    /// Load of the last step; none when it is not known.
    pub load: Option<f64>,
    /// Units commanded so far, ready or on their way.
    pub units_commanded: u32,
    /// When they were last changed.
    pub last_change: EventTime,
}

/// What to do, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Units to command now.
    pub units_now: u32,
    /// Units wanted at each step of the forecast.
    pub units: Vec<u32>,
    /// The quantile that was sized for.
    pub quantile: f64,
    /// What bound the decision: `forecast`, `guard`, `rate limit`, `dwell`, `hysteresis`.
    pub binding: &'static str,
    /// The largest load that the decision covers.
    pub expected_peak: f64,
    /// In plain words.
    pub reason: String,
}

/// Units that a forecast asks for: the most that the quantile needs from the lead time on, over the look-ahead, and when
/// that is.
#[must_use]
pub fn asked_by_forecast(
    config: &PlannerConfig,
    quantile: f64,
    forecast: &ForecastView<'_>,
) -> Option<(u32, f64, EventTime)> {
    let steps = |span: Span| usize::try_from(span.steps(Span::from_micros(forecast.step_us))).unwrap_or(0);
    let first = steps(config.lead_time);
    let window = first..(first + steps(config.look_ahead).max(1)).min(forecast.steps());
    let peak =
        window.filter_map(|step| Some((step, forecast.quantile(step, quantile)?))).max_by(|a, b| a.1.total_cmp(&b.1));
    let (step, load) = peak?;
    let at = EventTime::from_micros(forecast.origin_us)
        + Span::from_micros(forecast.step_us).times(i64::try_from(step).ok()?);
    Some((config.units_for(load), load, at))
}

/// Decides what to command now. A forecast that is missing, stale or abstaining leaves the reactive guard alone.
#[must_use]
pub fn decide(config: &PlannerConfig, seen: &Observation, forecast: Option<&ForecastView<'_>>) -> Decision {
    let quantile = config.sizing_quantile();
    let guard = seen.load.map(|load| (config.units_for(load), load));
    let trusted = forecast.filter(|forecast| forecast.is_trusted());
    let asked = trusted.and_then(|forecast| asked_by_forecast(config, quantile, forecast));
    let percent = quantile * 100.0;
    let (desired, mut binding, expected_peak, why) = match (asked, guard) {
        (Some((units, peak, at)), guard) if guard.is_none_or(|(needed, _)| units >= needed) => (
            units,
            "forecast",
            peak,
            format!("p{percent:.0} of the forecast peaks at {peak:.1} at {at}: {units} units"),
        ),
        (_, Some((units, load))) => {
            let missing = match forecast {
                None => "no forecast has come",
                Some(forecast) if !forecast.is_trusted() => "the forecast is stale or abstains",
                Some(_) => "the forecast asks for less",
            };
            (units, "guard", load, format!("the load of now, {load:.1}, needs {units} units; {missing}"))
        }
        (_, None) => {
            (seen.units_commanded, "guard", 0.0, "neither load nor forecast is known: nothing changes".to_owned())
        }
    };
    let (units_now, held_by) = config.settle(desired, seen.units_commanded, seen.now - seen.last_change);
    let mut reason = why;
    if let Some(held_by) = held_by {
        binding = held_by;
        reason = format!("{reason}; {held_by} keeps it at {units_now}");
    }
    let wanted = |forecast: &ForecastView<'_>| {
        let at = |step| forecast.quantile(step, quantile).map(|load| config.units_for(load));
        (0..forecast.steps()).filter_map(at).collect()
    };
    Decision { units_now, units: trusted.map(wanted).unwrap_or_default(), quantile, binding, expected_peak, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_US: i64 = 300_000_000;

    fn config() -> PlannerConfig {
        PlannerConfig {
            unit_capacity: 10.0,
            target_utilisation: 0.5,
            max_units: 50,
            quantile: Some(0.75),
            ..PlannerConfig::default()
        }
    }

    fn seen(load: f64, units: u32) -> Observation {
        let now = EventTime::from_micros(1_000 * STEP_US);
        Observation { now, load: Some(load), units_commanded: units, last_change: now - Span::from_hours(1) }
    }

    /// Levels .5 and .9; the median is `median(step)`, the .9 quantile 8 more.
    fn values(median: impl Fn(usize) -> f32) -> Vec<f32> {
        (0..12).flat_map(|step| [median(step), median(step) + 8.0]).collect()
    }

    fn view(values: &[f32], verdict: Verdict) -> ForecastView<'_> {
        ForecastView { origin_us: 1_000 * STEP_US, step_us: STEP_US, levels: &[0.5, 0.9], values, verdict }
    }

    #[test]
    fn a_peak_behind_the_lead_time_is_prepared_for_and_one_beyond_the_look_ahead_is_not() {
        for (peak_step, units) in [(2, 4), (3, 11), (9, 11), (10, 4)] {
            let values = values(|step| if step == peak_step { 50.0 } else { 15.0 });
            let decision = decide(&config(), &seen(10.0, 2), Some(&view(&values, Verdict::Fresh)));
            // p75 lies 5 above the median: 55 / (10 * 0.5) = 11 units, and 20 / 5 = 4.
            assert_eq!((decision.units_now, decision.binding), (units, "forecast"), "peak in step {peak_step}");
        }
    }

    #[test]
    fn never_below_the_load_of_now_and_the_guard_alone_when_the_forecast_is_not_trusted() {
        let values = values(|_| 50.0);
        let low = decide(&config(), &seen(80.0, 2), Some(&view(&values, Verdict::Fresh)));
        assert_eq!((low.units_now, low.binding), (16, "guard"));
        for verdict in [Verdict::Stale, Verdict::Abstain, Verdict::Unspecified] {
            let alone = decide(&config(), &seen(10.0, 2), Some(&view(&values, verdict)));
            assert_eq!((alone.units_now, alone.binding), (2, "guard"), "{verdict:?}");
            assert!(alone.reason.contains("stale"), "{}", alone.reason);
        }
        assert!(decide(&config(), &seen(10.0, 2), None).reason.contains("no forecast"));
    }

    #[test]
    fn bounds_rate_limits_dwell_and_hysteresis_bind() {
        let high = values(|_| 1_000.0);
        assert_eq!(decide(&config(), &seen(10.0, 2), Some(&view(&high, Verdict::Fresh))).units_now, 50);
        let limited = PlannerConfig { max_step_up: 3, max_step_down: 2, hysteresis: 0.2, ..config() };
        let up = decide(&limited, &seen(10.0, 2), Some(&view(&high, Verdict::Fresh)));
        assert_eq!((up.units_now, up.binding), (5, "rate limit"));
        let low = values(|_| 5.0);
        let down = decide(&limited, &seen(10.0, 20), Some(&view(&low, Verdict::Fresh)));
        assert_eq!((down.units_now, down.binding), (18, "rate limit"));
        let mut fresh_change = seen(10.0, 20);
        fresh_change.last_change = fresh_change.now - Span::from_mins(29);
        let held = decide(&config(), &fresh_change, Some(&view(&low, Verdict::Fresh)));
        assert_eq!((held.units_now, held.binding), (20, "dwell"));
        let close = decide(&limited, &seen(17.0, 4), Some(&view(&values(|_| 14.0), Verdict::Fresh)));
        assert_eq!(close.units_now, 4, "{}", close.reason);
    }

    #[test]
    fn the_quantile_follows_from_the_costs() {
        let of = |unit: f64, violation: f64| {
            PlannerConfig { cost_per_unit_hour: unit, cost_per_violation_minute: violation, ..PlannerConfig::default() }
                .sizing_quantile()
        };
        assert!((of(1.0, 1.0 / 15.0) - 0.75).abs() < 1e-12);
        assert!((of(1.0, 1.0 / 6.0) - 0.9).abs() < 1e-12);
        assert!((of(1.0, 0.001) - 0.5).abs() < 1e-12, "never below the median");
    }
}
