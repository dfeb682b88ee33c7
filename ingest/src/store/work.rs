//! Reading, taking in and committing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use headroom_ingest_broker::{Broker, Consumer, Producer, Received, Record, Start};
use headroom_ingest_lake::{Appended, Lake, Table};
use headroom_proto::EventTime;
use headroom_proto::topics::Topic;
use tokio::time::Instant;

use super::intake::{Fate, Intake, WATERMARK_PREFIX};
use super::ledger::{self, Ledger};
use super::pending::{NextOffsets, Pending, dead_letter, offset_id};
use super::{StoreConfig, StoreError, StoreHandle};

/// The topics of which the processor makes windows: their partitions are its shards.
const TELEMETRY: [Topic; 2] = [Topic::Metrics, Topic::Queries];
const POLL_WAIT: Duration = Duration::from_millis(100);

/// What the loop works on.
pub(super) struct Work {
    config: StoreConfig,
    broker: Broker,
    lake: Arc<Lake>,
    ledger: Ledger,
    handle: StoreHandle,
    consumer: Consumer,
    producer: Producer,
    intake: Intake,
    next: NextOffsets,
    pending: BTreeMap<Table, Pending>,
    dead: Vec<Record>,
    watermarks: BTreeMap<String, i64>,
    oldest: Option<Instant>,
}

impl Work {
    /// Finds where the lake stands and begins there.
    pub(super) async fn begin(
        config: StoreConfig,
        broker: Broker,
        lake: Arc<Lake>,
        ledger: Ledger,
        handle: StoreHandle,
    ) -> Result<Self, StoreError> {
        let intake = Intake::new(Arc::clone(&lake), config.forecast_every).await?;
        let (consumer, producer) = (broker.consumer("headroom-store")?, broker.producer()?);
        let mut work = Self {
            config,
            broker,
            lake,
            ledger,
            handle,
            consumer,
            producer,
            intake,
            next: NextOffsets::new(),
            pending: BTreeMap::new(),
            dead: Vec::new(),
            watermarks: BTreeMap::new(),
            oldest: None,
        };
        let parts = work.starts().await?;
        work.consumer.assign(&parts).await?;
        for topic in TELEMETRY {
            for (partition, _, _) in work.broker.ends(topic).await? {
                if let Some(watermark_us) = work.intake.watermark(topic, partition).await? {
                    work.watermarks.insert(offset_id(topic, partition), watermark_us);
                }
            }
        }
        work.report();
        Ok(work)
    }

    /// Each partition of each topic, behind what the lake holds of it.
    async fn starts(&mut self) -> Result<Vec<(Topic, i32, Start)>, StoreError> {
        let mut parts = Vec::new();
        let asked = Table::of_topics().map(|(table, topic)| ends_of(&self.broker, table, topic));
        for (table, topic, ends) in try_join_all(asked).await? {
            let ids: Vec<String> = ends.iter().map(|(partition, _, _)| offset_id(topic, *partition)).collect();
            let stored = self.lake.positions(table, ids).await?;
            for (partition, low, end) in ends {
                let Some(&offset) = stored.get(&offset_id(topic, partition)) else {
                    self.next.insert((topic, partition), low);
                    parts.push((topic, partition, Start::Earliest));
                    continue;
                };
                if offset > end {
                    return Err(StoreError::Ahead { topic: topic.name(), partition, stored: offset, end });
                }
                if offset < low {
                    let lost = (low - offset).unsigned_abs();
                    tracing::warn!(
                        topic = topic.name(),
                        partition,
                        lost,
                        "the topic let records go before they were stored"
                    );
                    self.ledger.lost(table, lost);
                }
                self.next.insert((topic, partition), offset.max(low));
                parts.push((topic, partition, Start::Offset(offset.max(low))));
            }
        }
        Ok(parts)
    }

    /// What has come. May be abandoned: nothing is lost until something is returned.
    pub(super) async fn poll(&self) -> Result<Vec<Received>, StoreError> {
        Ok(self.consumer.poll(self.config.max_poll_records, POLL_WAIT).await?)
    }

