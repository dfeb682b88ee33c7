//! What may be done: the stage that holds, the risk, what the policies say, and the limits over all workloads.

use headroom_actuator_decide::policy::{Answer, PolicyError, Question};
use headroom_actuator_decide::risk::{Change, Risk};
use headroom_actuator_decide::roles::Roles;
use headroom_actuator_decide::stage::{Kind, Stage};
use headroom_actuator_decide::{protocol, transition};
use headroom_proto::EventTime;
use headroom_proto::v1::{
    ActionRecord, ActionState, ApproveRequest, NamedValue, PolicyDecision, WhyRequest, WhyResponse,
};
use tonic::Status;

use super::Work;
use crate::ActuatorError;
use crate::notify::{Notice, NoticeKind};
use crate::workload::{POLICY, Workload};

/// Times of changes that are remembered, for the limit of an hour.
const MAX_BEGAN: usize = 100_000;

impl Work {
    /// The stage that holds: the configured one or, where stages must be earned, no more than that.
    pub(super) fn stage_of(&self, workload: &str, kind: Kind) -> Stage {
        let configured = self.config.stage_of(workload, kind);
        if self.config.earn.enabled { configured.min(self.earned(workload, kind)) } else { configured }
    }

    /// The stages of both kinds in one word, or in two.
    pub(super) fn stage_word(&self, workload: &str) -> String {
        let [raise, release] = Kind::ALL.map(|kind| self.stage_of(workload, kind));
        if raise == release { raise.to_string() } else { format!("raise {raise}, release {release}") }
    }

    /// How risky a change is.
    pub(super) fn risk_of(&self, workload: &str, before: u32, after: u32, reversible: bool, at: EventTime) -> Risk {
        let planner = self.config.planner_of(workload);
        let (min_units, max_units) = (planner.min_units, planner.max_units);
        let blackout = self.is_blackout(workload, at);
        self.config.risk.of(&Change { before, after, min_units, max_units, reversible, blackout })
    }

    /// Is it a time at which nothing should change by itself?
    fn is_blackout(&self, workload: &str, at: EventTime) -> bool {
        self.config.planner_of(workload).calendar.closed_at(at).is_some()
    }

    /// Can a change be undone, as the target and the configuration say?
    pub(super) fn is_reversible(&self, workload: &str, before: u32, after: u32) -> bool {
        self.config.is_reversible(workload, Kind::of(before, after))
            && self.targets.of(workload).is_reversible(before, after)
    }

