//! Finds what is on record of an action, a plan or a workload.

use headroom_actuator_decide::story::record_of;
use headroom_ingest_broker::{Broker, BrokerError, Received};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, Outcome, Plan, Signal, Switch};
use headroom_proto::{EventTime, headers, signal};
use prost::Message;
use serde_json::{Value, json};

use crate::service::{Successions, all};

/// What the topics hold.
pub(super) struct Known {
    moves: Vec<ActionRecord>,
    plans: Vec<Plan>,
    outcomes: Vec<Outcome>,
    switches: Vec<Switch>,
}

impl Known {
    pub(super) async fn read(broker: &Broker) -> Result<Self, BrokerError> {
        let mut successions = Successions::default();
        let mut actions = all(broker, Topic::Actions).await?;
        actions.retain(|record| !successions.take(record) && is_counted(&successions, record));
        let (moves, switches) = (decoded(&actions, "ActionRecord"), decoded(&actions, "Switch"));
        let plans = decoded(&all(broker, Topic::Plans).await?, "Plan");
        let outcomes = decoded(&all(broker, Topic::Outcomes).await?, "Outcome");
        Ok(Self { moves, plans, outcomes, switches })
    }

    /// A plan by its id, or by that of one of its actions; the newest of its window.
    pub(super) fn plan(&self, id: &str) -> Option<&Plan> {
        let of_action = self.moves.iter().find(|record| record.action_id == id);
        let (id, hash) = of_action.map_or((id, ""), |record| (record.plan_id.as_str(), record.plan_hash.as_str()));
        let exact = self.plans.iter().rfind(|plan| plan.plan_id == id && plan.plan_hash == hash);
        exact.or_else(|| self.plans.iter().rfind(|plan| plan.plan_id == id))
    }

    pub(super) fn moves_of_plan(&self, plan_id: &str) -> Vec<ActionRecord> {
        self.moves.iter().filter(|record| record.plan_id == plan_id).cloned().collect()
    }

    pub(super) fn outcomes_of(&self, moves: &[ActionRecord]) -> Vec<Outcome> {
        let is_of = |outcome: &&Outcome| moves.iter().any(|record| record.action_id == outcome.action_id);
        self.outcomes.iter().filter(is_of).cloned().collect()
    }

    /// The record of an action or plan, or of all actions of a workload with who stopped it and when, in words and as a
    /// document.
    pub(super) fn show(&self, id: &str) -> Option<(String, Value)> {
        let is_meant = |record: &&ActionRecord| record.action_id == id || record.plan_id == id || record.workload == id;
        let mut ids: Vec<&str> = Vec::new();
        for record in self.moves.iter().filter(is_meant) {
            if !ids.contains(&record.action_id.as_str()) {
                ids.push(&record.action_id);
            }
        }
        let shown: Vec<(String, Value)> = ids.into_iter().filter_map(|id| self.action(id)).collect();
        let switches = self.switches_of(id);
        if shown.is_empty() && switches.is_empty() {
            let plan = self.plan(id)?;
            let would = if plan.would.is_empty() { String::new() } else { format!("; {}", plan.would) };
            let text = format!("Plan {} of {}: no action followed from it{would}.\n", plan.plan_id, plan.workload);
            return Some((text, json!({ "plan": plan, "actions": [] })));
        }
        let (mut texts, documents): (Vec<String>, Vec<Value>) = shown.into_iter().unzip();
        if !switches.is_empty() {
            texts.push(switches.iter().map(|switch| told(switch)).collect());
        }
        Some((texts.join("\n"), json!({ "actions": documents, "switches": switches })))
    }

    /// The switches that a workload has had, with those of all workloads; none where the name is not one of a workload.
    fn switches_of(&self, workload: &str) -> Vec<&Switch> {
        let is_known = self.moves.iter().any(|record| record.workload == workload)
            || self.plans.iter().any(|plan| plan.workload == workload)
            || self.switches.iter().any(|switch| switch.workload == workload);
        let concerns = |switch: &&Switch| is_known && (switch.workload == workload || switch.workload.is_empty());
        let mut switches: Vec<&Switch> = self.switches.iter().filter(concerns).collect();
        switches.sort_by_key(|switch| switch.at_us);
        switches
    }

    fn action(&self, action_id: &str) -> Option<(String, Value)> {
        let moves: Vec<ActionRecord> =
            self.moves.iter().filter(|record| record.action_id == action_id).cloned().collect();
        let outcome = self.outcomes.iter().rfind(|outcome| outcome.action_id == action_id);
        record_of(&moves, self.plan(action_id), outcome)
    }
}

/// The signals that a plan's forecast used, in the revision that it knew.
pub(super) async fn signals(broker: &Broker, plan: &Plan) -> Result<Vec<Signal>, BrokerError> {
    if plan.signals.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Vec<Signal> = Vec::new();
    for record in all(broker, Topic::Signals).await? {
        let at = record.time.unwrap_or(EventTime::from_micros(0));
        let Ok(signal) = signal::from_record(&record.headers, &record.value, at) else { continue };
        let is_used = |used: &headroom_proto::v1::SignalUse| {
            used.signal_id == signal.signal_id && used.revision == signal.revision
        };
        if plan.signals.iter().any(is_used) && found.iter().all(|known| known.signal_id != signal.signal_id) {
            found.push(signal);
        }
    }
    Ok(found)
}

/// A switch in a line.
fn told(switch: &Switch) -> String {
    let Switch { workload, actor, reason, cause, .. } = switch;
    let scope = if workload.is_empty() { "every workload" } else { workload.as_str() };
    let what = if switch.paused { "paused" } else { "on again" };
    let cause = if cause.is_empty() || cause == "person" { String::new() } else { format!(" ({cause})") };
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let at = EventTime::from_micros(switch.at_us);
    format!("  {at} automation of {scope} {what} by {actor}{cause}{because}\n")
}

fn decoded<M: Message + Default>(records: &[Received], message: &str) -> Vec<M> {
    let of_it = records.iter().filter(|record| record.header(headers::MESSAGE) == Some(message));
    of_it.filter_map(|record| M::decode(&*record.value).ok()).collect()
}

/// A move of an actuator that had been succeeded is none.
fn is_counted(successions: &Successions, record: &Received) -> bool {
    record.header(headers::MESSAGE) != Some("ActionRecord")
        || ActionRecord::decode(&*record.value).is_ok_and(|action| successions.counts(record, action.term))
}
