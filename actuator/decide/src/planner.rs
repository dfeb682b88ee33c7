//! From a forecast to units: the quantile that the costs ask for, ready when it is needed, within bounds, never below
//! what the load of now needs.

use headroom_proto::EventTime;
use headroom_proto::time::{Span, span_text};
use headroom_proto::v1::Verdict;
use serde::{Deserialize, Serialize};

use crate::calendar::{Calendar, Closed};
use crate::capacity::{Curve, LearnConfig};
use crate::lead_time::LeadTime;
use crate::sizes::Sizes;

mod settle;
mod sizing;

pub use settle::Wanted;
use sizing::Sizing;

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
    /// No release before a load that is higher by this share would fit into fewer units, 0..1: forecasts of one and the
    /// same load differ from one origin to the next by about so much.
    pub hysteresis: f64,
    /// What a unit costs for an hour.
    pub cost_per_unit_hour: f64,
    /// What a minute in violation costs.
    pub cost_per_violation_minute: f64,
    /// The quantile to size for, instead of the one that follows from the costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// Numbers of units that exist.
    pub sizes: Sizes,
    /// When capacity may be changed by itself.
    pub calendar: Calendar,
    /// What is learned of the units and of their lead time.
    pub learn: LearnConfig,
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
            hysteresis: 0.1,
            cost_per_unit_hour: 1.0,
            cost_per_violation_minute: 1.0 / 15.0,
            quantile: None,
            sizes: Sizes::default(),
            calendar: Calendar::default(),
            learn: LearnConfig::default(),
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
        let own = checks.into_iter().filter(|(fits, _)| !fits).map(|(_, problem)| problem.to_owned());
        let sizes = self.sizes.problems(self.min_units, self.max_units);
        own.chain(sizes).chain(self.calendar.problems()).chain(self.learn.problems()).collect()
    }

    /// The quantile to size for. A further unit is worth its cost as long as the chance that it is missed, times the
    /// cost of a step in violation, is above its cost for a step: P(load > capacity) = unit / violation, the critical
    /// ratio of the newsvendor (Arrow, Harris and Marschak, 1951) with the violation as cost of too little.
    #[must_use]
    pub fn sizing_quantile(&self) -> f64 {
        let from_costs = 1.0 - self.cost_per_unit_hour / (60.0 * self.cost_per_violation_minute);
        self.quantile.unwrap_or(from_costs).clamp(0.5, 0.99)
    }

    /// Units of the declared capacity that serve a load at the target utilisation: a size within the bounds.
    #[must_use]
    pub fn units_for(&self, load: f64) -> u32 {
        let units = (load.max(0.0) / (self.unit_capacity * self.target_utilisation)).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the bounds of u32")]
        let units = units.clamp(0.0, f64::from(u32::MAX)) as u32;
        self.sizes.round_up(units, self.min_units, self.max_units)
    }

    /// Is a load above what so many ready units bear?
    #[must_use]
    pub fn is_violated(&self, load: f64, ready: u32) -> bool {
        load > self.violation_utilisation * self.unit_capacity * f64::from(ready)
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

    /// How far it can be trusted where a planner looks: its verdict in a word, `incomplete` when a step that is looked at
    /// has no values.
    #[must_use]
    pub fn trust(&self, config: &PlannerConfig, learned: &Learned<'_>) -> &'static str {
        match self.verdict {
            Verdict::Fresh | Verdict::Suspect if !Sizing::new(config, learned).is_covered(self) => INCOMPLETE,
            Verdict::Fresh => "fresh",
            Verdict::Suspect => "suspect",
            Verdict::Stale => "stale",
            Verdict::Abstain => "abstain",
            Verdict::Unspecified => "none",
        }
    }
}

/// What a forecast is called that lacks values where a planner looks.
const INCOMPLETE: &str = "incomplete";

/// May a forecast that is called so be planned with?
fn is_trusted(trust: &str) -> bool {
    matches!(trust, "fresh" | "suspect")
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

/// What was learned of a workload's units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Learned<'a> {
    /// How much they serve; the declared capacity counts when there is none.
    pub curve: Option<&'a Curve>,
    /// Why there is no curve, where one is wanted.
    pub why_no_curve: Option<&'a str>,
    /// How long they take; the declared lead time counts when there is none.
    pub lead_time: Option<LeadTime>,
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
    /// What bound the decision: `forecast`, `guard`, `rate limit`, `dwell`, `hysteresis`, `blackout`, `maintenance`,
    /// `release time`, `budget`.
    pub binding: &'static str,
    /// The largest load that the decision covers.
    pub expected_peak: f64,
    /// Load that each of the units commanded serves at 100 %, as it was counted on.
    pub unit_capacity: f64,
    /// The lead time that was planned with.
    pub lead_time: LeadTime,
    /// It is a raise, and the load of now alone needs all of it.
    pub needed_now: bool,
    /// Why nothing of it may be done; the decision is on the record all the same.
    pub refused: Option<String>,
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
    let sizing = Sizing::new(config, &Learned::default());
    let (load, at) = sizing.peak(quantile, forecast, None)?;
    Some((sizing.units_for(load), load, at))
}

/// What is wanted at a moment by a forecast and the load of now, with the declared capacity.
#[must_use]
pub fn wanted_by_forecast(config: &PlannerConfig, quantile: f64, forecast: &ForecastView<'_>, load: f64) -> Wanted {
    let sizing = Sizing::new(config, &Learned::default());
    let closed = config.calendar.closed(EventTime::from_micros(forecast.origin_us));
    let peak = sizing.peak(quantile, forecast, closed.as_ref()).map_or(load, |(peak, _)| peak.max(load));
    let later = sizing.peak_until_next_change(quantile, forecast).map_or(peak, |later| later.max(peak));
    sizing.wanted(sizing.units_for(peak), later)
}

/// Decides what to command now. A forecast that is missing, stale, incomplete or abstaining leaves the reactive guard alone.
#[must_use]
pub fn decide(config: &PlannerConfig, seen: &Observation, forecast: Option<&ForecastView<'_>>) -> Decision {
    decide_with(config, &Learned::default(), seen, forecast)
}

/// Decides with what was learned of the units.
#[must_use]
pub fn decide_with(
    config: &PlannerConfig,
    learned: &Learned<'_>,
    seen: &Observation,
    forecast: Option<&ForecastView<'_>>,
) -> Decision {
    let sizing = Sizing::new(config, learned);
    let quantile = config.sizing_quantile();
    let trusted = forecast.filter(|forecast| is_trusted(forecast.trust(config, learned)));
    let guard = seen.load.map(|load| (sizing.units_for(load), load));
    let closed = config.calendar.closed(seen.now);
    let trust = forecast.map_or("missing", |forecast| forecast.trust(config, learned));
    let (desired, asked_by, expected_peak, why) = desired(&sizing, seen, (trust, trusted), guard, closed.as_ref());
    let wanted = if desired < seen.units_commanded {
        let later = trusted.and_then(|forecast| sizing.peak_until_next_change(quantile, forecast));
        sizing.wanted(desired, later.into_iter().chain(seen.load).fold(expected_peak, f64::max))
    } else {
        Wanted::exactly(desired)
    };
    let (mut units_now, held_by) = config.settle(wanted, seen.units_commanded, seen.now - seen.last_change);
    let mut binding = held_by.unwrap_or(asked_by);
    let mut reason = why;
    if let Some(held_by) = held_by {
        reason = format!("{reason}; {held_by} keeps it at {units_now}");
    } else if units_now > desired {
        reason = format!("{reason}; {units_now} until it could be changed again");
    }
    if let Some((units, kept_by, told)) = kept_by_calendar(config, seen, guard.map(|(units, _)| units), units_now) {
        (units_now, binding) = (units, kept_by);
        reason = format!("{reason}; {told}");
    }
    if let Some(told) = sizing.told(units_now) {
        reason = format!("{reason}; {told}");
    }
    let at_each_step = |forecast: &ForecastView<'_>| {
        let at = |step| forecast.quantile(step, quantile).map(|load| sizing.units_for(load));
        (0..forecast.steps()).filter_map(at).collect()
    };
    let units = trusted.map(at_each_step).unwrap_or_default();
    let (unit_capacity, lead_time) = (sizing.each(units_now), sizing.lead_time);
    let needed_now = units_now > seen.units_commanded && guard.is_some_and(|(needed, _)| units_now <= needed);
    let refused = None;
    Decision {
        units_now,
        units,
        quantile,
        binding,
        expected_peak,
        unit_capacity,
        lead_time,
        needed_now,
        refused,
        reason,
    }
}

