//! What is known of one workload: its actions and their chain, what waits to be decided, and what is being measured.

use std::collections::{BTreeMap, VecDeque};

use headroom_actuator_decide::judgement::{Judgement, Measured, Purpose, judge};
use headroom_actuator_decide::shadow::Shadow;
use headroom_actuator_decide::stage::Kind;
use headroom_actuator_decide::verify::Evidence;
use headroom_actuator_decide::{audit, protocol, transition};
use headroom_proto::v1::{ActionRecord, ActionState, Forecast, Outcome, Plan, PolicyDecision};
use headroom_proto::{EventTime, Span};
use tokio::time::Instant;

use crate::TargetState;
use crate::course::Course;
use crate::service::Unsure;

/// Who has permitted what no person has.
pub(crate) const POLICY: &str = "policy";

/// One workload.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) sequence: u64,
    pub(crate) last_hash: String,
    /// The newest record of each action, by the action's id, in the order of their beginning.
    actions: VecDeque<ActionRecord>,
    pub(crate) plans: VecDeque<Plan>,
    /// Units commanded so far; none until the target was asked.
    pub(crate) commanded: Option<u32>,
    /// What the target reported at that time; asked again when the time has moved on or something was changed.
    pub(crate) reported: Option<(EventTime, TargetState)>,
    /// What the target said at the newest window.
    pub(crate) seen: Option<TargetState>,
    /// Its units on paper, were every plan carried out at once.
    pub(crate) shadow: Option<Shadow>,
    /// What the last change left at the target; none when that is not known, or a person has accepted another base.
    pub(crate) left: Option<Left>,
    /// What the policies said of each action, by its id.
    decisions: BTreeMap<String, Vec<PolicyDecision>>,
    /// Rollbacks that the target has not taken yet, in the order in which it is to take them.
    pub(crate) unfinished: VecDeque<ActionRecord>,
    /// The rollback that lets work go first, and since when.
    pub(crate) undo_drains: Option<(String, Instant)>,
    /// The change that may have happened: nothing is decided until that is known.
    pub(crate) unsure: Option<Unsure>,
    pub(crate) last_change: EventTime,
    /// The actions that were rolled back since one was applied, in order.
    undone: Vec<String>,
    pub(crate) last_decided: EventTime,
    /// Loads of closed windows by their end, with when they came.
    pub(crate) windows: BTreeMap<i64, (f64, Instant)>,
    pub(crate) forecasts: BTreeMap<i64, Forecast>,
    pub(crate) measuring: Option<Measuring>,
    /// What its windows said.
    pub(crate) course: Course,
    pub(crate) last_load: f64,
    pub(crate) verdict: String,
}

/// What a change left at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) units: u32,
    /// In the target's own words; empty when it is not known.
    pub(crate) value: String,
    pub(crate) action_id: String,
}

impl Left {
    /// Does the target still have it?
    pub(crate) fn is_as(&self, state: &TargetState) -> bool {
        self.units == state.commanded && (self.value.is_empty() || self.value == state.value)
    }
}

/// An action whose effect is being measured.
#[derive(Debug)]
pub(crate) struct Measuring {
    pub(crate) action: ActionRecord,
    pub(crate) from: EventTime,
    pub(crate) until: EventTime,
    peak: f64,
    sum: f64,
    windows: u32,
    peak_utilisation: f64,
    violation_minutes: f64,
    /// The same on the units before.
    without: Without,
    /// What speaks against it, and the name of the guard that is worst.
    pub(crate) evidence: Evidence,
    pub(crate) worst_guard: String,
}

/// What the same load would have done to the units before the action: an estimate.
#[derive(Clone, Copy, Debug, Default)]
struct Without {
    peak_utilisation: f64,
    violation_minutes: f64,
    /// Windows whose units were saturated: they served less than was asked for.
    saturated: u32,
}

/// How a window was borne: by the units that were ready, and by those before the action.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Borne {
    pub(crate) utilisation: f64,
    pub(crate) utilisation_without: f64,
    /// Above it users suffer.
    pub(crate) violation: f64,
    pub(crate) minutes: f64,
}

