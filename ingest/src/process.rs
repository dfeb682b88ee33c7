//! PROCESS: telemetry in, closed feature windows out, exactly once.
//!
//! One shard is one partition of a telemetry topic. In each cycle the service takes in what has come, closes the windows
//! whose end the watermark has passed, writes a checkpoint (states, offsets, watermarks, sequence numbers and the output
//! that is still to be sent), and only then sends that output. After a crash the newest checkpoint's output is sent
//! again, byte for byte and with the same sequence numbers, and reading goes on from its offsets: readers drop repeats.
//! A checkpoint is written whenever there is output, and otherwise after `checkpoint_interval`.

mod checkpoint;
mod output;
mod shard;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headroom_ingest_broker::{Broker, BrokerError, Consumer, Producer, Received, Start};
use headroom_ingest_window::{FeatureConfig, FeatureQuery, Telemetry, WindowError};
use headroom_proto::status::{StageState, StageStatus};
use headroom_proto::time::{Span, span_text};
use headroom_proto::topics::Topic;
use headroom_proto::{Clock, EventTime};
use object_store::ObjectStore;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use checkpoint::Checkpoints;
use output::Output;
use shard::Shard;

const TOPICS: [Topic; 2] = [Topic::Metrics, Topic::Queries];

/// Settings of the processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// How much later than the newest row a row may come, in event time.
    #[serde(with = "span_text")]
    pub allowed_lateness: Span,
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
    /// State rows of all open windows together; beyond, the processor refuses to go on.
    pub max_state_rows: usize,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            allowed_lateness: Span::from_secs(10),
            max_future_skew: Span::from_mins(5),
            idle_after: Span::from_mins(5),
            checkpoint_interval: Span::from_secs(1),
            max_poll_records: 200,
            max_state_rows: 10_000_000,
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
    /// More open windows than the limit.
    #[error("{rows} state rows are over process.max_state_rows = {limit}: raise it, or group by fewer keys")]
    StateFull {
        /// Rows held.
        rows: usize,
        /// The limit.
        limit: usize,
    },
}

/// What became of the rows, counted since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) read: Counter,
    pub(crate) aggregated: Counter,
    pub(crate) late: Counter,
    pub(crate) dead: Counter,
    pub(crate) filtered: Counter,
    windows: Counter,
    checkpoints: Counter,
}

/// Says how the processor is doing.
#[derive(Clone, Debug)]
pub struct ProcessHandle {
    status: Arc<Mutex<StageStatus>>,
    ledger: Ledger,
    written: Arc<AtomicU64>,
}

