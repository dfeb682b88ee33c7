//! Rollback: of an action, of a plan, or of everything since a time, each with what was done since.

use headroom_actuator_decide::roles::Roles;
use headroom_actuator_decide::stage::Kind;
use headroom_actuator_decide::transition::{self, state_word};
use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, ActionState, RollbackPlanRequest, RollbackPlanResponse, RollbackRequest};
use tonic::Status;

use super::Work;
use super::commands::said;
use crate::workload::Workload;
use crate::{ActuatorError, TargetError};

mod order;

/// What an undoing means for an action, by its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It waits, and has had no effect.
    Withdraw,
    /// It has, or may have, had its effect.
    Undo,
    /// It is rolled back on the record, and the target has not taken it yet.
    Finish,
    /// It has ended without an effect, or is undone already.
    Nothing,
}

/// Who asks, and why.
#[derive(Clone, Copy)]
struct Asker<'a> {
    person: &'a str,
    roles: Roles,
    reason: &'a str,
}

impl Work {
    /// Undoes an action and what was done since.
    pub(super) async fn rollback(
        &mut self,
        request: &RollbackRequest,
        roles: Roles,
    ) -> Result<Result<ActionRecord, Status>, ActuatorError> {
        let found = self.workloads.values().find_map(|workload| workload.action(&request.action_id)).cloned();
        let Some(action) = found else {
            let message = format!("no action `{}`: `headroom plan list` shows them", request.action_id);
            return Ok(Err(Status::not_found(message)));
        };
        if self.step_of(&action) == Step::Withdraw {
            let why = legality(&action).err().map(|error| error.to_string()).unwrap_or_default();
            let message = format!("{why}; nothing has been done: `headroom plan reject {}` ends it", action.plan_id);
            return Ok(Err(Status::failed_precondition(message)));
        }
        let asker = Asker { person: &request.actor, roles, reason: &request.reason };
        Ok(match self.undo_from(std::slice::from_ref(&action), asker).await? {
            Ok(_) => self.newest(&action),
            Err(status) => Err(status),
        })
    }

    /// Undoes a plan, in every workload that it moved, or all that was decided since a time.
    pub(super) async fn rollback_plan(
        &mut self,
        request: &RollbackPlanRequest,
        roles: Roles,
    ) -> Result<Result<RollbackPlanResponse, Status>, ActuatorError> {
        let firsts = match self.firsts(request) {
            Ok(firsts) => firsts,
            Err(status) => return Ok(Err(status)),
        };
        let asker = Asker { person: &request.actor, roles, reason: &request.reason };
        Ok(self.undo_from(&firsts, asker).await?.map(|moves| RollbackPlanResponse { moves }))
    }

    /// The first action to undo in each workload.
    fn firsts(&self, request: &RollbackPlanRequest) -> Result<Vec<ActionRecord>, Status> {
        let id = &request.id;
        if id.is_empty() {
            return self.first_since(&request.workload, request.since_us).map(|first| vec![first]);
        }
        let is_meant = |action: &ActionRecord| action.plan_id == *id || action.action_id == *id;
        let firsts: Vec<ActionRecord> =
            self.workloads.values().filter_map(|workload| workload.earliest(is_meant)).cloned().collect();
        if firsts.is_empty() {
            let message = format!("no plan or action `{id}`: `headroom plan list` shows them");
            return Err(Status::not_found(message));
        }
        Ok(firsts)
    }

