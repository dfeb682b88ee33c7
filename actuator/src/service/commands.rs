//! What people ask of the actuator.

use headroom_actuator_decide::roles::Roles;
use headroom_actuator_decide::{protocol, transition};
use headroom_proto::EventTime;
use headroom_proto::v1::{
    ActionRecord, ActionState, Approval, ApproveRequest, ListActionsRequest, ListPlansRequest, PauseRequest, Plan,
    PlanView, RejectRequest, RollbackPlanRequest, RollbackPlanResponse, RollbackRequest, ShadowRequest, ShadowResponse,
    StageStanding, StagesRequest, Switch, SwitchState, WhyRequest, WhyResponse, WorkloadStatus,
};
use tokio::sync::oneshot;
use tonic::Status;

use super::Work;
use super::governance::Weight;
use crate::notify::{Notice, NoticeKind};
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
    Approve(ApproveRequest, Roles, Reply<ActionRecord>),
    Reject(RejectRequest, Reply<ActionRecord>),
    Rollback(RollbackRequest, Roles, Reply<ActionRecord>),
    RollbackPlan(RollbackPlanRequest, Roles, Reply<RollbackPlanResponse>),
    Resume(PauseRequest, Reply<SwitchState>),
    Status(Reply<Vec<WorkloadStatus>>),
    Why(WhyRequest, Reply<WhyResponse>),
    Stages(StagesRequest, Reply<Vec<StageStanding>>),
    Shadow(ShadowRequest, Reply<ShadowResponse>),
}

impl Command {
    /// Answers that it cannot be done.
    pub(super) fn refuse(self, status: &Status) {
        fn answer<T>(reply: Reply<T>, status: &Status) {
            // Someone who has gone away meanwhile gets no answer.
            drop(reply.send(Err(status.clone())));
        }
        match self {
            Self::ListPlans(_, reply) => answer(reply, status),
            Self::ListActions(_, reply) => answer(reply, status),
            Self::Approve(_, _, reply) | Self::Reject(_, reply) | Self::Rollback(_, _, reply) => answer(reply, status),
            Self::RollbackPlan(_, _, reply) => answer(reply, status),
            Self::Resume(_, reply) => answer(reply, status),
            Self::Status(reply) => answer(reply, status),
            Self::Why(_, reply) => answer(reply, status),
            Self::Stages(_, reply) => answer(reply, status),
            Self::Shadow(_, reply) => answer(reply, status),
        }
    }
}

impl Work {
    /// Obeys a command. Someone who has gone away meanwhile gets no answer, and what was asked is done all the same.
    pub(super) async fn obey(&mut self, command: Command) -> Result<(), ActuatorError> {
        match command {
            Command::ListPlans(request, reply) => drop(reply.send(Ok(self.plans(&request)))),
            Command::ListActions(request, reply) => drop(reply.send(Ok(self.actions(&request)))),
            Command::Approve(request, roles, reply) => drop(reply.send(self.approve(&request, roles).await?)),
            Command::Reject(request, reply) => drop(reply.send(self.reject(&request).await?)),
            Command::Rollback(request, roles, reply) => drop(reply.send(self.rollback(&request, roles).await?)),
            Command::RollbackPlan(request, roles, reply) => {
                drop(reply.send(self.rollback_plan(&request, roles).await?));
            }
            Command::Resume(request, reply) => drop(reply.send(self.resume(request).await)),
            Command::Status(reply) => drop(reply.send(Ok(self.statuses().await))),
            Command::Why(request, reply) => drop(reply.send(self.why(&request))),
            Command::Shadow(request, reply) => drop(reply.send(self.shadowed(&request))),
            Command::Stages(request, reply) => drop(reply.send(Ok(self.stages(&request)))),
        }
        Ok(())
    }

