//! What people ask of the actuator.

use headroom_actuator_decide::policy::Question;
use headroom_actuator_decide::{protocol, transition};
use headroom_proto::EventTime;
use headroom_proto::v1::{
    ActionRecord, ActionState, ApproveRequest, ListActionsRequest, ListPlansRequest, PauseRequest, Plan, PlanView,
    RejectRequest, RollbackPlanRequest, RollbackPlanResponse, RollbackRequest, Switch, SwitchState, WorkloadStatus,
};
use tokio::sync::oneshot;
use tonic::Status;

use super::Work;
use crate::workload::Workload;
use crate::{ActuatorError, journal};

const DEFAULT_LIMIT: usize = 100;

/// An answer on its way back.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Status>>;

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) enum Command {
    ListPlans(ListPlansRequest, Reply<Vec<PlanView>>),
    ListActions(ListActionsRequest, Reply<Vec<ActionRecord>>),
    Approve(ApproveRequest, Reply<ActionRecord>),
    Reject(RejectRequest, Reply<ActionRecord>),
    Rollback(RollbackRequest, Reply<ActionRecord>),
    RollbackPlan(RollbackPlanRequest, Reply<RollbackPlanResponse>),
    Switch(PauseRequest, bool, Reply<SwitchState>),
    Status(Reply<Vec<WorkloadStatus>>),
}

impl Work {
    /// Obeys a command. Someone who has gone away meanwhile gets no answer, and what was asked is done all the same.
    pub(super) async fn obey(&mut self, command: Command) -> Result<(), ActuatorError> {
        match command {
            Command::ListPlans(request, reply) => drop(reply.send(Ok(self.plans(&request)))),
            Command::ListActions(request, reply) => drop(reply.send(Ok(self.actions(&request)))),
            Command::Approve(request, reply) => drop(reply.send(self.approve(&request).await?)),
            Command::Reject(request, reply) => drop(reply.send(self.reject(&request).await?)),
            Command::Rollback(request, reply) => drop(reply.send(self.rollback(&request).await?)),
            Command::RollbackPlan(request, reply) => drop(reply.send(self.rollback_plan(&request).await?)),
            Command::Switch(request, paused, reply) => drop(reply.send(Ok(self.switch(request, paused).await?))),
            Command::Status(reply) => drop(reply.send(Ok(self.statuses().await))),
        }
        Ok(())
    }

    fn plans(&self, request: &ListPlansRequest) -> Vec<PlanView> {
        let wanted = |workload: &&Workload| request.workload.is_empty() || workload.name == request.workload;
        let mut views: Vec<PlanView> = Vec::new();
        for workload in self.workloads.values().filter(wanted) {
            views.extend(workload.plans.iter().rev().map(|plan| view(workload, plan)));
        }
        let waits = |view: &PlanView| protocol::is_waiting(view.state());
        views.retain(|view| !request.pending || waits(view));
        views.sort_by_key(|view| std::cmp::Reverse(view.plan.as_ref().map(|plan| plan.decided_at_us)));
        views.truncate(limit(request.limit));
        views
    }

    fn actions(&self, request: &ListActionsRequest) -> Vec<ActionRecord> {
        let wanted = |workload: &&Workload| request.workload.is_empty() || workload.name == request.workload;
        let mut actions: Vec<ActionRecord> =
            self.workloads.values().filter(wanted).flat_map(|workload| workload.actions().cloned()).collect();
        actions.sort_by_key(|action| std::cmp::Reverse((action.at_us, action.sequence)));
        actions.truncate(limit(request.limit));
        actions
    }

    async fn approve(&mut self, request: &ApproveRequest) -> Result<Result<ActionRecord, Status>, ActuatorError> {
        let action = match self.waiting_for(&request.plan_id) {
            Ok(action) => action,
            Err(status) => return Ok(Err(status)),
        };
        if !request.plan_hash.is_empty() && request.plan_hash != action.plan_hash {
            let message = format!("the plan has changed since: its hash is {} now; look again", action.plan_hash);
            return Ok(Err(Status::failed_precondition(message)));
        }
        if let Err(status) = self.permit(&action, &request.actor, "apply") {
            return Ok(Err(status));
        }
        let at = self.now_of(&action.workload);
        let reason = said("approved", &request.comment);
        self.advance(&action, ActionState::Approved, at, &request.actor, reason)?;
        self.drive(&action, at).await?;
        self.flush().await?;
        Ok(self.newest(&action))
    }

    async fn reject(&mut self, request: &RejectRequest) -> Result<Result<ActionRecord, Status>, ActuatorError> {
        let action = match self.waiting_for(&request.plan_id) {
            Ok(action) => action,
            Err(status) => return Ok(Err(status)),
        };
        let at = self.now_of(&action.workload);
        self.advance(&action, ActionState::Rejected, at, &request.actor, said("rejected", &request.comment))?;
        self.flush().await?;
        Ok(self.newest(&action))
    }