    /// Takes records in. Must not be abandoned: what comes after them would pass their offsets.
    pub(super) async fn take(&mut self, records: &[Received]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        for record in records {
            self.take_one(record).await?;
        }
        self.oldest.get_or_insert_with(Instant::now);
        self.handle.update(|status| status.records_in += records.len() as u64);
        self.ledger.buffered_bytes.set(i64::try_from(self.buffered_bytes()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Where each partition ends now.
    pub(super) async fn ends(&self) -> Result<NextOffsets, StoreError> {
        let asked = Table::of_topics().map(|(table, topic)| ends_of(&self.broker, table, topic));
        let mut ends = NextOffsets::new();
        for (_, topic, parts) in try_join_all(asked).await? {
            ends.extend(parts.into_iter().map(|(partition, _, end)| ((topic, partition), end)));
        }
        Ok(ends)
    }

    /// Has it taken in everything before these ends? Partitions that it does not read do not count.
    pub(super) fn has(&self, ends: &NextOffsets) -> bool {
        ends.iter().all(|(part, end)| self.next.get(part).is_none_or(|next| next >= end))
    }

    async fn take_one(&mut self, record: &Received) -> Result<(), StoreError> {
        let Some(table) = Table::of_topic(record.topic) else { return Ok(()) };
        self.ledger.read(table);
        let (fate, moved) = self.intake.take(table, record).await?;
        let pending = self.pending.entry(table).or_default();
        let is_stored = matches!(fate, Fate::Rows(_));
        match fate {
            Fate::Rows(batches) => {
                self.ledger.stored(table);
                for batch in batches {
                    pending.push(batch)?;
                }
            }
            Fate::Repeat => self.ledger.aside(table, ledger::REPEAT),
            Fate::Thinned => self.ledger.aside(table, ledger::THINNED),
            Fate::Dead(reason) => {
                tracing::warn!(origin = record.origin(), reason, "a record cannot be stored");
                self.ledger.aside(table, ledger::DEAD);
                self.dead.push(dead_letter(record, reason));
            }
        }
        for (id, position) in moved {
            pending.move_to(id, position);
        }
        let next = record.offset.saturating_add(1);
        pending.move_to(offset_id(record.topic, record.partition), next);
        self.next.insert((record.topic, record.partition), next);
        if !is_stored {
            self.handle.update(|status| status.set_aside += 1);
        }
        Ok(())
    }

    /// Is it time for a commit?
    pub(super) fn is_due(&self) -> bool {
        let interval = Duration::from_micros(self.config.commit_interval.micros().unsigned_abs());
        self.is_full() || self.oldest.is_some_and(|oldest| oldest.elapsed() >= interval)
    }

    /// Is there no room for more without a commit?
    pub(super) fn is_full(&self) -> bool {
        let rows: usize = self.pending.values().map(|pending| pending.rows).sum();
        rows >= self.config.max_commit_rows || self.buffered_bytes() >= self.config.max_buffered_bytes
    }

    fn buffered_bytes(&self) -> usize {
        self.pending.values().map(|pending| pending.bytes).sum()
    }

    /// Dead letters first, then the tables, then the broker is told.
    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        self.oldest = None;
        self.producer.send_all(std::mem::take(&mut self.dead)).await?;
        for (table, pending) in std::mem::take(&mut self.pending) {
            if pending.is_empty() {
                continue;
            }
            let (batches, commit) = pending.into_parts()?;
            let watermarks = watermarks_of(&commit.positions);
            match self.lake.append(table, batches, commit).await? {
                Appended::Committed { version, rows } => {
                    tracing::debug!(%table, version, rows, "committed");
                    self.ledger.committed(table, rows);
                    self.handle.update(|status| status.records_out += rows);
                }
                Appended::Repeated => tracing::warn!(%table, "another store has committed these records"),
            }
            self.watermarks.extend(watermarks);
        }
        self.ledger.buffered_bytes.set(0);
        self.report();
        let offsets: Vec<_> = self.next.iter().map(|((topic, partition), next)| (*topic, *partition, *next)).collect();
        self.consumer.commit(&offsets)?;
        Ok(())
    }

    fn report(&self) {
        let reached = self.watermarks.values().min().copied().map(EventTime::from_micros);
        self.handle.update(|status| {
            status.event_time = reached;
            status.note = "tables are up to date with the last commit".to_owned();
        });
    }
}

type TopicEnds = (Table, Topic, Vec<(i32, i64, i64)>);

async fn ends_of(broker: &Broker, table: Table, topic: Topic) -> Result<TopicEnds, StoreError> {
    Ok((table, topic, broker.ends(topic).await?))
}

fn watermarks_of(positions: &BTreeMap<String, i64>) -> Vec<(String, i64)> {
    let shard = |(id, position): (&String, &i64)| Some((id.strip_prefix(WATERMARK_PREFIX)?.to_owned(), *position));
    positions.iter().filter_map(shard).collect()
}
