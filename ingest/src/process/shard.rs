//! One partition of telemetry: its queries' states, its watermark, and how far it has been read.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use headroom_ingest_broker::Received;
use headroom_ingest_window::{FeatureQuery, Telemetry, WindowAggregate, WindowError, split_rows};
use headroom_proto::time::Span;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{LedgerEntry, ShardCheckpoint};
use headroom_proto::{Clock, EventTime, codec, headers, schema};

use super::checkpoint::FORMAT;
use super::ledger::Tally;
use super::output::Output;
use super::signals::SignalFeatures;
use super::{ProcessConfig, ProcessError};

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    name: Arc<str>,
    telemetry: Telemetry,
    allowed_lateness: Span,
    aggregates: Vec<WindowAggregate>,
    /// The shortest pane of its queries.
    pane: Span,
    epoch: u64,
    next_offset: Option<i64>,
    watermark: Option<EventTime>,
    sequence: u64,
    tally: Tally,
    /// What is to be sent with the next checkpoint.
    output: Output,
    is_dirty: bool,
    /// The offset at which the epoch began.
    from_offset: Option<i64>,
    /// When rows last came, by the clock.
    last_rows_at: Option<EventTime>,
    keeps_for_corrections: bool,
    /// Late rows that correct emitted windows.
    corrections: Vec<RecordBatch>,
}

/// An epoch as it is to be made durable.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) checkpoint: ShardCheckpoint,
    pub(crate) ledger: LedgerEntry,
    /// To be sent once the checkpoint is written.
    pub(crate) output: Output,
}

