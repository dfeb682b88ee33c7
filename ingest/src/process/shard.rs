//! One partition of telemetry: its queries' states, its watermark, and how far it has been read.

use std::sync::Arc;

use arrow::array::RecordBatch;
use headroom_ingest_broker::Received;
use headroom_ingest_window::{FeatureQuery, Telemetry, WindowAggregate, split_rows};
use headroom_proto::topics::Topic;
use headroom_proto::{Clock, EventTime, codec, headers, schema};

use super::checkpoint::ShardState;
use super::output::{Output, shard_name};
use super::{Ledger, ProcessConfig, ProcessError};
use headroom_proto::time::Span;

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    topic: Topic,
    partition: i32,
    name: Arc<str>,
    telemetry: Telemetry,
    allowed_lateness: Span,
    aggregates: Vec<WindowAggregate>,
    next_offset: Option<i64>,
    watermark: Option<EventTime>,
    sequence: u64,
    /// When rows last came, by the clock.
    last_rows_at: Option<EventTime>,
}

impl Shard {
    pub(crate) fn new(
        topic: Topic,
        partition: i32,
        queries: &[Arc<FeatureQuery>],
        state: Option<&ShardState>,
        config: &ProcessConfig,
        now: EventTime,
    ) -> Result<Self, ProcessError> {
        let mut aggregates = Vec::with_capacity(queries.len());
        for query in queries {
            let saved = state.and_then(|state| state.aggregates.iter().find(|(name, _)| name == query.name()));
            aggregates.push(match saved {
                Some((_, saved)) => WindowAggregate::restore(Arc::clone(query), saved)?,
                None => WindowAggregate::new(Arc::clone(query)),
            });
        }
        Ok(Self {
            topic,
            partition,
            name: shard_name(topic, partition),
            telemetry: telemetry_of(topic),
            allowed_lateness: config.allowed_lateness,
            aggregates,
            next_offset: state.and_then(|state| state.next_offset),
            watermark: state.and_then(|state| state.watermark_us).map(EventTime::from_micros),
            sequence: state.map_or(0, |state| state.sequence),
            // A source that is silent after a restart has been silent since then at least.
            last_rows_at: state.map(|_| now),
        })
    }

    pub(crate) fn next_offset(&self) -> Option<i64> {
        self.next_offset
    }

    pub(crate) fn position(&self) -> Option<(Topic, i32, i64)> {
        self.next_offset.map(|offset| (self.topic, self.partition, offset))
    }

    pub(crate) fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    pub(crate) fn state_rows(&self) -> usize {
        self.aggregates.iter().map(WindowAggregate::state_rows).sum()
    }

    pub(crate) fn state(&self) -> Result<ShardState, ProcessError> {
        let aggregates = self.aggregates.iter().map(|a| Ok((a.query().name().to_owned(), a.checkpoint()?)));
        Ok(ShardState {
            name: self.name.to_string(),
            next_offset: self.next_offset,
            watermark_us: super::micros(self.watermark),
            sequence: self.sequence,
            aggregates: aggregates.collect::<Result<_, ProcessError>>()?,
        })
    }

    /// Takes in records in their order; sets late, unreadable and unbelievable rows aside.
    pub(crate) async fn take_in(
        &mut self,
        records: Vec<Received>,
        latest: Option<EventTime>,
        now: EventTime,
        output: &mut Output,
        ledger: &Ledger,
    ) -> Result<(), ProcessError> {
        let mut rows = Vec::new();
        for record in records {
            self.next_offset = Some(record.offset + 1);
            let promised = record.header(headers::WATERMARK).and_then(|text| text.parse().ok());
            match self.decode(&record) {
                Ok(batch) => rows.extend(self.sort_out(&record, &batch, latest, output, ledger)?),
                Err(reason) => {
                    ledger.read.inc();
                    ledger.dead.inc();
                    self.damage_now();
                    output.dead(&record, reason);
                }
            }
            self.advance(
                promised.map(EventTime::from_micros).filter(|time| latest.is_none_or(|latest| *time <= latest)),
            );
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

    /// Hands over the windows that have closed.
    pub(crate) async fn close(&mut self, output: &mut Output) -> Result<(), ProcessError> {
        let Some(watermark) = self.watermark else { return Ok(()) };
        for aggregate in &mut self.aggregates {
            for emission in aggregate.close(watermark).await? {
                output
                    .windows(&self.name, &mut self.sequence, watermark, &emission)
                    .map_err(|error| headroom_ingest_window::WindowError::Checkpoint(error.to_string()))?;
            }
        }
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
        output: &mut Output,
        ledger: &Ledger,
    ) -> Result<Option<RecordBatch>, ProcessError> {
        let count = |rows: &RecordBatch| u64::try_from(rows.num_rows()).unwrap_or(0);
        let failed = |error: codec::CodecError| headroom_ingest_window::WindowError::Checkpoint(error.to_string());
        ledger.read.inc_by(count(batch));
        if self.aggregates.is_empty() {
            ledger.filtered.inc_by(count(batch));
            return Ok(None);
        }
        let split = split_rows(batch, self.late_before(), latest)?;
        if split.late.num_rows() > 0 {
            ledger.late.inc_by(count(&split.late));
            self.damage_rows(&split.late);
            output.late(record, &split.late).map_err(failed)?;
        }
        if split.future.num_rows() > 0 {
            ledger.dead.inc_by(count(&split.future));
            let reason = format!("event times later than {} are not believed", latest.unwrap_or(EventTime::MIN));
            output.dead_rows(record, &split.future, reason).map_err(failed)?;
        }
        ledger.aggregated.inc_by(count(&split.on_time));
        self.advance(split.newest.map(|newest| newest - self.allowed_lateness));
        Ok((split.on_time.num_rows() > 0).then_some(split.on_time))
    }

    /// Rows from before the last pane that has been emitted, or will be in this cycle, are late.
    fn late_before(&self) -> EventTime {
        let pane = self.aggregates.iter().map(|aggregate| aggregate.query().pane()).min().unwrap_or_default();
        let closed = self.aggregates.iter().map(WindowAggregate::closed_before).max().unwrap_or(EventTime::MIN);
        self.watermark.map_or(closed, |watermark| closed.max(watermark.floor(pane)))
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
        use arrow::array::AsArray;
        use arrow::datatypes::TimestampMicrosecondType;
        let (Some(times), Some(watermark)) = (rows.column_by_name(schema::EVENT_TIME), self.watermark) else { return };
        for time in times.as_primitive::<TimestampMicrosecondType>().values() {
            for aggregate in &mut self.aggregates {
                aggregate.damage(EventTime::from_micros(*time), watermark);
            }
        }
    }
}

/// What a topic carries.
pub(crate) fn telemetry_of(topic: Topic) -> Telemetry {
    if topic == Topic::Metrics { Telemetry::Metrics } else { Telemetry::Queries }
}