    fn first_since(&self, name: &str, since_us: i64) -> Result<ActionRecord, Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument(
                "name a plan, an action, or a workload and a time since which to undo",
            ));
        }
        let Some(workload) = self.workloads.get(name) else {
            return Err(Status::not_found(format!("no workload `{name}`: `headroom status` shows them")));
        };
        let is_meant =
            |action: &ActionRecord| action.decided_at_us >= since_us && self.step_of(action) != Step::Nothing;
        workload.earliest(is_meant).cloned().ok_or_else(|| {
            let since = EventTime::from_micros(since_us);
            Status::failed_precondition(format!("nothing was decided for `{name}` since {since} that could be undone"))
        })
    }

    /// Undoes what began with these actions, newest first. The moves are on the record before a target is asked; after a
    /// crash in between it is asked again. Automation pauses, or the next window would do again what a person has undone.
    async fn undo_from(
        &mut self,
        firsts: &[ActionRecord],
        asker: Asker<'_>,
    ) -> Result<Result<Vec<ActionRecord>, Status>, ActuatorError> {
        let ordered = match self.in_order(firsts).await {
            Ok(ordered) => ordered,
            Err(why) => return Ok(Err(Status::failed_precondition(why))),
        };
        if let Err(status) = self.allow_undoing(&ordered, (asker.person, asker.roles)) {
            return Ok(Err(status));
        }
        self.undo_allowed(&ordered, asker).await
    }

    /// Undoes actions in the name of Headroom itself, the same way as a person's. A target that cannot take it now is
    /// asked again with each window.
    pub(super) async fn undo_by_itself(
        &mut self,
        ordered: &[ActionRecord],
        actor: &str,
        reason: &str,
    ) -> Result<(), ActuatorError> {
        let outcome = self.undo_allowed(ordered, Asker { person: actor, roles: Roles::ALL, reason }).await?;
        if let Err(status) = outcome {
            tracing::error!(actor, problem = status.message(), "not undone yet");
        }
        Ok(())
    }

    async fn undo_allowed(
        &mut self,
        firsts: &[ActionRecord],
        asker: Asker<'_>,
    ) -> Result<Result<Vec<ActionRecord>, Status>, ActuatorError> {
        let mut undone: Vec<ActionRecord> = Vec::new();
        for first in firsts {
            let at = self.now_of(&first.workload);
            let is_effect = self.chain(first).iter().any(|(_, step)| *step != Step::Withdraw);
            // Before the moves: a crash in between leaves a pause too many, not a rollback that is done again.
            if is_effect && Kind::ALL.iter().any(|kind| self.config.stage_of(&first.workload, *kind).acts()) {
                let reason = said(&format!("{} was rolled back", first.action_id), asker.reason);
                // It counts at once; what kept it from the record is logged there.
                let _logged = self.set_paused(&first.workload, true, asker.person, &reason, "rollback").await;
            }
            for (action, step) in self.chain(first) {
                let is_first = action.action_id == first.action_id;
                self.undo_on_record(&action, step, is_first, at, asker)?;
                undone.extend(self.newest(&action));
            }
        }
        self.flush().await?;
        self.confirm_term().await?;
        let mut problems = Vec::new();
        for first in firsts {
            let at = self.now_of(&first.workload);
            let workload = super::workload_of(&mut self.workloads, &first.workload);
            let unfinished = std::mem::take(&mut workload.unfinished);
            let mut effects: Vec<ActionRecord> =
                unfinished.into_iter().filter(|a| workload.is_undone_last(a)).collect();
            let of_it = |action: &&ActionRecord| action.workload == first.workload;
            for action in undone.iter().filter(of_it).filter(|action| action.state() == ActionState::RolledBack) {
                if effects.iter().all(|known| known.action_id != action.action_id) {
                    effects.push(action.clone());
                }
            }
            problems.extend(self.undo(effects, at).await.err().as_ref().map(untaken));
        }
        if problems.is_empty() { Ok(Ok(undone)) } else { Ok(Err(Status::unavailable(problems.join("; ")))) }
    }

    /// Is there something to undo, and may this person undo it?
    fn allow_undoing(&self, firsts: &[ActionRecord], person: (&str, Roles)) -> Result<(), Status> {
        if firsts.iter().all(|first| self.step_of(first) == Step::Nothing) {
            let first = firsts.first().ok_or_else(|| Status::not_found("nothing to undo"))?;
            let (id, state) = (&first.action_id, first.state());
            let why = if state == ActionState::RolledBack {
                format!("{id} is rolled back already")
            } else {
                format!("{id} was {} before it was done", state_word(state))
            };
            return Err(Status::failed_precondition(format!("{why}: there is nothing to undo")));
        }
        for (action, _) in firsts.iter().flat_map(|first| self.chain(first)) {
            self.permit(&action, person, "rollback")?;
        }
        Ok(())
    }

    /// The action and what began after it, newest first, without what there is nothing to undo of.
    fn chain(&self, first: &ActionRecord) -> Vec<(ActionRecord, Step)> {
        if self.step_of(first) == Step::Nothing {
            return Vec::new();
        }
        let all = self.workloads.get(&first.workload).map(|workload| workload.since(&first.action_id));
        let steps = all.unwrap_or_default().into_iter().map(|action| (self.step_of(&action), action));
        steps.filter(|(step, _)| *step != Step::Nothing).map(|(step, action)| (action, step)).collect()
    }

    fn step_of(&self, action: &ActionRecord) -> Step {
        match action.state() {
            ActionState::Proposed | ActionState::Paused | ActionState::Approved => Step::Withdraw,
            ActionState::Intended
            | ActionState::Applied
            | ActionState::Holding
            | ActionState::Verified
            | ActionState::Failed => Step::Undo,
            // The newer one came while the effect of this one was measured, or before it had any.
            ActionState::Superseded if action.previous_state() == ActionState::Holding => Step::Undo,
            ActionState::RolledBack if self.is_unfinished(action) => Step::Finish,
            ActionState::RolledBack
            | ActionState::Superseded
            | ActionState::Rejected
            | ActionState::Expired
            | ActionState::Unspecified => Step::Nothing,
        }
    }

    fn is_unfinished(&self, action: &ActionRecord) -> bool {
        let is_it = |unfinished: &ActionRecord| unfinished.action_id == action.action_id;
        self.workloads.get(&action.workload).is_some_and(|workload| workload.unfinished.iter().any(is_it))
    }

    fn undo_on_record(
        &mut self,
        action: &ActionRecord,
        step: Step,
        is_first: bool,
        at: EventTime,
        asker: Asker<'_>,
    ) -> Result<(), ActuatorError> {
        let waits = matches!(action.state(), ActionState::Proposed | ActionState::Paused);
        match step {
            Step::Nothing | Step::Finish => Ok(()),
            Step::Withdraw if is_first && waits => {
                self.advance(action, ActionState::Rejected, at, asker.person, said("withdrawn", asker.reason))
            }
            Step::Withdraw => {
                let reason = said("what it builds on was rolled back", asker.reason);
                self.advance(action, ActionState::Superseded, at, asker.person, reason)
            }
            Step::Undo => {
                if action.state() == ActionState::Intended {
                    let reason = "rolled back before the target had answered".to_owned();
                    self.advance(action, ActionState::Failed, at, "actuator", reason)?;
                }
                if self.workloads.get(&action.workload).is_some_and(|workload| is_measured(workload, action)) {
                    self.finish_measuring(&action.workload, at, false)?;
                }
                self.advance(action, ActionState::RolledBack, at, asker.person, said("rolled back", asker.reason))
            }
        }
    }
}

fn is_measured(workload: &Workload, action: &ActionRecord) -> bool {
    workload.measuring.as_ref().is_some_and(|measuring| measuring.action.action_id == action.action_id)
}

fn legality(action: &ActionRecord) -> Result<(), transition::IllegalMove> {
    transition::check(action.state(), ActionState::RolledBack)
}

fn untaken(error: &TargetError) -> String {
    let next = if error.fault.is_passing() {
        "it is tried again with each window and at the next start"
    } else {
        "it is tried again at the next start; or set the value by hand"
    };
    format!("on the record, but not done yet: {error}; {next}")
}