    /// The question whether that may be done with an action.
    pub(super) fn question<'a>(
        &self,
        action: &'a ActionRecord,
        what: &'a str,
        person: Option<Person<'a>>,
        at: EventTime,
    ) -> Question<'a> {
        let (units_before, units_after) = match what {
            "rollback" => (action.units_after, action.undo_units),
            _ => (action.units_before, action.units_after),
        };
        let (workload, kind) = (action.workload.as_str(), Kind::of(units_before, units_after));
        let reversible = !action.irreversible;
        Question {
            person: person.map(|person| person.name),
            roles: person.map_or(Roles::ALL, |person| person.roles),
            action: what,
            workload,
            target: &action.target,
            stage: self.stage_of(workload, kind),
            ceiling: self.config.stage_of(workload, kind),
            verdict: &action.verdict,
            needed_now: action.needed_now,
            paused: self.is_paused(workload),
            reversible,
            risk: self.risk_of(workload, units_before, units_after, reversible, at),
            blackout: self.is_blackout(workload, at),
            units_before,
            units_after,
            approvals: person.map_or(0, |person| person.approvals),
            at,
        }
    }

    /// What the policies say, and its record.
    pub(super) fn answer(&self, question: &Question<'_>) -> Result<(Answer, PolicyDecision), PolicyError> {
        let answer = self.policy.ask(question)?;
        let decision = PolicyDecision {
            allowed: answer.allowed,
            rules: answer.rules.clone(),
            asked: question.shown().into_iter().map(|(name, value)| NamedValue { name, value }).collect(),
            policy_version: self.policy.version().to_owned(),
            at_us: question.at.micros(),
        };
        Ok((answer, decision))
    }

    /// Approves what the policies permit and the limits let begin; the rest waits, and people are told.
    pub(super) fn ask_policy(&mut self, action: &ActionRecord, at: EventTime) -> Result<(), ActuatorError> {
        if self.permit_by_policy(action, at)? {
            return Ok(());
        }
        let units = format!("{} -> {} units", action.units_before, action.units_after);
        let why = action.decision.as_ref().map(decision_told).unwrap_or_default();
        let text = format!("{}: {units} waits for a person: {} ({why})", action.workload, action.reason);
        self.notifier.tell(Notice::of_action(NoticeKind::Waits, action, text));
        Ok(())
    }

    /// Do the policies permit it? Then it is approved, unless a limit holds it back.
    fn permit_by_policy(&mut self, action: &ActionRecord, at: EventTime) -> Result<bool, ActuatorError> {
        let (answer, decision) = self.answer(&self.question(action, "apply", None, at))?;
        if !answer.allowed {
            return Ok(false);
        }
        if let Some(reason) = self.limit_on(action, at) {
            if action.state() == ActionState::Proposed {
                self.counters.held.inc();
                self.advance(action, ActionState::Paused, at, "limits", reason)?;
            }
            return Ok(true);
        }
        let permitted = ActionRecord { decision: Some(decision), ..action.clone() };
        self.advance(&permitted, ActionState::Approved, at, POLICY, answer.told())?;
        Ok(true)
    }

    /// Asks again about what waits, with what is known now: a limit may be free, a window of time over.
    pub(super) async fn ask_again(
        &mut self,
        waiting: &ActionRecord,
        needed_now: bool,
        at: EventTime,
    ) -> Result<(), ActuatorError> {
        let verdict = self.workloads.get(&waiting.workload).map(|workload| workload.verdict.clone());
        let verdict = verdict.unwrap_or_else(|| waiting.verdict.clone());
        self.permit_by_policy(&ActionRecord { verdict, needed_now, ..waiting.clone() }, at)?;
        let newest = self.workloads.get(&waiting.workload).and_then(|w| w.action(&waiting.action_id)).cloned();
        match newest {
            Some(newest) if newest.state() == ActionState::Approved => self.drive(&newest, at).await,
            _ => Ok(()),
        }
    }

    /// The limit that keeps an action from beginning.
    fn limit_on(&self, action: &ActionRecord, at: EventTime) -> Option<String> {
        // Units on their way, changes whose answer is waited for, and releases that let work go first.
        let is_coming = |workload: &&Workload| workload.measuring.as_ref().is_some_and(|known| known.from > at);
        let under_way = self.workloads.values().filter(|w| w.unsure.is_some() || is_coming(w)).count();
        let admitted = self.config.limits.admit(at, self.began.iter().copied(), under_way, action.needed_now);
        admitted.err().map(|held| held.reason)
    }

    /// A move, new or replayed: what the limits count.
    pub(super) fn count(&mut self, record: &ActionRecord) {
        if record.state() == ActionState::Intended {
            self.began.push_back(EventTime::from_micros(record.at_us));
            if self.began.len() > MAX_BEGAN {
                self.began.pop_front();
            }
        }
        if !protocol::is_waiting(record.state()) {
            self.approvals.remove(&record.action_id);
        }
    }

    /// A new move: who is told, and what becomes of the track record.
    pub(super) fn after(&mut self, record: &ActionRecord) {
        self.count(record);
        if let Some((kind, what)) = told(record.state()) {
            let units = format!("{} -> {} units", record.units_before, record.units_after);
            let text = format!("{}: {units} {what}: {}", record.workload, record.reason);
            self.notifier.tell(Notice::of_action(kind, record, text));
        }
        self.track_move(record);
    }

    /// Which policies allowed or refused an action or a plan, and with which values.
    pub(super) fn why(&self, request: &WhyRequest) -> Result<WhyResponse, Status> {
        let of_id = self.workloads.values().find_map(|workload| {
            workload.action(&request.id).or_else(|| workload.action_of_plan(&request.id)).map(|found| (workload, found))
        });
        let Some((workload, action)) = of_id else { return self.why_plan(&request.id) };
        let at = self.now_of(&action.workload);
        let now = if protocol::is_over(action.state()) {
            None
        } else {
            let asked = self.answer(&self.question(action, "apply", None, at));
            Some(asked.map_err(|error| Status::internal(error.to_string()))?.1)
        };
        Ok(WhyResponse {
            action_id: action.action_id.clone(),
            plan_id: action.plan_id.clone(),
            workload: action.workload.clone(),
            state: transition::state_word(action.state()),
            state_reason: action.reason.clone(),
            decisions: workload.decisions_of(&action.action_id),
            now,
            approvals: self.approvers_of(action),
        })
    }

    /// A plan without an action was made at stage `observe`.
    fn why_plan(&self, id: &str) -> Result<WhyResponse, Status> {
        let plan = self.workloads.values().flat_map(|workload| &workload.plans).find(|plan| plan.plan_id == id);
        let plan = plan.ok_or_else(|| {
            Status::not_found(format!("no action and no plan `{id}`: `headroom plan list` shows them"))
        })?;
        Ok(WhyResponse {
            plan_id: plan.plan_id.clone(),
            workload: plan.workload.clone(),
            state: "observed".to_owned(),
            state_reason: plan.would.clone(),
            ..WhyResponse::default()
        })
    }

    /// What would become of an action, were its workload at stage `automate`.
    pub(super) fn would(&self, action: &ActionRecord, at: EventTime) -> Result<String, PolicyError> {
        let question = self.question(action, "apply", None, at);
        let answer = self.policy.ask(&Question { stage: Stage::Automate, ceiling: Stage::Automate, ..question })?;
        let what = if answer.allowed { "be done" } else { "wait for a person" };
        Ok(format!("at stage automate it would {what}: {}", answer.told()))
    }

    /// May this person do that to the action's workload?
    pub(super) fn permit(
        &self,
        action: &ActionRecord,
        (name, roles): (&str, Roles),
        what: &str,
    ) -> Result<PolicyDecision, Status> {
        let at = self.now_of(&action.workload);
        let asked = self.answer(&self.question(action, what, Some(Person { name, roles, approvals: 1 }), at));
        let (answer, decision) = asked.map_err(|error| Status::internal(error.to_string()))?;
        if answer.allowed { Ok(decision) } else { Err(denied(action, name, what, &answer)) }
    }

    /// The approvals that an action has with those of this request: enough, one more is needed, or refused.
    pub(super) fn weigh(
        &self,
        action: &ActionRecord,
        request: &ApproveRequest,
        roles: Roles,
        at: EventTime,
    ) -> Result<(Vec<String>, Weight), Status> {
        let mut approvers = self.approvers_of(action);
        let is_new = !approvers.contains(&request.actor);
        if is_new {
            approvers.push(request.actor.clone());
        }
        let count = u32::try_from(approvers.len()).unwrap_or(u32::MAX);
        let ask = |approvals| {
            let person = Person { name: &request.actor, roles, approvals };
            let asked = self.answer(&self.question(action, "apply", Some(person), at));
            asked.map_err(|error| Status::internal(error.to_string()))
        };
        let (answer, decision) = ask(count)?;
        if answer.allowed {
            return Ok((approvers, Weight::Enough(decision)));
        }
        if !ask(count.saturating_add(1))?.0.allowed {
            return Err(denied(action, &request.actor, "apply", &answer));
        }
        let rules = answer.rules.join(", ");
        if !is_new {
            let message = format!("you have approved it already: {rules} asks for another person");
            return Err(Status::failed_precondition(message));
        }
        Ok((approvers, Weight::OneMore(rules)))
    }

    /// The people who have approved exactly this plan.
    pub(super) fn approvers_of(&self, action: &ActionRecord) -> Vec<String> {
        if !action.approvers.is_empty() {
            return action.approvers.clone();
        }
        let kept = self.approvals.get(&action.action_id).into_iter().flatten();
        kept.filter(|approval| approval.plan_hash == action.plan_hash).map(|a| a.actor.clone()).collect()
    }
}

