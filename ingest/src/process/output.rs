//! What a cycle writes: windows, late rows, dead letters.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use headroom_ingest_broker::{Received, Record};
use headroom_ingest_window::Emission;
use headroom_proto::codec::{CodecError, encode_bare, encode_stream};
use headroom_proto::topics::Topic;
use headroom_proto::{EventTime, headers, schema};
use serde::{Deserialize, Serialize};

/// Records to send once the checkpoint is written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) records: Vec<Record>,
    pub(crate) windows: u64,
}

/// A record as a checkpoint keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedRecord {
    topic: String,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    time_us: Option<i64>,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn saved(&self) -> Vec<SavedRecord> {
        self.records.iter().map(SavedRecord::of).collect()
    }

    /// One record for each workload of an emission, numbered on from `sequence`.
    pub(crate) fn windows(
        &mut self,
        shard: &str,
        sequence: &mut u64,
        watermark: EventTime,
        emission: &Emission,
    ) -> Result<(), CodecError> {
        let batch = &emission.batch;
        let Some(workloads) = batch.column_by_name(schema::WORKLOAD) else { return Ok(()) };
        let workloads = workloads.as_string::<i32>();
        let mut names: Vec<&str> = workloads.iter().flatten().collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let mask: BooleanArray = workloads.iter().map(|workload| Some(workload == Some(name))).collect();
            let rows = filter_record_batch(batch, &mask)?;
            *sequence += 1;
            let newest = rows
                .column_by_name("window_end")
                .and_then(|ends| arrow::compute::max(ends.as_primitive::<TimestampMicrosecondType>()));
            let record = Record::new(Topic::Windows, encode_stream(&rows.schema(), std::slice::from_ref(&rows))?)
                .key(name.to_owned())
                .header(headers::SCHEMA, "windows")
                .header(headers::SCHEMA_VERSION, schema::WINDOWS_VERSION.to_string())
                .header(headers::SHARD, shard.to_owned())
                .header(headers::SEQUENCE, sequence.to_string())
                .header(headers::WATERMARK, watermark.micros().to_string())
                .time(newest.map_or(watermark, EventTime::from_micros));
            self.windows += u64::try_from(rows.num_rows()).unwrap_or(0);
            self.records.push(record);
        }
        Ok(())
    }

    /// Rows whose windows have closed.
    pub(crate) fn late(&mut self, record: &Received, rows: &RecordBatch) -> Result<(), CodecError> {
        let late = Record::new(Topic::Late, encode_bare(rows)?)
            .header(headers::SCHEMA, record.header(headers::SCHEMA).unwrap_or_default().to_owned())
            .header(headers::SCHEMA_VERSION, record.header(headers::SCHEMA_VERSION).unwrap_or_default().to_owned())
            .header(headers::DEAD_ORIGIN, record.origin());
        self.records.push(late);
        Ok(())
    }

    /// A record that cannot be used, as it came.
    pub(crate) fn dead(&mut self, record: &Received, reason: String) {
        let mut dead = Record::new(Topic::DeadLetter, record.value.clone());
        dead.key.clone_from(&record.key);
        dead.headers.clone_from(&record.headers);
        self.records.push(dead.header(headers::DEAD_REASON, reason).header(headers::DEAD_ORIGIN, record.origin()));
    }

    /// Some rows of a record that cannot be used.
    pub(crate) fn dead_rows(
        &mut self,
        record: &Received,
        rows: &RecordBatch,
        reason: String,
    ) -> Result<(), CodecError> {
        let part = Received { value: encode_bare(rows)?, ..record.clone() };
        self.dead(&part, reason);
        Ok(())
    }
}

impl SavedRecord {
    fn of(record: &Record) -> Self {
        Self {
            topic: record.topic.name().to_owned(),
            key: record.key.as_ref().map(|key| key.to_vec()),
            value: record.value.to_vec(),
            headers: record.headers.iter().map(|(name, value)| (name.clone(), value.to_vec())).collect(),
            time_us: super::micros(record.time),
        }
    }

    /// The record, byte for byte.
    pub(crate) fn record(&self) -> Record {
        let topic = Topic::from_name(&self.topic).unwrap_or(Topic::DeadLetter);
        let mut record = Record::new(topic, self.value.clone());
        record.key = self.key.clone().map(Bytes::from);
        record.headers = self.headers.iter().map(|(name, value)| (name.clone(), Bytes::from(value.clone()))).collect();
        record.time = self.time_us.map(EventTime::from_micros);
        record
    }
}

/// A shard's name in headers and checkpoints.
pub(crate) fn shard_name(topic: Topic, partition: i32) -> Arc<str> {
    format!("{}/{partition}", topic.name()).into()
}
