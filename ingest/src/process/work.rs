//! What the processor works on: its shards, and the two ends of the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use headroom_ingest_broker::{Change, Consumer, Producer, Received, Start};
use headroom_ingest_window::{FeatureQuery, Telemetry};
use headroom_proto::time::Span;
use headroom_proto::topics::Topic;
use tokio::time::Instant;

use super::checkpoint::Written;
use super::output;
use super::shard::{Epoch, Shard, shard_name, telemetry_of};
use super::signals::SignalFeatures;
use super::{Membership, ProcessError, ProcessService};

const TOPICS: [Topic; 2] = [Topic::Metrics, Topic::Queries];
const POLL_WAIT: Duration = Duration::from_millis(50);
/// Writing checkpoints may take one part in so many of the time.
const CHECKPOINT_SHARE: u32 = 5;

type Key = (Topic, i32);

/// The loop's state.
pub(super) struct Work {
    service: ProcessService,
    queries: BTreeMap<Telemetry, Vec<Arc<FeatureQuery>>>,
    consumer: Consumer,
    producer: Producer,
    shards: BTreeMap<Key, Shard>,
    signals: Option<SignalFeatures>,
    last_checkpoint: Instant,
    /// How long the last checkpoint took.
    checkpoint_took: Duration,
}

impl Work {
    pub(super) async fn begin(
        service: ProcessService,
        queries: BTreeMap<Telemetry, Vec<Arc<FeatureQuery>>>,
    ) -> Result<Self, ProcessError> {
        let (group, instance) = (&service.config.group, service.config.instance.as_deref());
        let consumer = service.broker.member(group, instance)?;
        let producer = service.broker.producer()?;
        let signals =
            if service.config.signal_features { Some(SignalFeatures::begin(&service.broker).await?) } else { None };
        let mut work = Self {
            service,
            queries,
            consumer,
            producer,
            shards: BTreeMap::new(),
            signals,
            last_checkpoint: Instant::now(),
            checkpoint_took: Duration::ZERO,
        };
        match work.service.membership {
            Membership::Group => work.consumer.join(&TOPICS)?,
            Membership::Alone => {
                let mut all = Vec::new();
                for topic in TOPICS {
                    all.extend(work.service.broker.ends(topic).await?.into_iter().map(|(part, _, _)| (topic, part)));
                }
                work.own(all).await?;
            }
        }
        Ok(work)
    }

    /// Takes in what has come, closes what is due, and makes durable what must be.
    pub(super) async fn cycle(&mut self) -> Result<(), ProcessError> {
        let mut records = self.consumer.poll(self.service.config.max_poll_records, POLL_WAIT).await?;
        for change in self.consumer.changes()? {
            // They were read for shards that have been taken away since, or begin anew.
            records.clear();
            match change {
                // What has not been written is read again by the next owner.
                Change::Taken => self.shards.clear(),
                Change::Given(keys) => self.own(keys).await?,
            }
        }
        self.service.handle.update(|status| status.records_in += wide(records.len()));
        if let Some(signals) = self.signals.as_mut().filter(|_| !records.is_empty()) {
            signals.catch_up().await?;
        }
        self.take_in(records).await?;
        self.refuse_overflow()?;
        for shard in self.shards.values_mut() {
            shard.idle(&self.service.config, &self.service.clock);
            shard.close(self.signals.as_ref()).await?;
        }
        self.commit_what_is_due().await?;
        self.report();
        Ok(())
    }

    /// Makes durable what was taken in.
    pub(super) async fn end(&mut self) -> Result<(), ProcessError> {
        self.commit(|shard| shard.is_dirty()).await
    }

    /// Goes on with these shards from their newest checkpoints, and with no others.
    async fn own(&mut self, keys: Vec<Key>) -> Result<(), ProcessError> {
        self.shards.clear();
        let committed: BTreeMap<Key, Option<i64>> =
            self.consumer.committed(&TOPICS).await?.into_iter().map(|(topic, part, at)| ((topic, part), at)).collect();
        for key in keys {
            self.open(key, committed.get(&key).copied().flatten()).await?;
        }
        self.assign().await
    }

    /// A shard as its newest checkpoint says, whose output is sent again.
    async fn open(&mut self, key: Key, committed: Option<i64>) -> Result<(), ProcessError> {
        let (topic, partition) = key;
        let name = shard_name(topic, partition);
        let saved = self.service.checkpoints.newest(&name).await?;
        if let (None, Some(offset)) = (&saved, committed) {
            let group = self.service.config.group.clone();
            return Err(ProcessError::Elsewhere { shard: name.to_string(), offset, group });
        }
        let queries = self.queries.get(&telemetry_of(topic)).map(Vec::as_slice).unwrap_or_default();
        let now = self.service.clock.now();
        let shard = Shard::new(topic, partition, queries, saved.as_ref(), &self.service.config, now)?;
        if let Some(saved) = saved {
            tracing::info!(%name, epoch = saved.epoch, pending = saved.pending.len(), "going on from a checkpoint");
            self.producer.send_all(saved.pending.into_iter().map(output::kept).collect()).await?;
        }
        self.shards.insert(key, shard);
        Ok(())
    }

