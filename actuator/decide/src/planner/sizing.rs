//! How many units a load needs, and which of the loads to come counts.

use headroom_proto::EventTime;
use headroom_proto::time::Span;

use super::{ForecastView, Learned, PlannerConfig, Wanted};
use crate::calendar::Closed;
use crate::capacity::Curve;
use crate::lead_time::LeadTime;

/// The configuration together with what was learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizing<'a> {
    pub(super) config: &'a PlannerConfig,
    pub(super) lead_time: LeadTime,
    curve: Option<&'a Curve>,
    why_no_curve: Option<&'a str>,
}

impl<'a> Sizing<'a> {
    pub(super) fn new(config: &'a PlannerConfig, learned: &Learned<'a>) -> Self {
        let lead_time = learned.lead_time.unwrap_or(LeadTime { span: config.lead_time, actions: 0 });
        Self { config, lead_time, curve: learned.curve, why_no_curve: learned.why_no_curve }
    }

    /// Units that serve a load at the target utilisation: a size within the bounds.
    pub(super) fn units_for(&self, load: f64) -> u32 {
        let config = self.config;
        let Some(curve) = self.curve else { return config.units_for(load) };
        let units = curve.units_for(load.max(0.0), config.target_utilisation, config.min_units, config.max_units);
        config.sizes.round_up(units, config.min_units, config.max_units)
    }

    /// Load that each of so many units is counted on to serve.
    pub(super) fn each(&self, units: u32) -> f64 {
        let units = units.max(1);
        self.curve.map_or(self.config.unit_capacity, |curve| curve.interval(units).0 / f64::from(units))
    }

    /// The largest load at that quantile that a change of now has to cover, and when it is: from the lead time on, over the
    /// look-ahead, and through a time without changes that begins before that is over.
    pub(super) fn peak(
        &self,
        quantile: f64,
        forecast: &ForecastView<'_>,
        closed: Option<&Closed>,
    ) -> Option<(f64, EventTime)> {
        let steps = |span: Span| usize::try_from(span.steps(Span::from_micros(forecast.step_us))).unwrap_or(0);
        let origin = EventTime::from_micros(forecast.origin_us);
        let first = steps(self.lead_time.span);
        let mut end = first + steps(self.config.look_ahead).max(1);
        if let Some(closed) = closed.filter(|closed| self.looks_beyond(closed, origin)) {
            // What is commanded when changes are made again is ready one lead time later.
            end = end.max(steps((closed.until + self.lead_time.span) - origin) + 1);
        }
        let (load, step) = most(forecast, quantile, first..end)?;
        Some((load, origin + Span::from_micros(forecast.step_us).times(i64::try_from(step).ok()?)))
    }

    /// Does a forecast have values at each step that a change of now has to cover?
    pub(super) fn is_covered(&self, forecast: &ForecastView<'_>) -> bool {
        let steps = |span: Span| usize::try_from(span.steps(Span::from_micros(forecast.step_us))).unwrap_or(0);
        let (first, width) = (steps(self.lead_time.span), forecast.levels.len());
        let end = first + steps(self.config.look_ahead).max(1);
        let values = forecast.values.get(first * width..end * width);
        width > 0 && values.is_some_and(|values| values.iter().all(|value| value.is_finite()))
    }

    /// The largest load at that quantile from now on, until what is commanded when the dwell time is over has come to serve
    /// over its look-ahead: what a release of now has to bear.
    pub(super) fn peak_until_next_change(&self, quantile: f64, forecast: &ForecastView<'_>) -> Option<f64> {
        let steps = |span: Span| usize::try_from(span.steps(Span::from_micros(forecast.step_us))).unwrap_or(0);
        let end = steps(self.lead_time.span) + steps(self.config.dwell) + steps(self.config.look_ahead).max(1);
        most(forecast, quantile, 0..end).map(|(load, _)| load)
    }

    /// What is wanted, when a release has to bear that load.
    pub(super) fn wanted(&self, desired: u32, bears: f64) -> Wanted {
        let margin = self.units_for(bears * (1.0 + self.config.hysteresis));
        Wanted { units: desired, floor: self.units_for(bears), margin }
    }

    /// Does that time without changes begin before what is commanded later would be ready?
    pub(super) fn looks_beyond(&self, closed: &Closed, now: EventTime) -> bool {
        closed.from <= now + self.lead_time.span + self.config.look_ahead
    }

    /// Where capacity and lead time come from, when something was learned or is to be.
    pub(super) fn told(&self, units: u32) -> Option<String> {
        let capacity = match (self.curve, self.why_no_curve) {
            (Some(curve), _) => Some(format!("a unit serves {}", curve.told(units))),
            (None, Some(why)) => Some(format!("a unit serves declared {:.1}: {why}", self.config.unit_capacity)),
            (None, None) => None,
        };
        let lead_time = (self.lead_time.actions > 0).then(|| format!("lead time {}", self.lead_time.told()));
        let parts: Vec<String> = capacity.into_iter().chain(lead_time).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// The largest load at that quantile within those steps, and its step.
fn most(forecast: &ForecastView<'_>, quantile: f64, steps: std::ops::Range<usize>) -> Option<(f64, usize)> {
    let within = steps.start..steps.end.min(forecast.steps());
    let loads = within.filter_map(|step| Some((forecast.quantile(step, quantile)?, step)));
    loads.filter(|(load, _)| load.is_finite()).max_by(|a, b| a.0.total_cmp(&b.0))
}