impl Workload {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sequence: 0,
            last_hash: String::new(),
            actions: VecDeque::new(),
            plans: VecDeque::new(),
            commanded: None,
            reported: None,
            seen: None,
            shadow: None,
            left: None,
            decisions: BTreeMap::new(),
            unfinished: VecDeque::new(),
            undo_drains: None,
            unsure: None,
            last_change: EventTime::MIN,
            undone: Vec::new(),
            last_decided: EventTime::MIN,
            windows: BTreeMap::new(),
            forecasts: BTreeMap::new(),
            measuring: None,
            course: Course::default(),
            last_load: 0.0,
            verdict: "none".to_owned(),
        }
    }

    /// The next move of an action, chained to the one before.
    pub(crate) fn moved(
        &mut self,
        action: &ActionRecord,
        to: ActionState,
        at: EventTime,
        actor: &str,
        reason: String,
    ) -> Result<ActionRecord, transition::IllegalMove> {
        let known = self.action(&action.action_id).map_or(ActionState::Unspecified, ActionRecord::state);
        transition::check(known, to)?;
        let permitted_by = if to == ActionState::Approved {
            actor.to_owned()
        } else {
            self.action(&action.action_id).map(|known| known.permitted_by.clone()).unwrap_or_default()
        };
        let record = ActionRecord {
            sequence: self.sequence + 1,
            permitted_by,
            decision: action.decision.clone().filter(|_| matches!(to, ActionState::Proposed | ActionState::Approved)),
            target_value: if to == ActionState::RolledBack { String::new() } else { action.target_value.clone() },
            state: to.into(),
            previous_state: known.into(),
            at_us: at.micros(),
            actor: actor.to_owned(),
            reason,
            ..action.clone()
        };
        let record = audit::sealed(record, &self.last_hash);
        self.take(record.clone());
        Ok(record)
    }

    /// Takes in a record of the chain, new or replayed.
    pub(crate) fn take(&mut self, record: ActionRecord) {
        self.sequence = record.sequence;
        self.last_hash.clone_from(&record.hash);
        let units = match record.state() {
            ActionState::Applied => Some(record.units_after),
            ActionState::RolledBack => Some(record.undo_units),
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
        if record.state() != ActionState::Intended {
            self.unsure = self.unsure.take().filter(|unsure| unsure.action_id != record.action_id);
        }
        if record.state() == ActionState::Failed {
            // It may have had an effect all the same.
            self.commanded = None;
            self.left = None;
        }
        if let Some(decision) = &record.decision {
            self.decisions.entry(record.action_id.clone()).or_default().push(decision.clone());
        }
        if let Some(units) = units {
            let (value, action_id) = (record.target_value.clone(), record.action_id.clone());
            self.left = Some(Left { units, value, action_id });
            self.commanded = Some(units);
            self.last_change = EventTime::from_micros(record.at_us);
        }
        if record.state() == ActionState::Applied {
            self.undone.clear();
        } else if record.state() == ActionState::RolledBack {
            self.undone.push(record.action_id.clone());
        }
        self.last_decided = self.last_decided.max(EventTime::from_micros(decided_by(&record)));
        match self.actions.iter_mut().find(|known| known.action_id == record.action_id) {
            Some(known) => *known = record,
            None => self.actions.push_back(record),
        }
    }

    /// Forgets the oldest of what has ended.
    pub(crate) fn trim(&mut self, limit: usize) {
        while self.actions.len() > limit {
            let Some(oldest) = self.actions.iter().position(is_over) else { break };
            if let Some(forgotten) = self.actions.remove(oldest) {
                self.decisions.remove(&forgotten.action_id);
            }
        }
        while self.plans.len() > limit {
            self.plans.pop_front();
        }
    }

    pub(crate) fn action(&self, id: &str) -> Option<&ActionRecord> {
        self.actions.iter().rev().find(|action| action.action_id == id)
    }

    pub(crate) fn action_of_plan(&self, plan_id: &str) -> Option<&ActionRecord> {
        self.actions.iter().rev().find(|action| action.plan_id == plan_id)
    }

    /// What a crash may have interrupted: the rollbacks that nothing was applied after, in their order, then what is not
    /// over, oldest first.
    pub(crate) fn interrupted(&self) -> Vec<ActionRecord> {
        let undone = self.undone.iter().filter_map(|id| self.action(id));
        undone.chain(self.actions.iter().filter(|action| !is_over(action))).cloned().collect()
    }

    /// It was rolled back, and nothing was applied since.
    pub(crate) fn is_undone_last(&self, action: &ActionRecord) -> bool {
        self.undone.contains(&action.action_id)
    }

    /// The action of that id and those that began after it, newest first.
    pub(crate) fn since(&self, action_id: &str) -> Vec<ActionRecord> {
        let first = self.actions.iter().position(|action| action.action_id == action_id);
        first.map(|first| self.actions.iter().skip(first).rev().cloned().collect()).unwrap_or_default()
    }

    /// The earliest action that meets a condition.
    pub(crate) fn earliest(&self, is_meant: impl Fn(&ActionRecord) -> bool) -> Option<&ActionRecord> {
        self.actions.iter().find(|action| is_meant(action))
    }

    /// What the policies said at the moves of an action, oldest first.
    pub(crate) fn decisions_of(&self, action_id: &str) -> Vec<PolicyDecision> {
        self.decisions.get(action_id).cloned().unwrap_or_default()
    }

    /// Can the newest forecast be planned with?
    pub(crate) fn is_trusted(&self) -> bool {
        matches!(self.verdict.as_str(), "fresh" | "suspect")
    }

    /// Is something on the record that the target has not taken?
    pub(crate) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// The target says in its own words what the last change left.
    pub(crate) fn is_left(&mut self, value: &str) {
        if let Some(left) = &mut self.left {
            value.clone_into(&mut left.value);
        }
    }

    /// What the target has is accepted, whatever it is.
    pub(crate) fn accept(&mut self) {
        self.left = None;
        self.commanded = None;
    }

    /// Takes a plan in; one of the same window takes the place of the one before.
    pub(crate) fn take_plan(&mut self, plan: Plan) {
        self.plans.retain(|known| known.plan_id != plan.plan_id);
        self.plans.push_back(plan);
    }

    /// Newest first.
    pub(crate) fn actions(&self) -> impl Iterator<Item = &ActionRecord> {
        self.actions.iter().rev()
    }

    /// The action that waits for a person.
    pub(crate) fn waiting(&self) -> Option<&ActionRecord> {
        self.actions.iter().rev().find(|action| protocol::is_waiting(action.state()))
    }

    /// The earliest window that waits for a decision, when its forecast is there or will not come.
    pub(crate) fn due(&mut self, patience: std::time::Duration) -> Option<(EventTime, f64, Option<Forecast>)> {
        if self.unsure.is_some() {
            return None;
        }
        let (end_us, (load, came)) = self.windows.first_key_value().map(|(end, window)| (*end, *window))?;
        let has_forecast = self.forecasts.contains_key(&end_us);
        let passed = self.forecasts.last_key_value().is_some_and(|(origin, _)| *origin > end_us);
        if !has_forecast && !passed && came.elapsed() < patience {
            return None;
        }
        self.windows.remove(&end_us);
        let forecast = self.forecasts.remove(&end_us);
        self.forecasts = self.forecasts.split_off(&end_us);
        Some((EventTime::from_micros(end_us), load, forecast))
    }
}