    async fn switch(&mut self, request: PauseRequest, paused: bool) -> Result<SwitchState, ActuatorError> {
        self.set_paused(&request.workload, paused, &request.actor, &request.reason);
        self.flush().await?;
        Ok(SwitchState { paused, workload: request.workload, actor: request.actor, reason: request.reason })
    }

    /// Pauses or resumes a workload, or all under the empty name; on the record with the next flush.
    pub(super) fn set_paused(&mut self, workload: &str, paused: bool, actor: &str, reason: &str) {
        if paused {
            self.paused.insert(workload.to_owned());
        } else {
            self.paused.remove(workload);
        }
        let switch = Switch {
            workload: workload.to_owned(),
            paused,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            at_us: self.now_of(workload).micros(),
        };
        self.outbox.push(journal::switch(&switch));
    }

    async fn statuses(&mut self) -> Vec<WorkloadStatus> {
        let mut statuses = Vec::new();
        let names: Vec<String> = self.workloads.keys().cloned().collect();
        for name in names {
            let state = self.reported(&name).await;
            let Some(workload) = self.workloads.get(&name) else { continue };
            statuses.push(WorkloadStatus {
                workload: workload.name.clone(),
                stage: self.config.stage_of(&workload.name).name().to_owned(),
                paused: self.is_paused(&workload.name),
                units_ready: state.ready,
                units_commanded: state.commanded,
                unit_capacity: self.config.planner_of(&workload.name).unit_capacity,
                observed_load: workload.last_load,
                event_time_us: workload.last_decided.micros(),
                verdict: workload.verdict.clone(),
            });
        }
        statuses
    }

    fn waiting_for(&self, plan_id: &str) -> Result<ActionRecord, Status> {
        let found = self.workloads.values().find_map(|workload| workload.action_of_plan(plan_id)).cloned();
        let Some(action) = found else {
            return Err(Status::not_found(format!(
                "no plan `{plan_id}`: `headroom plan list --pending` shows what waits"
            )));
        };
        if protocol::is_waiting(action.state()) {
            return Ok(action);
        }
        let state = transition::state_word(action.state());
        Err(Status::failed_precondition(format!("plan `{plan_id}` does not wait for anyone: its action is {state}")))
    }

    /// May this person do that to the action's workload?
    pub(super) fn permit(&self, action: &ActionRecord, person: &str, what: &str) -> Result<(), Status> {
        let (units_before, units_after) = match what {
            "rollback" => (action.units_after, action.undo_units),
            _ => (action.units_before, action.units_after),
        };
        let question = Question {
            person: Some(person),
            action: what,
            workload: &action.workload,
            stage: self.config.stage_of(&action.workload),
            verdict: &action.verdict,
            paused: self.is_paused(&action.workload),
            reversible: true,
            units_before,
            units_after,
        };
        let answer = self.policy.ask(&question).map_err(|error| Status::internal(error.to_string()))?;
        if answer.allowed {
            return Ok(());
        }
        let rules = if answer.rules.is_empty() { "nothing permits it".to_owned() } else { answer.rules.join(", ") };
        let message = format!("the policy does not let `{person}` {what} on `{}`: {rules}", action.workload);
        Err(Status::permission_denied(message))
    }

    pub(super) fn newest(&self, action: &ActionRecord) -> Result<ActionRecord, Status> {
        let newest = self.workloads.get(&action.workload).and_then(|workload| workload.action(&action.action_id));
        newest.cloned().ok_or_else(|| Status::internal("the action is gone"))
    }

    /// Event time of a workload, or of the clock where it has none. A replay that has not begun stands before every
    /// time; the epoch is the earliest that a record can bear.
    pub(super) fn now_of(&self, workload: &str) -> EventTime {
        let decided = self.workloads.get(workload).map(|workload| workload.last_decided);
        decided
            .filter(|time| *time > EventTime::MIN)
            .unwrap_or_else(|| self.reached.unwrap_or_else(|| self.clock.now()))
            .max(EventTime::from_micros(0))
    }
}

fn view(workload: &Workload, plan: &Plan) -> PlanView {
    let action = workload.action_of_plan(&plan.plan_id);
    PlanView {
        plan: Some(plan.clone()),
        state: action.map_or(ActionState::Unspecified, ActionRecord::state).into(),
        action_id: action.map(|action| action.action_id.clone()).unwrap_or_default(),
        state_reason: action.map(|action| action.reason.clone()).unwrap_or_default(),
    }
}

fn limit(asked: u32) -> usize {
    if asked == 0 { DEFAULT_LIMIT } else { usize::try_from(asked).unwrap_or(DEFAULT_LIMIT) }
}

pub(super) fn said(what: &str, comment: &str) -> String {
    if comment.is_empty() { what.to_owned() } else { format!("{what}: {comment}") }
}
