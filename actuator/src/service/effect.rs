//! What the targets are asked, and what becomes of it when they do not answer.

use std::collections::VecDeque;

use headroom_proto::EventTime;
use headroom_proto::v1::ActionRecord;

use super::Work;
use crate::{Applied, ApplyRequest, Fault, Fence, TargetError, TargetState};

impl Work {
    /// Asks the target for an action's change, or for its undoing. The move that permits it is on the record.
    pub(super) async fn ask(
        &mut self,
        action: &ActionRecord,
        undo: Option<u32>,
        at: EventTime,
    ) -> Result<Applied, TargetError> {
        super::workload_of(&mut self.workloads, &action.workload).reported = None;
        let request = self.request(action, undo, at);
        let outcome = self.targets.of(&action.workload).apply(&request).await;
        if let Err(error) = &outcome {
            self.counters.target_failures.inc();
            tracing::error!(%error, action = action.action_id, "the target did not take the change");
        }
        outcome
    }

    /// What the target is asked.
    pub(super) fn request(&self, action: &ActionRecord, undo: Option<u32>, at: EventTime) -> ApplyRequest {
        let known = self.workloads.get(&action.workload).and_then(|workload| workload.action(&action.action_id));
        let permit = known.unwrap_or(action);
        let fence = Fence::new(EventTime::from_micros(permit.at_us), permit.sequence);
        let (workload, key) = (action.workload.clone(), action.idempotency_key.clone());
        match undo {
            None => {
                let at = EventTime::from_micros(action.decided_at_us).max(at);
                let begin_at = Some(action.begin_at_us).filter(|begin| *begin > 0).map(EventTime::from_micros);
                let units = action.units_after;
                ApplyRequest { workload, units, idempotency_key: key, fence, undoes: None, at, begin_at }
            }
            Some(units) => {
                let idempotency_key = format!("{key}/rollback");
                ApplyRequest { workload, units, idempotency_key, fence, undoes: Some(key), at, begin_at: None }
            }
        }
    }

    /// Undoes actions that are rolled back on the record, in that order. What lets work go first is waited for; what may
    /// work later is tried again with each window; and what comes after either waits as well. A failure that lasts does not
    /// keep the next from being tried.
    pub(super) async fn undo(&mut self, actions: Vec<ActionRecord>, at: EventTime) -> Result<(), TargetError> {
        let mut rest = VecDeque::from(actions);
        let mut lasting = Ok(());
        while let Some(action) = rest.pop_front() {
            let outcome = match self.room_for_undoing(&action, at).await {
                Ok(()) if self.drains_for_undoing(&action, at).await => {
                    rest.push_front(action.clone());
                    super::workload_of(&mut self.workloads, &action.workload).unfinished = rest;
                    return lasting;
                }
                Ok(()) => self.ask(&action, Some(action.undo_units), at).await,
                Err(waits) => Err(waits),
            };
            let workload = super::workload_of(&mut self.workloads, &action.workload);
            let error = match outcome {
                Ok(applied) => {
                    workload.is_left(&applied.after);
                    continue;
                }
                Err(error) => error,
            };
            if error.fault.is_passing() {
                rest.push_front(action);
                workload.unfinished = rest;
                return Err(error);
            }
            workload.left = None;
            lasting = Err(error);
        }
        lasting
    }

    /// Those who use what an undoing takes away may not have given it back yet: then it waits, as for a target that is away.
    async fn room_for_undoing(&mut self, action: &ActionRecord, at: EventTime) -> Result<(), TargetError> {
        let undoing = ActionRecord { units_after: action.undo_units, ..action.clone() };
        let Some(why) = self.no_room(&undoing, at).await else { return Ok(()) };
        tracing::warn!(action = action.action_id, why, "the undoing waits for room");
        let problem = format!("{} cannot return to {} units yet: {why}", action.workload, action.undo_units);
        Err(TargetError { target: action.target.clone(), fault: Fault::NotChanged, problem })
    }

    /// Tries again what rollbacks could not do. A newer effect has taken their place; a failure is logged where it is made.
    pub(super) async fn finish_rollback(&mut self, name: &str) {
        let Some(workload) = self.workloads.get_mut(name) else { return };
        let unfinished = std::mem::take(&mut workload.unfinished);
        let still: Vec<ActionRecord> =
            unfinished.into_iter().filter(|action| workload.is_undone_last(action)).collect();
        if let Some(at) = still.first().map(|action| EventTime::from_micros(action.at_us)) {
            let _logged = self.undo(still, at).await;
        }
    }

    /// The target's state; none, and counted, when it cannot be asked.
    pub(super) async fn observe(&mut self, name: &str, at: EventTime) -> Option<TargetState> {
        match self.targets.of(name).observe(name, at).await {
            Ok(state) => Some(state),
            Err(error) => {
                self.counters.target_failures.inc();
                tracing::warn!(%error, workload = name, "the target cannot be asked");
                None
            }
        }
    }

    /// Units commanded so far; the target is asked once, and again after a failure. Without its answer nothing is decided.
    pub(super) async fn commanded(&mut self, name: &str, at: EventTime) -> Option<u32> {
        if let Some(known) = self.workloads.get(name).and_then(|workload| workload.commanded) {
            return Some(known);
        }
        let reported = self.observe(name, at).await?.commanded;
        super::workload_of(&mut self.workloads, name).commanded = Some(reported);
        Some(reported)
    }

    /// The state for those who look on: the target is asked once a window, not at each look.
    pub(super) async fn reported(&mut self, name: &str) -> TargetState {
        let (at, commanded) =
            self.workloads.get(name).map_or((EventTime::MIN, None), |known| (known.last_decided, known.commanded));
        let known = self.workloads.get(name).and_then(|workload| workload.reported.clone());
        if let Some((_, state)) = known.filter(|(asked_at, _)| *asked_at == at) {
            return state;
        }
        let unknown = TargetState { ready: 0, commanded: commanded.unwrap_or(0), value: "unknown".to_owned() };
        let state = self.observe(name, at).await.unwrap_or(unknown);
        super::workload_of(&mut self.workloads, name).reported = Some((at, state.clone()));
        state
    }
}