/// Up to when everything was decided once this record is there. A person's moves and what follows from them come behind
/// the decision of their time; those of the verifier come before it.
fn decided_by(record: &ActionRecord) -> i64 {
    use ActionState::{Applied, Approved, Intended, Rejected, RolledBack};
    let is_behind = matches!(record.state(), Approved | Rejected | Intended | Applied | RolledBack);
    if is_behind { record.at_us } else { record.decided_at_us }
}

fn is_over(action: &ActionRecord) -> bool {
    protocol::is_over(action.state())
}

impl Measuring {
    pub(crate) fn new(action: ActionRecord, from: EventTime, until: EventTime) -> Self {
        Self {
            action,
            from,
            until,
            peak: 0.0,
            sum: 0.0,
            windows: 0,
            peak_utilisation: 0.0,
            violation_minutes: 0.0,
            without: Without::default(),
            evidence: Evidence::default(),
            worst_guard: String::new(),
        }
    }

    /// Adds a closed window: its load, and how it was borne.
    pub(crate) fn add(&mut self, end: EventTime, load: f64, borne: Borne) {
        if end <= self.from || end > self.until || !load.is_finite() {
            return;
        }
        self.peak = self.peak.max(load);
        self.sum += load;
        self.windows += 1;
        let minutes_above = |utilisation: f64| if utilisation > borne.violation { borne.minutes } else { 0.0 };
        self.peak_utilisation = self.peak_utilisation.max(borne.utilisation);
        self.violation_minutes += minutes_above(borne.utilisation);
        self.without.peak_utilisation = self.without.peak_utilisation.max(borne.utilisation_without);
        self.without.violation_minutes += minutes_above(borne.utilisation_without);
        self.without.saturated += u32::from(borne.utilisation >= 1.0);
    }

