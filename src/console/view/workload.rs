//! One workload: its load, its forecasts, its capacity and its actions.

use std::collections::BTreeMap;

use headroom_proto::Span;
use headroom_proto::v1::{ActionRecord, ActionState, Forecast, Outcome, Plan};

use super::actions::Actions;
use super::capacity::Command;
use super::{Limits, LoadPoint, ViewError};

/// The quantiles that the page draws: two intervals around the median.
pub(super) const SHOWN_LEVELS: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// One quantile of the load for each of [`SHOWN_LEVELS`].
pub(super) type Band = [f32; SHOWN_LEVELS.len()];

/// What is known of one window.
#[derive(Debug, Default)]
pub(super) struct Point {
    pub(super) load: Option<f32>,
    revision: i32,
    pub(super) band: Option<Band>,
    /// How long before the window its band was forecast.
    band_lead_us: i64,
    pub(super) number: u64,
}

/// What the first plan found.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstUnits {
    pub(super) at_us: i64,
    pub(super) units: u32,
    pub(super) number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Workload {
    /// By the start of the window, in microseconds; those from `now_us` on hold forecasts only.
    pub(super) points: BTreeMap<i64, Point>,
    /// The event time that the load has reached.
    pub(super) now_us: Option<i64>,
    pub(super) ahead: Option<(Forecast, u64)>,
    pub(super) plan: Option<(Plan, u64)>,
    /// The capacity before any action.
    pub(super) first_units: Option<FirstUnits>,
    pub(super) commands: BTreeMap<i64, Command>,
    pub(super) actions: Actions,
}

impl Workload {
    pub(super) fn load(&mut self, seen: &LoadPoint, window: Span, number: u64) {
        let point = self.points.entry(seen.start_us).or_default();
        if seen.revision >= point.revision {
            let load = seen.load.filter(|load| load.is_finite()).map(narrow);
            if point.load != load {
                point.number = number;
            }
            point.load = load;
            point.revision = seen.revision;
        }
        self.reach(seen.start_us.saturating_add(window.micros()), number);
    }

    /// Keeps of each window the forecast made `lead` before it, or the earliest while there is none made so early.
    pub(super) fn forecast(&mut self, forecast: Forecast, lead: Span, number: u64) -> Result<(), ViewError> {
        let (levels, values) = (forecast.levels.len(), forecast.values.len());
        if (values > 0 && levels == 0) || (levels > 0 && values % levels != 0) || forecast.step_us < 0 {
            return Err(ViewError::Forecast { workload: forecast.workload, values, levels });
        }
        self.reach(forecast.origin_us, number);
        let now_us = self.now_us.unwrap_or(forecast.origin_us);
        for (start_us, band) in bands(&forecast) {
            let lead_us = start_us - forecast.origin_us;
            let point = self.points.entry(start_us).or_default();
            let is_better = point.band.is_none()
                || (lead_us >= lead.micros() && lead_us < point.band_lead_us)
                || (lead_us > point.band_lead_us && point.band_lead_us < lead.micros());
            if is_better {
                point.band = Some(band);
                point.band_lead_us = lead_us;
                if start_us < now_us {
                    point.number = number;
                }
            }
        }
        if self.ahead.as_ref().is_none_or(|(newest, _)| newest.origin_us <= forecast.origin_us) {
            self.ahead = Some((forecast, number));
        }
        Ok(())
    }

    pub(super) fn plan(&mut self, plan: Plan, number: u64) {
        if self.first_units.is_none_or(|first| plan.decided_at_us < first.at_us) {
            self.first_units = Some(FirstUnits { at_us: plan.decided_at_us, units: plan.units_before, number });
        }
        if self.plan.as_ref().is_none_or(|(newest, _)| newest.decided_at_us <= plan.decided_at_us) {
            self.plan = Some((plan, number));
        }
    }

    pub(super) fn action(&mut self, record: ActionRecord, number: u64) {
        let commanded = match record.state() {
            ActionState::Applied => Some((record.units_before, record.units_after)),
            ActionState::RolledBack => Some((record.units_after, record.undo_units)),
            ActionState::Unspecified
            | ActionState::Proposed
            | ActionState::Approved
            | ActionState::Rejected
            | ActionState::Expired
            | ActionState::Intended
            | ActionState::Holding
            | ActionState::Verified
            | ActionState::Failed
            | ActionState::Paused
            | ActionState::Superseded => None,
        };
        if let Some((before, after)) = commanded {
            let known =
                self.commands.get(&record.at_us).is_some_and(|known| (known.before, known.after) == (before, after));
            if !known {
                self.commands.insert(record.at_us, Command { before, after, number });
            }
        }
        self.actions.moved(record, number);
    }

    pub(super) fn outcome(&mut self, outcome: Outcome, number: u64) {
        self.actions.measured(outcome, number);
    }

    /// Forgets the oldest beyond the limits; a command stays while its capacity is shown.
    pub(super) fn forget(&mut self, limits: Limits) {
        while self.points.len() > limits.points {
            self.points.pop_first();
        }
        while self.commands.len() > limits.points {
            self.commands.pop_first();
        }
        self.actions.forget(limits.actions);
    }

    /// Windows that time has passed begin to show the forecast that was made for them.
    fn reach(&mut self, time_us: i64, number: u64) {
        let before_us = self.now_us.unwrap_or(i64::MIN);
        if time_us > before_us {
            for point in self.points.range_mut(before_us..time_us).map(|(_, point)| point) {
                point.number = number;
            }
            self.now_us = Some(time_us);
        }
    }
}

/// The shown quantiles of each step of a forecast, with the step's start in microseconds.
pub(super) fn bands(forecast: &Forecast) -> impl Iterator<Item = (i64, Band)> + '_ {
    let width = forecast.levels.len().max(1);
    let starts = (0_i64..).map(|step| forecast.origin_us.saturating_add(forecast.step_us.saturating_mul(step)));
    starts
        .zip(forecast.values.chunks_exact(width))
        .map(|(start_us, row)| (start_us, SHOWN_LEVELS.map(|level| quantile_at(&forecast.levels, row, level))))
}

/// The quantile of a level by linear interpolation between the levels given; beyond their ends the nearest.
fn quantile_at(levels: &[f64], row: &[f32], level: f64) -> f32 {
    let mut below: Option<(f64, f32)> = None;
    for (&at, &value) in levels.iter().zip(row) {
        if at >= level {
            let Some((low, low_value)) = below else { return value };
            if at - low <= f64::EPSILON {
                return value;
            }
            return low_value + (value - low_value) * narrow((level - low) / (at - low));
        }
        below = Some((at, value));
    }
    below.map_or(f32::NAN, |(_, value)| value)
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits are more than a chart shows")]
fn narrow(value: f64) -> f32 {
    value as f32
}