    /// Reads on where each shard stands.
    async fn assign(&self) -> Result<(), ProcessError> {
        let start = |shard: &Shard| shard.next_offset().map_or(Start::Earliest, Start::Offset);
        let parts: Vec<_> =
            self.shards.iter().map(|((topic, partition), shard)| (*topic, *partition, start(shard))).collect();
        Ok(self.consumer.assign(&parts).await?)
    }

    async fn take_in(&mut self, records: Vec<Received>) -> Result<(), ProcessError> {
        let clock = &self.service.clock;
        let now = clock.now();
        let latest = (!clock.is_replay()).then(|| now + self.service.config.max_future_skew);
        let mut by_shard: BTreeMap<Key, Vec<Received>> = BTreeMap::new();
        for record in records {
            by_shard.entry((record.topic, record.partition)).or_default().push(record);
        }
        for (key, records) in by_shard {
            // Records of a shard that was taken away since belong to its next owner.
            if let Some(shard) = self.shards.get_mut(&key) {
                shard.take_in(records, latest, now).await?;
            }
        }
        Ok(())
    }

    fn refuse_overflow(&self) -> Result<(), ProcessError> {
        let (max_rows, max_bytes) = (self.service.config.max_state_rows, self.service.config.max_state_bytes);
        for shard in self.shards.values() {
            let (rows, bytes) = (shard.state_rows(), shard.state_bytes());
            if rows > max_rows || bytes > max_bytes {
                let shard = shard.name().to_owned();
                return Err(ProcessError::StateFull { shard, rows, bytes, max_rows, max_bytes });
            }
        }
        Ok(())
    }

    /// Windows are not kept waiting, unless checkpoints would take too much of the time.
    async fn commit_what_is_due(&mut self) -> Result<(), ProcessError> {
        let elapsed = self.last_checkpoint.elapsed();
        if elapsed < self.checkpoint_took * CHECKPOINT_SHARE {
            return Ok(());
        }
        if elapsed >= wall(self.service.config.checkpoint_interval) {
            return self.commit(Shard::is_dirty).await;
        }
        self.commit(Shard::has_windows).await
    }

    /// First the checkpoints, then the output, then the broker is told and older checkpoints go.
    async fn commit(&mut self, is_due: impl Fn(&Shard) -> bool) -> Result<(), ProcessError> {
        let mut epochs = Vec::new();
        for (key, shard) in &mut self.shards {
            if is_due(shard) {
                epochs.push((*key, shard.end_epoch()?));
            }
        }
        if epochs.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let checkpoints = &self.service.checkpoints;
        let written = try_join_all(epochs.iter().map(|(_, epoch)| checkpoints.write(&epoch.checkpoint))).await?;
        let (mut overtaken, mut passed, mut records, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((key, epoch), written) in epochs.into_iter().zip(written) {
            match written {
                Written::Newest { older } => {
                    passed.extend(older);
                    offsets.extend(epoch.checkpoint.next_offset.map(|next| (key.0, key.1, next)));
                    self.count(&epoch);
                    records.extend(epoch.output.records);
                }
                Written::Overtaken => overtaken.push((key, epoch.checkpoint.shard)),
            }
        }
        self.service.handle.update(|status| status.records_out += wide(records.len()));
        self.producer.send_all(records).await?;
        self.service.checkpoints.remove(passed).await?;
        self.give_up(overtaken).await?;
        // Of no shard whose checkpoint is not written: an offset that is committed says that there is one.
        if !offsets.is_empty() {
            self.consumer.commit(&offsets)?;
        }
        self.last_checkpoint = Instant::now();
        self.checkpoint_took = began.elapsed();
        Ok(())
    }

    fn count(&self, epoch: &Epoch) {
        let totals = &self.service.handle.totals;
        totals.add(&epoch.ledger);
        totals.checkpoints.inc();
        self.service.handle.update(|status| status.set_aside += epoch.ledger.late + epoch.ledger.dead);
    }

    /// Another processor has gone on with these shards. If the group has not taken them away it was held up itself, and
    /// they go on from where it left them.
    async fn give_up(&mut self, overtaken: Vec<(Key, String)>) -> Result<(), ProcessError> {
        if overtaken.is_empty() {
            return Ok(());
        }
        for (key, shard) in overtaken {
            if self.service.membership == Membership::Alone {
                return Err(ProcessError::Overtaken { shard });
            }
            tracing::warn!(shard, "overtaken by another processor");
            self.service.handle.totals.overtaken.inc();
            self.shards.remove(&key);
            self.open(key, None).await?;
        }
        self.assign().await
    }

    fn report(&self) {
        let reached = self.shards.values().filter_map(Shard::watermark).min();
        let (shards, open): (usize, usize) = (self.shards.len(), self.shards.values().map(Shard::state_rows).sum());
        self.service.handle.update(|status| {
            status.event_time = reached;
            status.note = format!("{shards} shards, {open} state rows in open windows");
        });
    }
}

fn wall(span: Span) -> Duration {
    Duration::from_micros(span.micros().unsigned_abs())
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