    fn plans(&self, request: &ListPlansRequest) -> Vec<PlanView> {
        let wanted = |workload: &&Workload| request.workload.is_empty() || workload.name == request.workload;
        let mut views: Vec<PlanView> = Vec::new();
        for workload in self.workloads.values().filter(wanted) {
            views.extend(workload.plans.iter().rev().map(|plan| self.view(workload, plan)));
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

    async fn approve(
        &mut self,
        request: &ApproveRequest,
        roles: Roles,
    ) -> Result<Result<ActionRecord, Status>, ActuatorError> {
        let action = match self.waiting_for(&request.plan_id) {
            Ok(action) => action,
            Err(status) => return Ok(Err(status)),
        };
        if request.plan_hash.is_empty() {
            let message = format!("say which plan you have seen: its hash is {}", action.plan_hash);
            return Ok(Err(Status::invalid_argument(message)));
        }
        if request.plan_hash != action.plan_hash {
            let message = format!("the plan has changed since: its hash is {} now; look again", action.plan_hash);
            return Ok(Err(Status::failed_precondition(message)));
        }
        let at = self.now_of(&action.workload);
        if self.expires_at(&action) <= at.max(self.clock.now()) {
            self.expire(&action.workload, self.expires_at(&action))?;
            self.flush().await?;
            let message = format!("plan `{}` has expired: nobody decided in time", request.plan_id);
            return Ok(Err(Status::failed_precondition(message)));
        }
        if let Some(why) = self.lost_ground(&action, at).await? {
            self.flush().await?;
            return Ok(Err(Status::failed_precondition(why)));
        }
        let (approvers, decision) = match self.weigh(&action, request, roles, at) {
            Err(status) => return Ok(Err(status)),
            Ok((approvers, Weight::OneMore(rules))) => {
                return self.keep_approval(&action, request, approvers, &rules).await;
            }
            Ok((approvers, Weight::Enough(decision))) => (approvers, decision),
        };
        let others = approvers.iter().filter(|name| **name != request.actor).cloned().collect::<Vec<_>>().join(", ");
        let with = if others.is_empty() { String::new() } else { format!(", with {others}") };
        let reason = format!("{}{with}", said("approved", &request.comment));
        let approved = ActionRecord { approvers, decision: Some(decision), ..action };
        self.advance(&approved, ActionState::Approved, at, &request.actor, reason)?;
        self.drive(&approved, at).await?;
        self.flush().await?;
        Ok(self.newest(&approved))
    }

    /// One of several approvals: on record, and bound to the plan that was seen.
    async fn keep_approval(
        &mut self,
        action: &ActionRecord,
        request: &ApproveRequest,
        approvers: Vec<String>,
        rules: &str,
    ) -> Result<Result<ActionRecord, Status>, ActuatorError> {
        let approval = Approval {
            action_id: action.action_id.clone(),
            plan_id: action.plan_id.clone(),
            plan_hash: action.plan_hash.clone(),
            workload: action.workload.clone(),
            actor: request.actor.clone(),
            comment: request.comment.clone(),
            at_us: self.now_of(&action.workload).micros(),
            expires_at_us: self.expires_at(action).micros(),
        };
        self.outbox.push(journal::approval(&approval));
        self.approvals.entry(action.action_id.clone()).or_default().push(approval);
        self.flush().await?;
        let reason = format!("approved by {}: {rules} asks for another person", approvers.join(", "));
        let shown = ActionRecord { approvers, reason, actor: request.actor.clone(), ..action.clone() };
        let text = format!("{}: {}", action.workload, shown.reason);
        self.notifier.tell(Notice::of_action(NoticeKind::Approved, &shown, text));
        Ok(Ok(shown))
    }

    fn expires_at(&self, action: &ActionRecord) -> EventTime {
        EventTime::from_micros(action.decided_at_us) + self.config.approval_ttl
    }

    fn view(&self, workload: &Workload, plan: &Plan) -> PlanView {
        let action = workload.action_of_plan(&plan.plan_id);
        let waiting = action.filter(|action| protocol::is_waiting(action.state()));
        PlanView {
            plan: Some(plan.clone()),
            state: action.map_or(ActionState::Unspecified, ActionRecord::state).into(),
            action_id: action.map(|action| action.action_id.clone()).unwrap_or_default(),
            state_reason: action.map_or_else(|| plan.would.clone(), |action| action.reason.clone()),
            expires_at_us: waiting.map_or(0, |action| self.expires_at(action).micros()),
            approvals: action.map(|action| self.approvers_of(action)).unwrap_or_default(),
        }
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

    /// Lets automation go on, from what the target has by then.
    async fn resume(&mut self, request: PauseRequest) -> Result<SwitchState, Status> {
        let PauseRequest { workload, actor, reason } = request;
        for known in self.workloads.values_mut().filter(|known| workload.is_empty() || known.name == workload) {
            known.accept();
        }
        let warning = self.board.warning(&workload, false);
        self.set_paused(&workload, false, &actor, &reason, "person").await?;
        let paused = self.board.stopped(&workload).is_some();
        Ok(SwitchState { paused, workload, actor, reason, warning })
    }

    /// Pauses or resumes a workload, or all under the empty name.
    pub(super) async fn set_paused(
        &self,
        workload: &str,
        paused: bool,
        actor: &str,
        reason: &str,
        cause: &str,
    ) -> Result<(), Status> {
        let switch = Switch {
            workload: workload.to_owned(),
            paused,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            at_us: self.now_of(workload).micros(),
            cause: cause.to_owned(),
            ..Switch::default()
        };
        self.board.set(switch).await
    }

    async fn statuses(&mut self) -> Vec<WorkloadStatus> {
        let mut statuses = Vec::new();
        let names: Vec<String> = self.workloads.keys().cloned().collect();
        for name in names {
            let state = self.reported(&name).await;
            let Some(workload) = self.workloads.get(&name) else { continue };
            let stopped = self.board.stopped(&name).unwrap_or_default();
            statuses.push(WorkloadStatus {
                workload: workload.name.clone(),
                stage: self.stage_word(&name),
                paused: self.is_paused(&workload.name),
                units_ready: state.ready,
                units_commanded: state.commanded,
                unit_capacity: self.config.planner_of(&workload.name).unit_capacity,
                observed_load: workload.last_load,
                event_time_us: workload.last_decided.micros(),
                verdict: workload.verdict.clone(),
                paused_by: stopped.actor,
                paused_reason: stopped.reason,
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

fn limit(asked: u32) -> usize {
    if asked == 0 { DEFAULT_LIMIT } else { usize::try_from(asked).unwrap_or(DEFAULT_LIMIT) }
}

pub(super) fn said(what: &str, comment: &str) -> String {
    if comment.is_empty() { what.to_owned() } else { format!("{what}: {comment}") }
}
