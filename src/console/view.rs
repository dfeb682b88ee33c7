//! What the page shows, kept in memory within bounds. Pure: no clock, no I/O.
//!
//! Every change gets the next number of one sequence, and everything that is shown remembers the number of its last
//! change. So what a page has missed is what changed after the number that it has seen.

mod actions;
mod capacity;
mod signals;
mod state;
mod workload;

use std::collections::BTreeMap;

use headroom_proto::Span;
use headroom_proto::v1::{ActionRecord, Forecast, Outcome, Plan, Signal};

pub(super) use state::{Request, State};

use signals::Signals;
use workload::Workload;

/// The load of one window.
#[derive(Clone, Debug)]
pub(super) struct LoadPoint {
    /// Whose load.
    pub(super) workload: String,
    /// Start of the window, in microseconds since the Unix epoch.
    pub(super) start_us: i64,
    /// Later revisions replace earlier ones.
    pub(super) revision: i32,
    /// In the target's unit; none is a gap.
    pub(super) load: Option<f64>,
}

/// Something to show.
#[derive(Clone, Debug)]
pub(super) enum Update {
    /// A window has closed or was corrected.
    Load(LoadPoint),
    /// A forecast was made.
    Forecast(Forecast),
    /// An event was announced, moved or cancelled.
    Signal(Signal),
    /// Capacity was planned.
    Plan(Plan),
    /// An action has moved.
    Action(ActionRecord),
    /// An action's effect was measured.
    Outcome(Outcome),
}

/// An update that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ViewError {
    /// Values, levels and steps do not fit each other.
    #[error("forecast of {workload}: {values} values do not fill rows of {levels} levels")]
    Forecast {
        /// Whose forecast.
        workload: String,
        /// How many values it has.
        values: usize,
        /// How many levels it has.
        levels: usize,
    },
    /// One workload more than the view may hold.
    #[error("workload {0} is not shown: console.workloads_limit is reached")]
    Workloads(String),
}

/// How much the view may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Windows of a workload.
    pub(super) points: usize,
    /// Actions of a workload.
    pub(super) actions: usize,
    /// Event signals.
    pub(super) signals: usize,
    /// Workloads.
    pub(super) workloads: usize,
}

/// What the page shows of every workload.
#[derive(Debug)]
pub(super) struct View {
    limits: Limits,
    forecast_lead: Span,
    window: Span,
    sequence: u64,
    workloads: BTreeMap<String, Workload>,
    signals: Signals,
}

impl View {
    /// An empty view; of past forecasts it shows those made `forecast_lead` ahead.
    pub(super) fn new(limits: Limits, forecast_lead: Span, window: Span) -> Self {
        Self {
            limits,
            forecast_lead,
            window,
            sequence: 0,
            workloads: BTreeMap::new(),
            signals: Signals::new(limits.signals),
        }
    }

    /// The number of the last change.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Takes in one update; a repeat changes nothing that is shown.
    ///
    /// # Errors
    /// When the update contradicts itself, or is of one workload too many.
    pub(super) fn apply(&mut self, update: Update) -> Result<(), ViewError> {
        self.sequence += 1;
        let number = self.sequence;
        let (limits, lead, window) = (self.limits, self.forecast_lead, self.window);
        match update {
            Update::Load(point) => {
                let workload = self.workload(&point.workload)?;
                workload.load(&point, window, number);
                workload.forget(limits);
            }
            Update::Forecast(forecast) => {
                let workload = self.workload(&forecast.workload)?;
                workload.forecast(forecast, lead, number)?;
                workload.forget(limits);
            }
            Update::Signal(signal) => self.signals.learn(signal, number),
            Update::Plan(plan) => self.workload(&plan.workload)?.plan(plan, number),
            Update::Action(action) => {
                let workload = self.workload(&action.workload)?;
                workload.action(action, number);
                workload.forget(limits);
            }
            Update::Outcome(outcome) => {
                let workload = self.workload(&outcome.workload)?;
                workload.outcome(outcome, number);
                workload.forget(limits);
            }
        }
        Ok(())
    }

    fn workload(&mut self, name: &str) -> Result<&mut Workload, ViewError> {
        if !self.workloads.contains_key(name) && self.workloads.len() >= self.limits.workloads {
            return Err(ViewError::Workloads(name.to_owned()));
        }
        Ok(self.workloads.entry(name.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests;
