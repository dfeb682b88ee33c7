//! A change whose answer was lost: it may have happened or not. It is asked for again under its key until the target says,
//! and nothing else is decided for its workload meanwhile.

use std::time::Duration;

use headroom_actuator_decide::protocol::{self, Settling};
use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, ActionState};
use tokio::time::Instant;

use super::Work;
use super::verify::VERIFIER;
use crate::workload::Workload;
use crate::{ActuatorError, Drain, TargetError};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// A change that may have happened, or a release whose units still have work.
#[derive(Clone, Debug)]
pub(crate) struct Unsure {
    pub(crate) action_id: String,
    at: EventTime,
    since: Instant,
    again: Instant,
    wait: Duration,
    /// It has not been asked for yet.
    pub(crate) drains: bool,
}

impl Work {
    /// Lets the work go of the units that a release takes away, as long as that may take. Gives what is told of it; none
    /// while it is to be asked again.
    pub(super) async fn drained(&mut self, action: &ActionRecord, at: EventTime) -> Option<String> {
        let target = self.targets.of(&action.workload);
        let is_release = action.units_after < action.units_before;
        let Some(within) = target.drains_within().filter(|_| is_release) else { return Some(String::new()) };
        let asked = target.drain(&self.request(action, None, at)).await;
        let workload = super::workload_of(&mut self.workloads, &action.workload);
        let known = workload.unsure.take().filter(|unsure| unsure.action_id == action.action_id);
        let now = Instant::now();
        let since = known.map_or(now, |unsure| unsure.since);
        let took = Duration::from_secs(since.elapsed().as_secs());
        let left = match asked {
            Ok(Drain::Done) => return Some(format!("drained in {took:?}; ")),
            Ok(Drain::Left(left)) => left,
            Err(error) => error.to_string(),
        };
        if since.elapsed() >= within {
            tracing::warn!(action = action.action_id, left, "the time to drain is over");
            return Some(format!("not drained within {within:?}: {left}; "));
        }
        let again = (now + FIRST_WAIT).min(since + within).max(now);
        let action_id = action.action_id.clone();
        workload.unsure = Some(Unsure { action_id, at, since, again, wait: FIRST_WAIT, drains: true });
        None
    }

    /// Does a rollback wait until the work of the units that it takes away is let go? As long as a release would, but for
    /// one that mends harm.
    pub(super) async fn drains_for_undoing(&mut self, action: &ActionRecord, at: EventTime) -> bool {
        let target = self.targets.of(&action.workload);
        let is_release = action.undo_units < action.units_after && action.actor != VERIFIER;
        let Some(within) = target.drains_within().filter(|_| is_release) else { return false };
        let now = Instant::now();
        let workload = super::workload_of(&mut self.workloads, &action.workload);
        let known = workload.undo_drains.take().filter(|(id, _)| *id == action.action_id);
        let since = known.map_or(now, |(_, since)| since);
        if since.elapsed() >= within {
            tracing::warn!(action = action.action_id, "the time to drain before the rollback is over");
            return false;
        }
        let asked = target.drain(&self.request(action, Some(action.undo_units), at)).await;
        if matches!(asked, Ok(Drain::Done)) {
            return false;
        }
        let workload = super::workload_of(&mut self.workloads, &action.workload);
        workload.undo_drains = Some((action.action_id.clone(), since));
        true
    }

    /// What becomes of a change that the target did not confirm.
    pub(super) async fn not_taken(
        &mut self,
        action: &ActionRecord,
        error: &TargetError,
        at: EventTime,
    ) -> Result<(), ActuatorError> {
        let within = Duration::from_micros(self.config.answer_within.micros().unsigned_abs());
        let workload = super::workload_of(&mut self.workloads, &action.workload);
        let known = workload.unsure.take().filter(|unsure| unsure.action_id == action.action_id);
        let has_time = known.as_ref().is_none_or(|unsure| unsure.since.elapsed() < within);
        match protocol::replied(error.reply(known.is_some()), has_time) {
            Settling::Record(to) => self.advance(action, to, at, "actuator", error.to_string()),
            Settling::AskAgain => {
                let now = Instant::now();
                let since = known.as_ref().map_or(now, |unsure| unsure.since);
                let wait = known.map_or(FIRST_WAIT, |unsure| (unsure.wait * 2).min(LONGEST_WAIT));
                let again = (now + wait).min(since + within).max(now);
                workload.unsure =
                    Some(Unsure { action_id: action.action_id.clone(), at, since, again, wait, drains: false });
                tracing::warn!(action = action.action_id, "not known whether it has happened: it is asked for again");
                Ok(())
            }
            Settling::GiveUp => self.give_up(action, error, at).await,
        }
    }

    /// Nobody can tell. Automation pauses first: a crash in between leaves a pause too many.
    async fn give_up(
        &mut self,
        action: &ActionRecord,
        error: &TargetError,
        at: EventTime,
    ) -> Result<(), ActuatorError> {
        let (name, within) = (&action.workload, self.config.answer_within);
        let (units, id) = (action.units_after, &action.action_id);
        let reason = format!(
            "not known whether {id} has happened: asked again for {within} without an answer that tells ({error}); look at \
             the target: {units} units mean that it has; `headroom resume {name}` goes on from what is there, `headroom \
             rollback {id}` returns to {} units",
            action.undo_units
        );
        // It counts at once; what kept it from the record is logged there.
        let _logged = self.set_paused(name, true, "headroom", &reason, "unknown").await;
        self.advance(action, ActionState::Failed, at, "actuator", reason)
    }

    /// Asks again for what is not known, where that is due, and for rollbacks that let work go first.
    pub(super) async fn settle(&mut self) -> Result<(), ActuatorError> {
        let now = Instant::now();
        let drains = |workload: &&Workload| workload.undo_drains.is_some();
        let draining: Vec<String> = self.workloads.values().filter(drains).map(|w| w.name.clone()).collect();
        for name in draining {
            self.finish_rollback(&name).await;
        }
        let due = |unsure: &Unsure| unsure.again <= now;
        let unsure: Vec<Unsure> =
            self.workloads.values().filter_map(|workload| workload.unsure.clone()).filter(due).collect();
        for Unsure { action_id, at, .. } in unsure {
            let action = self.workloads.values().find_map(|workload| workload.action(&action_id)).cloned();
            if let Some(action) = action {
                self.drive(&action, at).await?;
            }
        }
        Ok(())
    }

    /// Why an intent that automation may not carry out any more has failed, with what the target says.
    pub(super) async fn told_of_stop(&mut self, action: &ActionRecord, at: EventTime) -> String {
        let stopped = "automation was stopped; if it had begun, it may have had an effect all the same";
        match self.observe(&action.workload, at).await {
            Some(state) => format!("{stopped}: the target says {} units", state.commanded),
            None => format!("{stopped}, and the target cannot be asked"),
        }
    }
}