    /// How the estimate of what would have happened without the action was made.
    fn method(&self) -> String {
        let units = self.action.units_before;
        let plural = if units == 1 { "" } else { "s" };
        let same = format!("estimate: the same load on the {units} unit{plural} before");
        match self.without.saturated {
            0 => same,
            windows => format!("{same}; more was asked for than was served in {windows} windows of saturated units"),
        }
    }

    fn judged(&self, target_utilisation: f64) -> Judgement {
        let measured = Measured {
            windows: self.windows,
            peak: self.peak,
            peak_utilisation: self.peak_utilisation,
            peak_utilisation_without: self.without.peak_utilisation,
            violation_minutes: self.violation_minutes,
            is_harmful: self.evidence.is_harmful,
        };
        let (expected_low, needed_at_once) = (self.action.expected_low, self.action.needed_now);
        let kind = Kind::of(self.action.units_before, self.action.units_after);
        judge(kind, &measured, &Purpose { target_utilisation, expected_low, needed_at_once })
    }

    /// The outcome, measured up to `at` at the latest.
    pub(crate) fn outcome(&self, at: EventTime, window: Span, target_utilisation: f64) -> Outcome {
        let to = self.until.min(at).max(self.from);
        #[expect(clippy::cast_precision_loss, reason = "windows of some hours")]
        let expected = (to - self.from).steps(window) as f64;
        let seen = f64::from(self.windows);
        let judgement = self.judged(target_utilisation).name();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes of some hours")]
        let violation_minutes = self.violation_minutes.round() as u32;
        Outcome {
            action_id: self.action.action_id.clone(),
            workload: self.action.workload.clone(),
            measured_from_us: self.from.micros(),
            measured_to_us: to.micros(),
            expected_peak: self.action.expected_peak,
            observed_peak: self.peak,
            observed_mean: if self.windows == 0 { 0.0 } else { self.sum / seen },
            units: self.action.units_after,
            peak_utilisation: self.peak_utilisation,
            violation_minutes,
            completeness: if expected > 0.0 { (seen / expected).min(1.0) } else { 0.0 },
            signal_ids: self.action.signal_ids.clone(),
            model_version: self.action.model_version.clone(),
            judgement: judgement.to_owned(),
            counterfactual_violation_minutes: self.without.violation_minutes,
            counterfactual_peak_utilisation: self.without.peak_utilisation,
            counterfactual_method: self.method(),
            e_value: self.evidence.e_value,
            worst_guard: self.worst_guard.clone(),
            guard_observed: self.evidence.observed,
            guard_usual: self.evidence.usual,
            references: u32::try_from(self.evidence.references).unwrap_or(u32::MAX),
            ..Outcome::default()
        }
    }
}