impl Shard {
    pub(crate) fn new(
        topic: Topic,
        partition: i32,
        queries: &[Arc<FeatureQuery>],
        saved: Option<&ShardCheckpoint>,
        config: &ProcessConfig,
        now: EventTime,
    ) -> Result<Self, ProcessError> {
        let mut aggregates = Vec::with_capacity(queries.len());
        for query in queries {
            let state = saved.and_then(|saved| saved.queries.iter().find(|state| state.query == query.name()));
            aggregates.push(match state {
                Some(state) => WindowAggregate::restore(Arc::clone(query), state)?.with_corrections(config.corrections),
                None => WindowAggregate::new(Arc::clone(query)).with_corrections(config.corrections),
            });
        }
        let next_offset = saved.and_then(|saved| saved.next_offset);
        Ok(Self {
            name: shard_name(topic, partition),
            telemetry: telemetry_of(topic),
            allowed_lateness: config.allowed_lateness,
            aggregates,
            pane: queries.iter().map(|query| query.pane()).min().unwrap_or_default(),
            epoch: saved.map_or(0, |saved| saved.epoch),
            next_offset,
            watermark: saved.and_then(|saved| saved.watermark_us).map(EventTime::from_micros),
            sequence: saved.map_or(0, |saved| saved.sequence),
            tally: Tally::new(saved.into_iter().flat_map(|saved| saved.open_rows.clone())),
            output: Output::default(),
            is_dirty: false,
            from_offset: next_offset,
            // A source that is silent after a restart has been silent since then at least.
            last_rows_at: saved.map(|_| now),
            keeps_for_corrections: config.corrections > Span::default(),
            corrections: Vec::new(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn next_offset(&self) -> Option<i64> {
        self.next_offset
    }

    pub(crate) fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    pub(crate) fn state_rows(&self) -> usize {
        self.aggregates.iter().map(WindowAggregate::state_rows).sum()
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.aggregates.iter().map(WindowAggregate::state_bytes).sum()
    }

    /// Has it moved since its last checkpoint?
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Has it windows to send?
    pub(crate) fn has_windows(&self) -> bool {
        self.output.has_windows
    }

    /// Ends the epoch: what is to be written, then sent.
    pub(crate) fn end_epoch(&mut self) -> Result<Epoch, ProcessError> {
        self.epoch += 1;
        self.is_dirty = false;
        let next_offset = self.next_offset.unwrap_or(0);
        let from_offset = self.from_offset.replace(next_offset).unwrap_or(next_offset);
        let ledger = LedgerEntry {
            shard: self.name.to_string(),
            epoch: self.epoch,
            from_offset,
            to_offset: next_offset,
            watermark_us: self.watermark.map_or(0, EventTime::micros),
            ..self.tally.end_epoch()
        };
        let mut output = std::mem::take(&mut self.output);
        output.ledger(&ledger);
        let checkpoint = ShardCheckpoint {
            format: FORMAT,
            shard: self.name.to_string(),
            epoch: self.epoch,
            next_offset: self.next_offset,
            watermark_us: self.watermark.map(EventTime::micros),
            sequence: self.sequence,
            queries: self.aggregates.iter().map(WindowAggregate::checkpoint).collect::<Result<_, _>>()?,
            open_rows: self.tally.open_rows().iter().map(|(start, rows)| (*start, *rows)).collect(),
            pending: output.pending(),
        };
        Ok(Epoch { checkpoint, ledger, output })
    }

    /// Takes in records in their order; sets late, unreadable and unbelievable rows aside.
    pub(crate) async fn take_in(
        &mut self,
        records: Vec<Received>,
        latest: Option<EventTime>,
        now: EventTime,
    ) -> Result<(), ProcessError> {
        let mut rows = Vec::new();
        for record in records {
            // Never twice, whatever the reader does.
            if self.next_offset.is_some_and(|next| record.offset < next) {
                continue;
            }
            self.is_dirty = true;
            self.from_offset.get_or_insert(record.offset);
            self.next_offset = Some(record.offset + 1);
            let promised = record.header(headers::WATERMARK).and_then(|text| text.parse().ok());
            match self.decode(&record) {
                Ok(batch) => rows.extend(self.sort_out(&record, &batch, latest)?),
                Err(reason) => {
                    self.tally.read(1);
                    self.tally.dead(1);
                    self.damage_now();
                    self.output.dead(&record, reason);
                }
            }
            self.advance(
                promised.map(EventTime::from_micros).filter(|time| latest.is_none_or(|latest| *time <= latest)),
            );
        }
        let corrections = std::mem::take(&mut self.corrections);
        if !corrections.is_empty() {
            for aggregate in &mut self.aggregates {
                aggregate.correct(corrections.clone()).await?;
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.last_rows_at = Some(now);
        for aggregate in &mut self.aggregates {
            aggregate.push(rows.clone()).await?;
        }
        Ok(())
    }

    /// Closes by the clock what a silent source has left open.
    pub(crate) fn idle(&mut self, config: &ProcessConfig, clock: &Clock) {
        let Some(last) = self.last_rows_at.filter(|_| !clock.is_replay()) else { return };
        let now = clock.now();
        if now - last > config.idle_after {
            self.advance(Some(now - config.idle_after - self.allowed_lateness));
        }
    }

    /// Puts the windows that have closed into the output.
    pub(crate) async fn close(&mut self, signals: Option<&SignalFeatures>) -> Result<(), ProcessError> {
        let Some(watermark) = self.watermark else { return Ok(()) };
        for aggregate in &mut self.aggregates {
            for mut emission in aggregate.close(watermark).await? {
                if let Some(signals) = signals {
                    emission.batch = signals.beside(&emission.batch).map_err(|error| failed(error.into()))?;
                }
                self.is_dirty = true;
                self.tally.windows(emission.batch.num_rows());
                self.output.windows(&self.name, &mut self.sequence, watermark, &emission).map_err(failed)?;
            }
        }
        self.tally.closed(watermark, self.pane);
        Ok(())
    }

    fn decode(&self, record: &Received) -> Result<RecordBatch, String> {
        let (id, version) = match self.telemetry {
            Telemetry::Metrics => ("metrics", schema::METRICS_VERSION),
            Telemetry::Queries => ("queries", schema::QUERIES_VERSION),
        };
        let found = record.header(headers::SCHEMA).unwrap_or("none");
        let found_version = record.header(headers::SCHEMA_VERSION).unwrap_or("none");
        if found != id || found_version != version.to_string() {
            return Err(format!("schema {found} version {found_version}: this topic carries {id} version {version}"));
        }
        codec::decode_bare(&record.value, self.telemetry.schema()).map_err(|error| error.to_string())
    }

    fn sort_out(
        &mut self,
        record: &Received,
        batch: &RecordBatch,
        latest: Option<EventTime>,
    ) -> Result<Option<RecordBatch>, ProcessError> {
        self.tally.read(batch.num_rows());
        if self.aggregates.is_empty() {
            self.tally.filtered(batch.num_rows());
            return Ok(None);
        }
        let split = split_rows(batch, self.late_before(), latest)?;
        if split.late.num_rows() > 0 {
            self.set_aside_late(record, &split.late)?;
        }
        if split.future.num_rows() > 0 {
            self.tally.dead(split.future.num_rows());
            let reason = format!("event times later than {} are not believed", latest.unwrap_or(EventTime::MIN));
            self.output.dead_rows(record, &split.future, reason).map_err(failed)?;
        }
        self.tally.opened(event_times(&split.on_time), self.pane);
        self.advance(split.newest.map(|newest| newest - self.allowed_lateness));
        Ok((split.on_time.num_rows() > 0).then_some(split.on_time))
    }

    /// Late rows correct what is kept of their windows; the others are for the late topic.
    fn set_aside_late(&mut self, record: &Received, late: &RecordBatch) -> Result<(), ProcessError> {
        let kept_from = if self.keeps_for_corrections {
            self.aggregates.iter().map(WindowAggregate::kept_from).max().unwrap_or(EventTime::MIN)
        } else {
            self.late_before()
        };
        let split = split_rows(late, kept_from, None)?;
        if split.on_time.num_rows() > 0 {
            self.tally.corrected(split.on_time.num_rows());
            self.corrections.push(split.on_time);
        }
        if split.late.num_rows() > 0 {
            self.tally.late(split.late.num_rows());
            self.damage_rows(&split.late);
            self.output.late(record, &split.late).map_err(failed)?;
        }
        Ok(())
    }

    /// Rows from before the last pane that has been emitted, or will be in this cycle, are late.
    fn late_before(&self) -> EventTime {
        let closed = self.aggregates.iter().map(WindowAggregate::closed_before).max().unwrap_or(EventTime::MIN);
        self.watermark.map_or(closed, |watermark| closed.max(watermark.floor(self.pane)))
    }

    fn advance(&mut self, to: Option<EventTime>) {
        self.watermark = self.watermark.max(to);
    }

    fn damage_now(&mut self) {
        if let Some(watermark) = self.watermark {
            for aggregate in &mut self.aggregates {
                aggregate.damage(watermark, watermark);
            }
        }
    }

    fn damage_rows(&mut self, rows: &RecordBatch) {
        let Some(watermark) = self.watermark else { return };
        for time in event_times(rows) {
            for aggregate in &mut self.aggregates {
                aggregate.damage(EventTime::from_micros(*time), watermark);
            }
        }
    }
}

/// A shard's name in headers and checkpoints.
pub(crate) fn shard_name(topic: Topic, partition: i32) -> Arc<str> {
    format!("{}/{partition}", topic.name()).into()
}

/// What a topic carries.
pub(crate) fn telemetry_of(topic: Topic) -> Telemetry {
    if topic == Topic::Metrics { Telemetry::Metrics } else { Telemetry::Queries }
}

fn event_times(rows: &RecordBatch) -> &[i64] {
    let times = rows.column_by_name(schema::EVENT_TIME);
    times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>()).map_or(&[], |times| times.values())
}

fn failed(error: codec::CodecError) -> ProcessError {
    WindowError::Checkpoint(error.to_string()).into()
}
