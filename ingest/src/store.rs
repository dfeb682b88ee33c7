//! STORE: the topics as tables, exactly once.
//!
//! One loop reads every topic that has a table, turns records into rows, and commits a table's rows together with the
//! offsets they came from. It begins where the tables say, whatever the broker remembers; so a crash at any point
//! neither loses nor repeats a row. Repeats that a producer made are dropped: windows by shard and sequence, forecasts
//! by workload and origin. What cannot be read goes to the dead letters before its offset is passed, so a crash may
//! write a dead letter twice, never not at all.

mod forecasts;
mod intake;
mod ledger;
mod maintenance;
mod pending;
mod records;
mod windows;
mod work;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::error::ArrowError;
use headroom_ingest_broker::{Broker, BrokerError};
use headroom_ingest_lake::{Lake, LakeError};
use headroom_proto::status::{StageState, StageStatus};
use headroom_proto::time::{Span, span_text};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use ledger::Ledger;
use maintenance::Maintenance;
pub use maintenance::MaintenanceConfig;
use pending::NextOffsets;
use work::Work;

const REQUESTS: usize = 16;

/// Settings of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Longest wall time between a record's arrival and its commit.
    #[serde(with = "span_text")]
    pub commit_interval: Span,
    /// Rows of one commit, over all tables.
    pub max_commit_rows: usize,
    /// Memory of the rows that wait for a commit, in bytes.
    pub max_buffered_bytes: usize,
    /// Records that are read at once.
    pub max_poll_records: usize,
    /// One forecast of a workload is kept for each span of this length; `5m` keeps all of a five-minute forecaster.
    #[serde(with = "span_text")]
    pub forecast_every: Span,
    /// How long a shutdown goes on reading what the topics still hold.
    #[serde(with = "span_text")]
    pub drain_limit: Span,
    /// Upkeep of the tables in the background.
    pub maintenance: MaintenanceConfig,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            commit_interval: Span::from_secs(5),
            max_commit_rows: 500_000,
            max_buffered_bytes: 64 << 20,
            max_poll_records: 500,
            forecast_every: Span::from_mins(5),
            drain_limit: Span::from_secs(10),
            maintenance: MaintenanceConfig::default(),
        }
    }
}

/// Why the store stopped.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The broker failed for good.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The lake failed.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Rows could not be joined.
    #[error("joining rows: {0}")]
    Rows(#[from] ArrowError),
    /// The lake has read further than the topic goes.
    #[error(
        "the lake holds {topic}/{partition} up to offset {stored}, but the topic ends at {end}: this broker is not the \
         one the lake was filled from; give it back its data, or start with a new data folder"
    )]
    Ahead {
        /// The topic's name.
        topic: &'static str,
        /// The partition.
        partition: i32,
        /// The offset up to which the lake has it.
        stored: i64,
        /// The offset behind its last record.
        end: i64,
    },
    /// The service has ended.
    #[error("the store has stopped")]
    Stopped,
}

/// Says how the store is doing.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    status: Arc<Mutex<StageStatus>>,
    upkeep: Arc<Mutex<String>>,
    requests: mpsc::Sender<oneshot::Sender<()>>,
}

/// The store.
#[derive(Debug)]
pub struct StoreService {
    config: StoreConfig,
    broker: Broker,
    lake: Arc<Lake>,
    ledger: Ledger,
    requests: mpsc::Receiver<oneshot::Sender<()>>,
    handle: StoreHandle,
}

impl StoreService {
    /// A store of the broker's topics into this lake.
    pub fn new(config: StoreConfig, broker: Broker, lake: Arc<Lake>, registry: &mut Registry) -> (Self, StoreHandle) {
        let status = StageStatus { stage: "store".to_owned(), ..StageStatus::default() };
        let (sender, requests) = mpsc::channel(REQUESTS);
        let handle = StoreHandle { status: Arc::new(Mutex::new(status)), upkeep: Arc::default(), requests: sender };
        let ledger = Ledger::register(registry);
        (Self { config, broker, lake, ledger, requests, handle: handle.clone() }, handle)
    }

    /// Runs until shutdown, then reads what the topics hold, at most for `drain_limit`, and commits it.
    ///
    /// # Errors
    /// When the broker or the lake fails for good, or when they do not belong together.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let handle = self.handle.clone();
        let outcome = self.store(shutdown).await;
        handle.update(|status| match &outcome {
            Ok(()) => status.state = StageState::Drained,
            Err(error) => {
                status.state = StageState::Failed;
                status.note = error.to_string();
            }
        });
        outcome
    }

    async fn store(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let Self { config, broker, lake, ledger, mut requests, handle } = self;
        let drain_limit = Duration::from_micros(config.drain_limit.micros().unsigned_abs());
        let maintenance = Maintenance {
            config: config.maintenance.clone(),
            lake: Arc::clone(&lake),
            ledger: ledger.clone(),
            handle: handle.clone(),
        };
        let mut work = Work::begin(config, broker, lake, ledger, handle.clone()).await?;
        handle.update(|status| status.state = StageState::Running);
        let mut upkeep = JoinSet::new();
        upkeep.spawn(maintenance.run(shutdown.clone()));
        let mut waiting: Vec<(NextOffsets, oneshot::Sender<()>)> = Vec::new();
        loop {
            // Only the polling may be abandoned: records that were polled must be taken.
            let records = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = requests.recv() => {
                    waiting.push((work.ends().await?, done));
                    Vec::new()
                }
                polled = work.poll() => polled?,
            };
            work.take(&records).await?;
            let has_caught_up = waiting.iter().any(|(ends, _)| work.has(ends));
            if has_caught_up || work.is_due() {
                work.commit().await?;
            }
            for (_, done) in waiting.extract_if(.., |(ends, _)| work.has(ends)) {
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the store to catch up any more");
                }
            }
        }
        let deadline = Instant::now() + drain_limit;
        let ends = work.ends().await?;
        while !work.has(&ends) && Instant::now() < deadline {
            let records = work.poll().await?;
            work.take(&records).await?;
            if work.is_full() {
                work.commit().await?;
            }
        }
        work.commit().await
    }
}

impl StoreHandle {
    /// How the store is doing. Its event time is the smallest watermark of the processor's shards, as of the windows that
    /// are in the lake.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let upkeep = self.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        if status.state == StageState::Running && !upkeep.is_empty() {
            status.note = format!("{}; {upkeep}", status.note);
        }
        status
    }

    /// Returns once everything that the topics held at the time of the call is in the lake.
    ///
    /// # Errors
    /// When the store has stopped or stops meanwhile.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let (done, waiting) = oneshot::channel();
        self.requests.send(done).await.map_err(|_| StoreError::Stopped)?;
        waiting.await.map_err(|_| StoreError::Stopped)
    }

    fn tell_upkeep(&self, doing: String) {
        *self.upkeep.lock().unwrap_or_else(PoisonError::into_inner) = doing;
    }

    fn update(&self, change: impl FnOnce(&mut StageStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests;
