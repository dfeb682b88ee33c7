//! Tells people elsewhere what happens, by webhook: what waits for them, what was done, what went wrong, what is stopped.
//!
//! The loop only puts a notice into a queue that has an end; each receiver has a queue and a task of its own. What a
//! receiver does not take after some attempts, or what finds its queue full, is dropped, counted and logged. The record
//! of what happened is on the topics; a notice is a convenience.

mod body;
mod delivery;
mod settings;

use std::collections::BTreeMap;

use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, StageMove};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub(crate) use delivery::Courier;
pub use settings::{NotifyConfig, NotifyFormat};

/// Notices that wait for one receiver.
const QUEUE: usize = 256;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A plan waits for a person.
    Waits,
    /// One of several people has approved a plan; it waits for another.
    Approved,
    /// Nobody has decided on a plan in time.
    Expired,
    /// A change was applied.
    Applied,
    /// A change, or its verification, has failed.
    Failed,
    /// A change was rolled back.
    RolledBack,
    /// A stage was lost.
    StageLost,
    /// A stage was earned.
    StageEarned,
    /// Automation of a workload pauses by itself.
    Paused,
    /// A person has stopped automation.
    KillSwitch,
    /// Automation goes on.
    Resumed,
}

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) kind: NoticeKind,
    pub(crate) workload: String,
    pub(crate) at: EventTime,
    /// In plain words.
    pub(crate) text: String,
    pub(crate) facts: BTreeMap<&'static str, String>,
}

/// Where notices go; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notifier {
    receivers: Vec<Receiver>,
    counters: NoticeCounters,
}

#[derive(Clone, Debug)]
struct Receiver {
    kinds: Vec<NoticeKind>,
    queue: mpsc::Sender<Notice>,
}

/// Counted since the start, over all receivers.
#[derive(Clone, Debug, Default)]
pub(crate) struct NoticeCounters {
    /// Taken by a receiver.
    pub(crate) delivered: Counter,
    /// Dropped: a full queue, or no attempt has succeeded.
    pub(crate) dropped: Counter,
}

impl NoticeKind {
    /// The kind's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Approved => "approved",
            Self::Expired => "expired",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::StageLost => "stage_lost",
            Self::StageEarned => "stage_earned",
            Self::Paused => "paused",
            Self::KillSwitch => "kill_switch",
            Self::Resumed => "resumed",
        }
    }
}

impl Notifier {
    /// The queues to the receivers, and who empties each.
    pub(crate) fn new(configs: &[NotifyConfig], registry: &mut Registry) -> (Self, Vec<Courier>) {
        let counters = NoticeCounters::default();
        for (name, help, counter) in [
            ("headroom_actuate_notices_delivered", "notices that a receiver has taken", &counters.delivered),
            ("headroom_actuate_notices_dropped", "notices that no receiver has taken", &counters.dropped),
        ] {
            registry.register(name, help, counter.clone());
        }
        let mut receivers = Vec::new();
        let mut couriers = Vec::new();
        for (at, config) in configs.iter().enumerate() {
            let (queue, waiting) = mpsc::channel(QUEUE);
            receivers.push(Receiver { kinds: config.kinds.clone(), queue });
            couriers.push(Courier::new(at, config.clone(), waiting, counters.clone()));
        }
        (Self { receivers, counters }, couriers)
    }

    /// Puts a notice into every queue that wants it. Never waits.
    pub(crate) fn tell(&self, notice: Notice) {
        for (at, receiver) in self.receivers.iter().enumerate() {
            if !receiver.kinds.is_empty() && !receiver.kinds.contains(&notice.kind) {
                continue;
            }
            if receiver.queue.try_send(notice.clone()).is_err() {
                self.counters.dropped.inc();
                tracing::warn!(receiver = at, kind = notice.kind.name(), "its queue is full: a notice is dropped");
            }
        }
    }
}

impl Notice {
    pub(crate) fn new(kind: NoticeKind, workload: &str, at: EventTime) -> Self {
        Self { kind, workload: workload.to_owned(), at, text: String::new(), facts: BTreeMap::new() }
    }

    /// With a fact beside the words; one that is empty is left out.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            self.facts.insert(name, value.to_owned());
        }
        self
    }

    pub(crate) fn saying(mut self, text: String) -> Self {
        self.text = text;
        self
    }

    /// About an action, with what one needs to find it and to decide.
    pub(crate) fn of_action(kind: NoticeKind, action: &ActionRecord, text: String) -> Self {
        Self::new(kind, &action.workload, EventTime::from_micros(action.at_us))
            .with("action_id", &action.action_id)
            .with("plan_id", &action.plan_id)
            .with("plan_hash", &action.plan_hash)
            .with("units", &format!("{} -> {}", action.units_before, action.units_after))
            .with("target", &action.target)
            .with("risk", &action.risk)
            .with("actor", &action.actor)
            .with("reason", &action.reason)
            .saying(text)
    }

    /// About a stage that was earned or lost.
    pub(crate) fn of_stage(moved: &StageMove, is_lost: bool) -> Self {
        let kind = if is_lost { NoticeKind::StageLost } else { NoticeKind::StageEarned };
        let what = if is_lost { "lost" } else { "earned" };
        let StageMove { workload, kind: of, from, to, reason, at_us, .. } = moved;
        Self::new(kind, workload, EventTime::from_micros(*at_us))
            .with("action_kind", of)
            .with("from", from)
            .with("to", to)
            .with("reason", reason)
            .saying(format!("{workload}: {of} has {what} its stage, {from} -> {to}: {reason}"))
    }
}

#[cfg(test)]
mod tests;
