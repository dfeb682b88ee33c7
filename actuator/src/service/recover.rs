//! After a start: everything is rebuilt from the topics, and what a crash interrupted is finished.

use std::time::Duration;

use headroom_actuator_decide::audit;
use headroom_ingest_broker::{Broker, BrokerError, Received, Start};
use headroom_proto::time::Span;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, Approval, Outcome, Plan, StageMove, Switch};
use headroom_proto::{EventTime, headers};
use prost::Message;

use super::{Successions, Work};
use crate::ActuatorError;
use crate::workload::Workload;

const POLL: Duration = Duration::from_millis(200);

impl Work {
    /// Replays the records of actions, plans and outcomes; says from where windows and forecasts are to be read.
    pub(super) async fn recover(
        &mut self,
        broker: &Broker,
        actions: Vec<Received>,
    ) -> Result<Vec<(Topic, i32, Start)>, ActuatorError> {
        for record in all(broker, Topic::Plans).await? {
            if let Ok(plan) = Plan::decode(&*record.value) {
                self.known_plans.insert(plan.plan_hash.clone());
                self.lessons.recall_plan(&plan);
                super::workload_of(&mut self.workloads, &plan.workload).take_plan(plan);
            }
        }
        let mut judged = Vec::new();
        for record in all(broker, Topic::Outcomes).await? {
            if let Ok(outcome) = Outcome::decode(&*record.value) {
                self.lessons.recall_outcome(&outcome);
                self.known_outcomes.insert(outcome.action_id.clone());
                judged.push((outcome.action_id, outcome.judgement));
            }
        }
        let (mut switches, mut successions) = (Vec::new(), Successions::default());
        for record in &actions {
            if !successions.take(record) {
                self.replay(record, &successions, &mut switches)?;
            }
        }
        self.accept_what_all_were_resumed_at();
        self.board.recover(switches);
        self.rebuild_tracks(&judged);
        let names: Vec<String> = self.workloads.keys().cloned().collect();
        for name in &names {
            let interrupted = self.workloads.get(name).map(Workload::interrupted).unwrap_or_default();
            for action in interrupted {
                self.drive(&action, EventTime::from_micros(action.at_us)).await?;
            }
            if let Some(workload) = self.workloads.get_mut(name) {
                workload.trim(self.config.kept_records);
            }
        }
        self.lessons.stop_waiting();
        self.flush().await?;
        let earliest = self.workloads.values().map(|w| w.last_decided).filter(|time| *time > EventTime::MIN).min();
        let planners = self.config.planners.values().chain([&self.config.planner]);
        let lead_time = planners.map(|planner| planner.lead_time).max().unwrap_or(Span::from_hours(1));
        // Far enough back to measure again what was being measured.
        let back = |time| time - self.config.hold - lead_time - Span::from_hours(1);
        self.course_until = earliest.map_or(EventTime::MIN, back);
        let forecasts = earliest.map_or(Start::Earliest, |time| Start::At(back(time)));
        let windows = earliest.map_or(Start::Earliest, |time| Start::At(back(time) - self.config.verify.history));
        let mut starts = Vec::new();
        for (topic, start) in [(Topic::Windows, windows), (Topic::Forecasts, forecasts)] {
            starts.extend(broker.ends(topic).await?.into_iter().map(|(partition, _, _)| (topic, partition, start)));
        }
        Ok(starts)
    }

    fn replay(
        &mut self,
        record: &Received,
        successions: &Successions,
        switches: &mut Vec<Switch>,
    ) -> Result<(), ActuatorError> {
        let unreadable = |error: prost::DecodeError| ActuatorError::Unreadable {
            origin: record.origin(),
            problem: error.to_string(),
        };
        match record.header(headers::MESSAGE) {
            Some("Switch") => {
                let switch = Switch::decode(&*record.value).map_err(unreadable)?;
                self.replay_switch(&switch);
                switches.push(switch);
                return Ok(());
            }
            Some("Approval") => {
                let approval = Approval::decode(&*record.value).map_err(unreadable)?;
                self.approvals.entry(approval.action_id.clone()).or_default().push(approval);
                return Ok(());
            }
            Some("StageMove") => {
                self.replay_stage(&StageMove::decode(&*record.value).map_err(unreadable)?);
                return Ok(());
            }
            _ => {}
        }
        let action = ActionRecord::decode(&*record.value).map_err(unreadable)?;
        if !successions.counts(record, action.term) {
            self.counters.set_aside.inc();
            tracing::warn!(origin = record.origin(), "a move of an actuator that had been succeeded does not count");
            return Ok(());
        }
        let workload = super::workload_of(&mut self.workloads, &action.workload);
        audit::verify(&action, workload.sequence, &workload.last_hash)?;
        workload.take(action.clone());
        self.count(&action);
        Ok(())
    }

    /// What was seen during a pause stays undone when it is lifted, and what the target has then is accepted.
    pub(super) fn replay_switch(&mut self, switch: &Switch) {
        let at = EventTime::from_micros(switch.at_us);
        if switch.paused {
            return;
        }
        if switch.workload.is_empty() {
            self.decided_before = self.decided_before.max(at);
        } else {
            let workload = super::workload_of(&mut self.workloads, &switch.workload);
            workload.last_decided = workload.last_decided.max(at);
            workload.accept();
        }
    }

    /// The switch of all is not in order with the moves of each: their times are.
    fn accept_what_all_were_resumed_at(&mut self) {
        let resumed = self.decided_before;
        for workload in self.workloads.values_mut().filter(|workload| workload.last_change <= resumed) {
            workload.accept();
        }
    }
}

/// Every record of a topic, partition by partition.
pub(crate) async fn all(broker: &Broker, topic: Topic) -> Result<Vec<Received>, BrokerError> {
    let mut records = Vec::new();
    for (partition, low, high) in broker.ends(topic).await? {
        if low >= high {
            continue;
        }
        let consumer = broker.consumer("headroom-actuate-recovery")?;
        consumer.assign(&[(topic, partition, Start::Earliest)]).await?;
        let mut next = low;
        while next < high {
            for record in consumer.poll(1_000, POLL).await? {
                next = record.offset + 1;
                records.push(record);
            }
        }
    }
    Ok(records)
}
