//! What an epoch writes: windows, late rows, dead letters, and the ledger of them.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use headroom_ingest_broker::{Received, Record};
use headroom_ingest_window::Emission;
use headroom_proto::codec::{CodecError, encode_bare, encode_stream};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{LedgerEntry, PendingHeader, PendingRecord};
use headroom_proto::{EventTime, Message, headers, schema};

/// Records to send once the checkpoint is written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) records: Vec<Record>,
    pub(crate) has_windows: bool,
}

impl Output {
    /// The records as a checkpoint keeps them.
    pub(crate) fn pending(&self) -> Vec<PendingRecord> {
        self.records.iter().map(pending).collect()
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
        let mut order: Vec<u32> = (0..).take(batch.num_rows()).collect();
        let workload_of = |row: &u32| workloads.value(usize::try_from(*row).unwrap_or(usize::MAX));
        order.sort_by_key(workload_of);
        for of_one in order.chunk_by(|a, b| workload_of(a) == workload_of(b)) {
            let Some(name) = of_one.first().map(workload_of) else { continue };
            let rows = take_record_batch(batch, &UInt32Array::from(of_one.to_vec()))?;
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
            self.has_windows = true;
            self.records.push(record);
        }
        Ok(())
    }

    /// What became of the rows of an epoch.
    pub(crate) fn ledger(&mut self, entry: &LedgerEntry) {
        let record = Record::new(Topic::Ledger, entry.encode_to_vec()).key(entry.shard.clone());
        self.records.push(record.header(headers::MESSAGE, "LedgerEntry"));
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

/// The record that a checkpoint kept, byte for byte.
pub(crate) fn kept(pending: PendingRecord) -> Record {
    let mut record = Record::new(Topic::from_name(&pending.topic).unwrap_or(Topic::DeadLetter), pending.value);
    record.key = pending.key.map(Bytes::from);
    record.headers = pending.headers.into_iter().map(|header| (header.name, Bytes::from(header.value))).collect();
    record.time = pending.time_us.map(EventTime::from_micros);
    record
}

fn pending(record: &Record) -> PendingRecord {
    let header = |(name, value): &(String, Bytes)| PendingHeader { name: name.clone(), value: value.to_vec() };
    PendingRecord {
        topic: record.topic.name().to_owned(),
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.to_vec(),
        headers: record.headers.iter().map(header).collect(),
        time_us: record.time.map(EventTime::micros),
    }
}
