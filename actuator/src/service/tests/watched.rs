//! A target that can be watched, and told to go wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use headroom_ingest_broker::Broker;
use headroom_proto::EventTime;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, ActionState};
use prost::Message;

use super::ground::records;
use crate::targets::simulated::SimulatedTarget;
use crate::{Applied, ApplyRequest, Drain, Fault, Target, TargetError, TargetState};

/// The simulated target, with a record of what it was asked. It can be told to refuse.
pub(super) struct Watched {
    pub(super) inner: SimulatedTarget,
    file: PathBuf,
    broker: Broker,
    refuses: AtomicBool,
    away: AtomicBool,
    /// Answers that get lost from now on.
    losing: AtomicUsize,
    /// Workloads whose units are slow to go, with those that are there still.
    held: Mutex<BTreeMap<String, u32>>,
    /// No more units than these come to serve.
    sick: AtomicU32,
    /// How often it says yet that work is left on what a release takes away.
    draining: AtomicUsize,
    asked: Mutex<Vec<Asked>>,
}

/// A change that was asked of the target, and the state of its action on the topic at that moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) key: String,
    pub(super) units: u32,
    pub(super) on_record: Option<ActionState>,
}

impl Watched {
    pub(super) fn new(inner: SimulatedTarget, file: PathBuf, broker: Broker) -> Self {
        Self {
            inner,
            file,
            broker,
            refuses: AtomicBool::new(false),
            away: AtomicBool::new(false),
            losing: AtomicUsize::new(0),
            held: Mutex::default(),
            sick: AtomicU32::new(u32::MAX),
            draining: AtomicUsize::new(0),
            asked: Mutex::default(),
        }
    }

    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Lets it answer nothing at all.
    pub(super) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Does what it is asked, and lets that many answers get lost.
    pub(super) fn lose(&self, answers: usize) {
        self.losing.store(answers, Ordering::SeqCst);
    }

    /// Work is left on what a release takes away, as often as that.
    pub(super) fn drain_slowly(&self, answers: usize) {
        self.draining.store(answers, Ordering::SeqCst);
    }

    /// How often it would still say that work is left.
    pub(super) fn drains_left(&self) -> usize {
        self.draining.load(Ordering::SeqCst)
    }

    /// So many units of a workload are there still, whatever was asked for; none lets them go.
    pub(super) fn hold_units(&self, workload: &str, units: Option<u32>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|name, _| name != workload);
        held.extend(units.map(|units| (workload.to_owned(), units)));
    }

    /// No more units than these come to serve.
    pub(super) fn is_sick(&self, units: u32) {
        self.sick.store(units, Ordering::SeqCst);
    }

    /// What it was asked, repeats included, in order.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keys of the changes that had an effect on a workload, in order.
    pub(super) fn effects(&self, workload: &str) -> Vec<String> {
        let Ok(bytes) = std::fs::read(&self.file) else { return Vec::new() };
        let all: BTreeMap<String, Vec<serde_json::Value>> = serde_json::from_slice(&bytes).expect("its state is JSON");
        let key = |change: &serde_json::Value| change["key"].as_str().expect("a key").to_owned();
        all.get(workload).map(|changes| changes.iter().map(key).collect()).unwrap_or_default()
    }

    /// The newest state on the topic of the action that this change belongs to.
    async fn on_record(&self, key: &str) -> Option<ActionState> {
        let key = key.trim_end_matches("/rollback");
        let records = records(&self.broker, Topic::Actions).await;
        let moves = records.iter().filter_map(|record| ActionRecord::decode(&*record.value).ok());
        moves.filter(|record| record.idempotency_key == key).last().map(|record| record.state())
    }
}

#[async_trait]
impl Target for Watched {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn apply(&self, request: &ApplyRequest) -> Result<Applied, TargetError> {
        let on_record = self.on_record(&request.idempotency_key).await;
        let asked = Asked { key: request.idempotency_key.clone(), units: request.units, on_record };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        if self.refuses.load(Ordering::SeqCst) {
            let (target, problem) = (self.name().to_owned(), "told to refuse".to_owned());
            return Err(TargetError { target, fault: Fault::Away, problem });
        }
        let applied = self.inner.apply(request).await?;
        let is_lost = self.losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if is_lost {
            let (target, problem) = (self.name().to_owned(), "the connection was cut".to_owned());
            return Err(TargetError { target, fault: Fault::Slow, problem });
        }
        Ok(applied)
    }

    fn drains_within(&self) -> Option<Duration> {
        Some(Duration::from_millis(2_500))
    }

    async fn drain(&self, _request: &ApplyRequest) -> Result<Drain, TargetError> {
        let left = |left: usize| left.checked_sub(1);
        let is_left = self.draining.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok();
        Ok(if is_left { Drain::Left("2 connections".to_owned()) } else { Drain::Done })
    }

    async fn observe(&self, workload: &str, at: EventTime) -> Result<TargetState, TargetError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(TargetError { target: self.name().to_owned(), fault: Fault::Away, problem: "away".to_owned() });
        }
        let state = self.inner.observe(workload, at).await?;
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).get(workload).copied();
        let ready = state.ready.max(held.unwrap_or(0)).min(self.sick.load(Ordering::SeqCst));
        Ok(TargetState { ready, ..state })
    }

    async fn probe(&self, workload: &str) -> Result<(), TargetError> {
        self.inner.probe(workload).await
    }
}