/// A person who asks.
#[derive(Clone, Copy)]
pub(super) struct Person<'a> {
    name: &'a str,
    roles: Roles,
    /// People who want it, this one included.
    approvals: u32,
}

/// What approvals so far are worth.
pub(super) enum Weight {
    Enough(PolicyDecision),
    /// These rules ask for another person.
    OneMore(String),
}

/// In words, with the rules.
fn decision_told(decision: &PolicyDecision) -> String {
    Answer { allowed: decision.allowed, rules: decision.rules.clone() }.told()
}

fn denied(action: &ActionRecord, person: &str, what: &str, answer: &Answer) -> Status {
    let message = format!("the policy does not let `{person}` {what} on `{}`: {}", action.workload, answer.told());
    Status::permission_denied(message)
}

/// The moves that people are told of.
fn told(state: ActionState) -> Option<(NoticeKind, &'static str)> {
    match state {
        ActionState::Paused => Some((NoticeKind::Waits, "is held back")),
        ActionState::Expired => Some((NoticeKind::Expired, "has expired")),
        ActionState::Applied => Some((NoticeKind::Applied, "was applied")),
        ActionState::Failed => Some((NoticeKind::Failed, "has failed")),
        ActionState::RolledBack => Some((NoticeKind::RolledBack, "was rolled back")),
        ActionState::Unspecified
        | ActionState::Proposed
        | ActionState::Approved
        | ActionState::Rejected
        | ActionState::Intended
        | ActionState::Holding
        | ActionState::Verified
        | ActionState::Superseded => None,
    }
}