/// The processor.
#[derive(Debug)]
pub struct ProcessService {
    config: ProcessConfig,
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
        let ledger = Ledger::default();
        for (name, help, counter) in [
            ("headroom_process_read_rows", "telemetry rows read", &ledger.read),
            ("headroom_process_aggregated_rows", "rows taken into windows", &ledger.aggregated),
            ("headroom_process_late_rows", "rows that came after their window had closed", &ledger.late),
            ("headroom_process_dead_rows", "rows set aside: unreadable or too far in the future", &ledger.dead),
            ("headroom_process_filtered_rows", "rows that no feature query reads", &ledger.filtered),
            ("headroom_process_windows", "closed windows written", &ledger.windows),
            ("headroom_process_checkpoints", "checkpoints written", &ledger.checkpoints),
        ] {
            registry.register(name, help, counter.clone());
        }
        let status = StageStatus { stage: "process".to_owned(), ..StageStatus::default() };
        let handle =
            ProcessHandle { status: Arc::new(Mutex::new(status)), ledger, written: Arc::new(AtomicU64::new(0)) };
        let checkpoints = Checkpoints::new(checkpoints);
        (Self { config, features, broker, clock, checkpoints, handle: handle.clone() }, handle)
    }

    /// Runs until shutdown; what was taken in by then is in the last checkpoint.
    ///
    /// # Errors
    /// When the broker, the checkpoint store or a query fails for good.
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

    async fn process(mut self, shutdown: CancellationToken) -> Result<(), ProcessError> {
        let mut queries: BTreeMap<Telemetry, Vec<Arc<FeatureQuery>>> = BTreeMap::new();
        for feature in std::mem::take(&mut self.features) {
            let query = Arc::new(FeatureQuery::try_new(feature).await?);
            queries.entry(query.source()).or_default().push(query);
        }
        let mut work = self.recover(&queries).await?;
        self.handle.update(|status| status.state = StageState::Running);
        let mut last_checkpoint = Instant::now();
        let mut dirty = false;
        while !shutdown.is_cancelled() {
            let records = work.consumer.poll(self.config.max_poll_records, Duration::from_millis(50)).await?;
            dirty |= !records.is_empty();
            self.handle.update(|status| status.records_in += u64::try_from(records.len()).unwrap_or(0));
            let mut output = work.take_in(records, &self.handle.ledger).await?;
            for shard in work.shards.values_mut() {
                shard.idle(&self.config, &self.clock);
                shard.close(&mut output).await?;
            }
            work.refuse_overflow(self.config.max_state_rows)?;
            let interval = Duration::from_micros(self.config.checkpoint_interval.micros().unsigned_abs());
            if !output.is_empty() || (dirty && last_checkpoint.elapsed() >= interval) {
                self.commit(&mut work, output).await?;
                last_checkpoint = Instant::now();
                dirty = false;
            }
            self.report(&work);
        }
        if dirty {
            self.commit(&mut work, Output::default()).await?;
        }
        Ok(())
    }

    /// The newest checkpoint, its output sent again, and the consumer behind its offsets.
    async fn recover(&mut self, queries: &BTreeMap<Telemetry, Vec<Arc<FeatureQuery>>>) -> Result<Work, ProcessError> {
        let saved = self.checkpoints.newest().await?;
        let mut shards = BTreeMap::new();
        let mut parts = Vec::new();
        for topic in TOPICS {
            let queries = queries.get(&shard::telemetry_of(topic)).map(Vec::as_slice).unwrap_or_default();
            for (partition, _, _) in self.broker.ends(topic).await? {
                let state = saved.as_ref().and_then(|saved| saved.shard(topic, partition));
                let shard = Shard::new(topic, partition, queries, state, &self.config, self.clock.now())?;
                let start = shard.next_offset().map_or(Start::Earliest, Start::Offset);
                parts.push((topic, partition, start));
                shards.insert((topic, partition), shard);
            }
        }
        let producer = self.broker.producer()?;
        if let Some(saved) = saved {
            tracing::info!(epoch = saved.epoch, pending = saved.pending.len(), "going on from a checkpoint");
            producer.send_all(saved.pending.iter().map(output::SavedRecord::record).collect()).await?;
        }
        let consumer = self.broker.consumer("headroom-process")?;
        consumer.assign(&parts).await?;
        Ok(Work { consumer, producer, shards, clock: self.clock.clone(), max_future_skew: self.config.max_future_skew })
    }

    /// First the checkpoint, then the output.
    async fn commit(&mut self, work: &mut Work, output: Output) -> Result<(), ProcessError> {
        let shards = work.shards.values().map(Shard::state).collect::<Result<Vec<_>, _>>()?;
        self.checkpoints.write(shards, output.saved()).await?;
        self.handle.ledger.checkpoints.inc();
        let windows = output.windows;
        let records = output.records;
        self.handle.written.fetch_add(u64::try_from(records.len()).unwrap_or(0), Ordering::Relaxed);
        work.producer.send_all(records).await?;
        self.handle.ledger.windows.inc_by(windows);
        let offsets: Vec<_> = work.shards.values().filter_map(Shard::position).collect();
        if !offsets.is_empty() {
            work.consumer.commit(&offsets)?;
        }
        Ok(())
    }

    fn report(&self, work: &Work) {
        let reached = work.shards.values().filter_map(Shard::watermark).min();
        let written = self.handle.written.load(Ordering::Relaxed);
        let aside = self.handle.ledger.late.get() + self.handle.ledger.dead.get();
        let open: usize = work.shards.values().map(Shard::state_rows).sum();
        self.handle.update(|status| {
            status.event_time = reached;
            status.records_out = written;
            status.set_aside = aside;
            status.note = format!("{open} state rows in open windows");
        });
    }
}

/// What the loop works on.
struct Work {
    consumer: Consumer,
    producer: Producer,
    shards: BTreeMap<(Topic, i32), Shard>,
    clock: Clock,
    max_future_skew: Span,
}

impl Work {
    async fn take_in(&mut self, records: Vec<Received>, ledger: &Ledger) -> Result<Output, ProcessError> {
        let latest = if self.clock.is_replay() { None } else { Some(self.clock.now() + self.max_future_skew) };
        let mut output = Output::default();
        let mut by_shard: BTreeMap<(Topic, i32), Vec<Received>> = BTreeMap::new();
        for record in records {
            by_shard.entry((record.topic, record.partition)).or_default().push(record);
        }
        for (key, records) in by_shard {
            if let Some(shard) = self.shards.get_mut(&key) {
                shard.take_in(records, latest, self.clock.now(), &mut output, ledger).await?;
            }
        }
        Ok(output)
    }

    fn refuse_overflow(&self, limit: usize) -> Result<(), ProcessError> {
        let rows = self.shards.values().map(Shard::state_rows).sum();
        if rows > limit { Err(ProcessError::StateFull { rows, limit }) } else { Ok(()) }
    }
}

impl ProcessHandle {
    /// How the processor is doing; its event time is the smallest watermark of the shards that have rows.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut StageStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Event time as the checkpoint keeps it.
pub(crate) fn micros(time: Option<EventTime>) -> Option<i64> {
    time.map(EventTime::micros)
}

#[cfg(test)]
mod tests;
