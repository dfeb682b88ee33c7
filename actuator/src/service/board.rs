//! The switch that stops automation, of one workload or of all.
//!
//! It does not go through the loop, which may be busy or wait for a slow target: it counts from the moment it is set, and
//! every effect asks it last of all. An effect that had begun by then may finish. The answer comes when the switch is on
//! record, so that it holds after a restart as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headroom_ingest_broker::{Broker, Producer};
use headroom_proto::v1::Switch;
use headroom_proto::{Clock, EventTime};
use tokio::sync::Mutex as Turn;
use tonic::Status;

use crate::journal;
use crate::notify::{Notice, NoticeKind, Notifier};

/// How long the record of a switch may take; the switch itself counts at once.
const RECORD_WITHIN: Duration = Duration::from_secs(10);

/// The switches of all workloads; cheap to clone.
#[derive(Clone)]
pub(crate) struct Board {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    clock: Clock,
    notifier: Notifier,
    /// Who writes.
    holder: String,
    state: Mutex<State>,
    /// One switch at a time, so that the record has them in the order in which they counted.
    producer: Turn<Option<Producer>>,
}

#[derive(Default)]
struct State {
    /// What is stopped, by the workload's name; the empty name stops all.
    stopped: BTreeMap<String, Switch>,
    /// What was switched since the start: it is newer than what the topic tells of the time before.
    touched: BTreeSet<String>,
    /// Counts how often everything was forgotten, to be read again from the topic.
    begun: u64,
    reached: Option<EventTime>,
}

impl Board {
    pub(super) fn new(broker: Broker, clock: Clock, notifier: Notifier, holder: String) -> Self {
        let inner = Inner { broker, clock, notifier, holder, state: Mutex::default(), producer: Turn::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Records go out with the loop's producer, which is connected already.
    pub(super) async fn send_with(&self, producer: Producer) {
        *self.inner.producer.lock().await = Some(producer);
    }

    /// Sets or lifts a switch. It counts at once, and is on record when this returns.
    ///
    /// # Errors
    /// When the record was not acknowledged: the switch counts, until a restart.
    pub(crate) async fn set(&self, switch: Switch) -> Result<(), Status> {
        let begun = self.state().touch(&switch);
        self.inner.notifier.tell(notice(&switch));
        let kept = tokio::time::timeout(RECORD_WITHIN, self.keep(&switch)).await;
        let problem = match kept {
            Ok(Ok(())) => {
                let mut state = self.state();
                if state.begun != begun {
                    state.touch(&switch);
                }
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no acknowledgement within {RECORD_WITHIN:?}"),
        };
        let what = if switch.paused { "stopped" } else { "on" };
        tracing::error!(problem, workload = switch.workload, "the switch is not on record");
        Err(Status::unavailable(format!(
            "automation is {what} now, but that is not on record, and a restart would forget it: {problem}; ask again"
        )))
    }

    /// Stops a workload, or all under the empty name.
    ///
    /// # Errors
    /// See [`Self::set`].
    pub(crate) async fn stop(&self, workload: &str, actor: &str, reason: &str) -> Result<(), Status> {
        let at = self.state().reached.unwrap_or(EventTime::MIN).max(self.inner.clock.now());
        let switch = Switch {
            workload: workload.to_owned(),
            paused: true,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            at_us: at.micros().max(0),
            cause: "person".to_owned(),
            ..Switch::default()
        };
        self.set(switch).await
    }

    async fn keep(&self, switch: &Switch) -> Result<(), headroom_ingest_broker::BrokerError> {
        let mut kept = self.inner.producer.lock().await;
        let producer = match kept.take() {
            Some(producer) => producer,
            None => self.inner.broker.producer()?,
        };
        let sent = producer.send_all(vec![journal::switch(switch, &self.inner.holder)]).await;
        *kept = Some(producer);
        sent
    }

    /// Who writes what is switched here.
    pub(super) fn holder(&self) -> &str {
        &self.inner.holder
    }

    /// Forgets what is on the topic, which is read again now. A record on its way is waited for.
    pub(super) async fn begin(&self) {
        let _written = self.inner.producer.lock().await;
        let mut state = self.state();
        state.stopped.clear();
        state.touched.clear();
        state.begun += 1;
    }

    /// Takes in a switch that another actuator has written, and told people of.
    pub(super) fn hear(&self, switch: Switch) {
        self.state().put(switch);
    }

    /// The switch that stops a workload.
    pub(crate) fn stopped(&self, workload: &str) -> Option<Switch> {
        let state = self.state();
        state.stopped.get("").or_else(|| state.stopped.get(workload)).cloned()
    }

    /// Is anything stopped?
    pub(super) fn is_any_stopped(&self) -> bool {
        !self.state().stopped.is_empty()
    }

    /// Takes in what the topic tells of the time before the start.
    pub(super) fn recover(&self, switches: impl IntoIterator<Item = Switch>) {
        let mut state = self.state();
        for switch in switches {
            if state.touched.contains(&switch.workload) {
                continue;
            }
            state.put(switch);
        }
    }

    /// Event time has come this far.
    pub(super) fn reach(&self, reached: Option<EventTime>) {
        let mut state = self.state();
        state.reached = state.reached.max(reached);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, switch: Switch) {
        if switch.paused {
            self.stopped.insert(switch.workload.clone(), switch);
        } else {
            self.stopped.remove(&switch.workload);
        }
    }

    /// Switched here and now; gives the number of the beginning that this belongs to.
    fn touch(&mut self, switch: &Switch) -> u64 {
        self.touched.insert(switch.workload.clone());
        self.put(switch.clone());
        self.begun
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("stopped", &self.state().stopped.keys()).finish_non_exhaustive()
    }
}

fn notice(switch: &Switch) -> Notice {
    let scope = if switch.workload.is_empty() { "every workload" } else { switch.workload.as_str() };
    let because = if switch.reason.is_empty() { String::new() } else { format!(": {}", switch.reason) };
    let (kind, what) = match (switch.paused, switch.cause.as_str()) {
        (true, "person") => (NoticeKind::KillSwitch, "stopped"),
        (true, _) => (NoticeKind::Paused, "paused"),
        (false, _) => (NoticeKind::Resumed, "on again"),
    };
    Notice::new(kind, &switch.workload, EventTime::from_micros(switch.at_us))
        .with("actor", &switch.actor)
        .with("cause", &switch.cause)
        .with("reason", &switch.reason)
        .saying(format!("automation of {scope} is {what}, by {}{because}", switch.actor))
}
