//! One round of records: the rows read since the round before, one record a workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use headroom_ingest_broker::Record;
use headroom_proto::codec::{CodecError, encode_bare};
use headroom_proto::signal::{STRUCTURED, SignalError, to_event};
use headroom_proto::topics::Topic;
use headroom_proto::v1::Signal;
use headroom_proto::{EventTime, WorkloadId, headers, schema};

use super::ReplayConfig;
use crate::collect::trace::{Rejected, Sample};

/// Rows that are read and not yet sent.
#[derive(Default)]
pub(super) struct Round {
    samples: BTreeMap<WorkloadId, Vec<(EventTime, f64)>>,
    rejected: Vec<(u64, Rejected)>,
    rows: usize,
    position: u64,
    oldest: Option<EventTime>,
    newest: Option<EventTime>,
}

impl Round {
    /// Hands out what is to be sent; the position stays.
    pub(super) fn take(&mut self) -> Self {
        let next = Self { position: self.position, ..Self::default() };
        std::mem::replace(self, next)
    }

    pub(super) fn push(&mut self, row: u64, sample: Sample) {
        self.oldest = Some(self.oldest.map_or(sample.time, |oldest| oldest.min(sample.time)));
        self.newest = self.newest.max(Some(sample.time));
        self.samples.entry(sample.workload).or_default().push((sample.time, sample.value));
        self.rows += 1;
        self.read_to(row);
    }

    pub(super) fn reject(&mut self, row: u64, rejected: Rejected) {
        self.rejected.push((row, rejected));
        self.rows += 1;
    }

    /// Everything up to this row has been read and belongs to the replay.
    pub(super) fn read_to(&mut self, row: u64) {
        self.position = row;
    }

    /// The last row read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Must it go before a sample of `time` comes in?
    pub(super) fn is_full(&self, time: EventTime, config: &ReplayConfig) -> bool {
        self.rows >= config.batch_rows || self.oldest.is_some_and(|oldest| time - oldest >= config.span())
    }

    pub(super) fn newest(&self) -> Option<EventTime> {
        self.newest
    }

    pub(super) fn rejected(&self) -> impl Iterator<Item = &(u64, Rejected)> {
        self.rejected.iter()
    }

    pub(super) fn row_count(&self) -> u64 {
        self.samples.values().map(|rows| rows.len() as u64).sum()
    }

    /// One record a workload.
    pub(super) fn records(&self, config: &ReplayConfig) -> Result<Vec<Record>, CodecError> {
        let record = |(workload, rows): (&WorkloadId, &Vec<(EventTime, f64)>)| {
            let record = metrics_record(workload, rows, self.position, config)?;
            Ok(match rows.iter().map(|(time, _)| *time).max() {
                Some(time) if time.micros() >= 0 => record.time(time),
                _ => record,
            })
        };
        self.samples.iter().map(record).collect()
    }
}

fn metrics_record(
    workload: &WorkloadId,
    rows: &[(EventTime, f64)],
    position: u64,
    config: &ReplayConfig,
) -> Result<Record, CodecError> {
    let times: TimestampMicrosecondArray = rows.iter().map(|(time, _)| Some(time.micros())).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| workload.as_str()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| &config.metric))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, value)| *value))),
    ];
    let batch = RecordBatch::try_new(schema::metrics(), columns)?;
    Ok(Record::new(Topic::Metrics, encode_bare(&batch)?)
        .key(workload.as_str().to_owned())
        .header(headers::SCHEMA, "metrics")
        .header(headers::SCHEMA_VERSION, schema::METRICS_VERSION.to_string())
        .header(headers::SOURCE, config.source())
        .header(headers::SOURCE_POSITION, position.to_string()))
}

/// A record without rows that promises completeness up to `watermark`.
pub(super) fn end_record(
    workload: &WorkloadId,
    position: u64,
    watermark: EventTime,
    config: &ReplayConfig,
) -> Result<Record, CodecError> {
    let record = metrics_record(workload, &[], position, config)?;
    Ok(record.header(headers::WATERMARK, watermark.micros().to_string()).time(watermark))
}

/// A signal as a structured CloudEvent.
pub(in crate::collect) fn signal_record(signal: &Signal, source: &str, now: EventTime) -> Result<Record, SignalError> {
    let event = to_event(signal, source)?;
    let value = serde_json::to_vec(&event).map_err(|error| SignalError::Data(error.to_string()))?;
    let record =
        Record::new(Topic::Signals, value).key(signal.signal_id.clone()).header(headers::CONTENT_TYPE, STRUCTURED);
    Ok(if now.micros() >= 0 { record.time(now) } else { record })
}