/// What forecast and guard ask for, which of them it is, the load that it covers, and why.
fn desired(
    sizing: &Sizing<'_>,
    seen: &Observation,
    (trust, trusted): (&str, Option<&ForecastView<'_>>),
    guard: Option<(u32, f64)>,
    closed: Option<&Closed>,
) -> (u32, &'static str, f64, String) {
    let quantile = sizing.config.sizing_quantile();
    let peak = trusted.and_then(|forecast| sizing.peak(quantile, forecast, closed));
    let asked = peak.map(|(load, at)| (sizing.units_for(load), load, at));
    match (asked, guard) {
        (Some((units, peak, at)), guard) if guard.is_none_or(|(needed, _)| units >= needed) => {
            let ahead = closed.filter(|closed| sizing.looks_beyond(closed, seen.now) && at >= closed.from);
            let before = ahead.map(|closed| format!(", within {}, which lasts until {}", closed.name, closed.until));
            let (percent, before) = (quantile * 100.0, before.unwrap_or_default());
            let needs = told_units(units);
            let why = format!("p{percent:.0} of the forecast peaks at {peak:.1} at {at}{before}: {needs}");
            (units, "forecast", peak, why)
        }
        (_, Some((units, load))) => {
            let missing = match trust {
                "missing" => "no forecast has come",
                "stale" => "the forecast is stale",
                "abstain" => "the forecast abstains",
                INCOMPLETE => "the forecast is incomplete: it lacks values where they are needed",
                "none" => "the forecast has no verdict",
                _ => "the forecast asks for less",
            };
            let needs = told_units(units);
            (units, "guard", load, format!("the load of now, {load:.1}, needs {needs}; {missing}"))
        }
        (_, None) => {
            (seen.units_commanded, "guard", 0.0, "neither load nor forecast is known: nothing changes".to_owned())
        }
    }
}

fn told_units(units: u32) -> String {
    if units == 1 { "1 unit".to_owned() } else { format!("{units} units") }
}

/// What the calendar makes of a change: other units, what binds, and why.
pub(crate) fn kept_by_calendar(
    config: &PlannerConfig,
    seen: &Observation,
    guard: Option<u32>,
    units_now: u32,
) -> Option<(u32, &'static str, String)> {
    let commanded = seen.units_commanded;
    if units_now == commanded {
        return None;
    }
    if let Some(closed) = config.calendar.closed_at(seen.now) {
        let kind = if closed.name.starts_with("blackout") { "blackout" } else { "maintenance" };
        let needed = guard.filter(|needed| closed.guard_raises && *needed > commanded);
        let (units, but) = match needed {
            Some(needed) => (
                config.settle(Wanted::exactly(needed), commanded, config.dwell).0.min(units_now),
                "lets the load of now alone raise it, to",
            ),
            None => (commanded, "keeps it at"),
        };
        return Some((units, kind, format!("{}, until {}, {but} {units}", closed.name, closed.until)));
    }
    if units_now > commanded {
        return None;
    }
    let next = config.calendar.may_release(seen.now).err()?;
    let next =
        next.map_or_else(|| "no time of release is left".to_owned(), |at| format!("units are released from {at}"));
    Some((commanded, "release time", format!("{next}: it stays at {commanded}")))
}

#[cfg(test)]
mod tests;
