//! PROCESS: telemetry in, closed feature windows out, exactly once.
//!
//! One shard is one partition of a telemetry topic. In each cycle the service takes in what has come and closes the
//! windows whose end the watermark has passed. An epoch of a shard ends with a checkpoint (states, offset, watermark,
//! sequence number and the output that is still to be sent); only then is that output sent. After a crash, or when
//! another processor takes the shard over, the newest checkpoint's output is sent again, byte for byte and with the same
//! sequence numbers, and reading goes on from its offset: readers drop repeats. A shard's checkpoint is written when it
//! has windows to send, and otherwise after `checkpoint_interval`.
//!
//! Who owns a shard is settled by the checkpoints alone: an epoch can be created once. The consumer group only spreads
//! the shards over the processors.

mod checkpoint;
mod ledger;
mod output;
mod shard;
mod signals;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use headroom_ingest_broker::{Broker, BrokerError};
use headroom_ingest_window::{FeatureConfig, FeatureQuery, Telemetry, WindowError};
use headroom_proto::Clock;
use headroom_proto::status::{StageState, StageStatus};
use headroom_proto::time::{Span, span_text};
use object_store::ObjectStore;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use checkpoint::Checkpoints;
use ledger::Totals;
use work::Work;

/// Settings of the processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// How much later than the newest row a row may come, in event time.
    #[serde(with = "span_text")]
    pub allowed_lateness: Span,
    /// How long, in event time, emitted windows are kept so that late rows can correct them; 0 corrects nothing.
    #[serde(with = "span_text")]
    pub corrections: Span,
    /// Put what was known of event signals beside each window: `signals_active`, `signals_next_start_s` and
    /// `signals_weighted_audience`.
    pub signal_features: bool,
    /// Live only: rows further ahead of the clock than this are not believed.
    #[serde(with = "span_text")]
    pub max_future_skew: Span,
    /// Live only: after this time without rows a source's windows close by the clock.
    #[serde(with = "span_text")]
    pub idle_after: Span,
    /// Longest wall time between two checkpoints while rows come in.
    #[serde(with = "span_text")]
    pub checkpoint_interval: Span,
    /// Records that are read at once.
    pub max_poll_records: usize,
    /// State rows, that is open windows times their groups, of one shard; beyond, the processor refuses to go on.
    pub max_state_rows: usize,
    /// Memory of one shard's states, in bytes; beyond, the processor refuses to go on.
    pub max_state_bytes: usize,
    /// The consumer group whose processors share the shards; they need one store of checkpoints.
    pub group: String,
    /// This processor's name within the group, when it has a lasting one: it gets its shards back at once when it comes
    /// back within `session.timeout.ms`.
    pub instance: Option<String>,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            allowed_lateness: Span::from_secs(10),
            corrections: Span::default(),
            signal_features: true,
            max_future_skew: Span::from_mins(5),
            idle_after: Span::from_mins(5),
            checkpoint_interval: Span::from_secs(1),
            max_poll_records: 200,
            max_state_rows: 10_000_000,
            max_state_bytes: 1 << 30,
            group: "headroom-process".to_owned(),
            instance: None,
        }
    }
}

/// Why the processor stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The broker failed for good.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A feature query cannot be used or failed.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// The checkpoint store failed.
    #[error("checkpoint store: {0}")]
    Store(#[from] object_store::Error),
    /// A checkpoint cannot be read, or belongs to another configuration.
    #[error("checkpoint {path}: {problem}")]
    Checkpoint {
        /// The object.
        path: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// A shard holds more than a limit. Nothing is lost: it goes on from its last checkpoint.
    #[error(
        "shard {shard}: open windows take {rows} state rows and {bytes} bytes, over process.max_state_rows = {max_rows} \
         or process.max_state_bytes = {max_bytes}: raise the limit, or group by fewer keys"
    )]
    StateFull {
        /// The shard.
        shard: String,
        /// Rows held.
        rows: usize,
        /// Bytes held.
        bytes: usize,
        /// The limit of rows.
        max_rows: usize,
        /// The limit of bytes.
        max_bytes: usize,
    },
    /// Someone has processed a shard whose checkpoint is not in the store.
    #[error(
        "shard {shard} was processed up to offset {offset}, but its checkpoint is not in this store: give every \
         processor of group {group} the same store, or restore it from a copy"
    )]
    Elsewhere {
        /// The shard.
        shard: String,
        /// What the group has committed.
        offset: i64,
        /// The group.
        group: String,
    },
    /// Another processor works on a shard that this one was told to own alone.
    #[error("another processor has gone on with shard {shard}: stop one of the two")]
    Overtaken {
        /// The shard.
        shard: String,
    },
}

/// How a processor comes by its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It has all of them.
    Alone,
    /// The consumer group gives it some.
    Group,
}

/// Says how the processor is doing.
#[derive(Clone, Debug)]
pub struct ProcessHandle {
    status: Arc<Mutex<StageStatus>>,
    totals: Totals,
}

/// The processor.
#[derive(Debug)]
pub struct ProcessService {
    config: ProcessConfig,
    membership: Membership,
    features: Vec<FeatureConfig>,
    broker: Broker,
    clock: Clock,
    checkpoints: Checkpoints,
    handle: ProcessHandle,
}

impl ProcessService {
    /// A processor of these feature queries; checkpoints go to `checkpoints`.
    pub fn new(
        config: ProcessConfig,
        features: Vec<FeatureConfig>,
        broker: Broker,
        clock: Clock,
        checkpoints: Arc<dyn ObjectStore>,
        registry: &mut Registry,
    ) -> (Self, ProcessHandle) {
        let status = StageStatus { stage: "process".to_owned(), ..StageStatus::default() };
        let handle = ProcessHandle { status: Arc::new(Mutex::new(status)), totals: Totals::register(registry) };
        let (checkpoints, membership) = (Checkpoints::new(checkpoints), Membership::Alone);
        (Self { config, membership, features, broker, clock, checkpoints, handle: handle.clone() }, handle)
    }

    /// Comes by its shards otherwise than alone.
    #[must_use]
    pub fn with_membership(mut self, membership: Membership) -> Self {
        self.membership = membership;
        self
    }

    /// Runs until shutdown; what was taken in by then is in the last checkpoint.
    ///
    /// # Errors
    /// When the broker, the checkpoint store or a query fails for good, or a shard is full or someone else's.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ProcessError> {
        let handle = self.handle.clone();
        let outcome = self.process(shutdown).await;
        handle.update(|status| match &outcome {
            Ok(()) => status.state = StageState::Drained,
            Err(error) => {
                status.state = StageState::Failed;
                status.note = error.to_string();
            }
        });
        outcome
    }

    async fn process(self, shutdown: CancellationToken) -> Result<(), ProcessError> {
        let mut queries: BTreeMap<Telemetry, Vec<Arc<FeatureQuery>>> = BTreeMap::new();
        for feature in &self.features {
            let query = Arc::new(FeatureQuery::try_new(feature.clone()).await?);
            queries.entry(query.source()).or_default().push(query);
        }
        let handle = self.handle.clone();
        let mut work = Work::begin(self, queries).await?;
        handle.update(|status| status.state = StageState::Running);
        while !shutdown.is_cancelled() {
            work.cycle().await?;
        }
        work.end().await
    }
}

impl ProcessHandle {
    /// How the processor is doing; its event time is the smallest watermark of its shards that have rows.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut StageStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests;
