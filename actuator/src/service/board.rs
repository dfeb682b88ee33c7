//! The switch that stops automation, of one workload or of all.
//!
//! It does not go through the loop, which may be busy or wait for a slow target: it counts from the moment it is set, and
//! every effect asks it last of all. An effect that had begun by then may finish. The answer comes when the switch is on
//! record, so that it holds after a restart as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headroom_ingest_broker::{Broker, Producer};
use headroom_proto::v1::{Switch, SwitchState};
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
    /// The workloads that have appeared, or that the settings name.
    known: BTreeSet<String>,
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

    /// Every switch that is set.
    pub(crate) fn all_stopped(&self) -> Vec<SwitchState> {
        let state = self.state();
        let shown = |switch: &Switch| SwitchState {
            paused: true,
            workload: switch.workload.clone(),
            actor: switch.actor.clone(),
            reason: switch.reason.clone(),
            warning: state.unknown(&switch.workload),
        };
        state.stopped.values().map(shown).collect()
    }

    /// What is stopped, in words; empty when nothing is.
    pub(super) fn told(&self) -> String {
        let stopped = self.state().stopped.keys().cloned().collect::<Vec<_>>();
        match stopped.first() {
            None => String::new(),
            Some(all) if all.is_empty() => "all automation is paused".to_owned(),
            Some(_) => format!("automation of {} is paused", stopped.join(", ")),
        }
    }

    /// These workloads exist.
    pub(super) fn know<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let mut state = self.state();
        for name in names {
            if !state.known.contains(name) {
                state.known.insert(name.clone());
            }
        }
    }

    /// What a person who is about to set or lift that switch should know; mostly nothing.
    pub(crate) fn warning(&self, workload: &str, paused: bool) -> String {
        let state = self.state();
        if paused {
            return state.unknown(workload);
        }
        if !workload.is_empty() && state.stopped.contains_key("") {
            return "every workload is paused: `headroom resume` without a name lets automation go on".to_owned();
        }
        let names: Vec<&str> = state.stopped.keys().map(String::as_str).collect();
        if workload.is_empty() && !names.is_empty() && !names.contains(&"") {
            return format!("what is paused by itself stays so: {}", names.join(", "));
        }
        if !workload.is_empty() && !names.contains(&workload) {
            let paused = if names.is_empty() { "nothing is".to_owned() } else { format!("{} is", names.join(", ")) };
            return format!("automation of `{workload}` was not paused: {paused}");
        }
        String::new()
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
    /// That a workload has not appeared, which a wrong name would not either; empty when it has.
    fn unknown(&self, workload: &str) -> String {
        if workload.is_empty() || self.known.contains(workload) {
            return String::new();
        }
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        let known = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
        format!("no workload `{workload}` has appeared: it is paused from its first window on; known are: {known}")
    }

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
