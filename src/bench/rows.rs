//! Query events for the benchmark: the same for every contestant, from the number of the batch alone.

use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use headroom_proto::{EventTime, Span, schema};

const FINGERPRINTS: u64 = 100;
/// Rows come this much out of order, at most, in microseconds.
const JITTER_US: u64 = 5_000_000;

/// How many events, of how many groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Events in all.
    pub(crate) events: u64,
    /// Groups in each window.
    pub(crate) keys: u64,
    /// Events of a record.
    pub(crate) batch: u64,
    /// Events of a window of ten seconds.
    pub(crate) per_window: u64,
}

impl Workload {
    /// The time of the first event.
    pub(crate) fn start() -> EventTime {
        EventTime::from_micros(1_767_225_600_000_000)
    }

    /// When all windows have closed.
    pub(crate) fn end(&self) -> EventTime {
        let windows = i64::try_from(self.events / self.per_window + 4).unwrap_or(i64::MAX);
        Self::start() + Span::from_secs(windows.saturating_mul(10))
    }

    /// How many records.
    pub(crate) fn batches(&self) -> u64 {
        self.events.div_ceil(self.batch)
    }

    /// One record's events.
    pub(crate) fn rows(&self, number: u64) -> anyhow::Result<RecordBatch> {
        let first = number * self.batch;
        let numbers = first..(first + self.batch).min(self.events);
        let mut dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let (mut times, mut workloads, mut fingerprints) = (Vec::new(), Vec::new(), Vec::new());
        let (mut durations, mut rows, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for event in numbers {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            let key = (dice >> 8) % self.keys;
            let at = event * 10_000_000 / self.per_window + JITTER_US - (dice >> 40) % JITTER_US;
            times.push(Self::start().micros() + i64::try_from(at)?);
            workloads.push(format!("w{}", key / FINGERPRINTS));
            fingerprints.push(format!("f{:02}", key % FINGERPRINTS));
            // Between 0.5 ms and 5 s, most of them short.
            let share = f64::from(u32::try_from((dice >> 11) & 0xFFFF_FFFF)?) / f64::from(u32::MAX);
            durations.push(0.5 * 10_000_f64.powf(share * share));
            rows.push(i64::try_from((dice >> 20) % 500)?);
            errors.push((dice >> 30) % 200 == 0);
        }
        let count = times.len();
        let schema = schema::queries();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                schema::EVENT_TIME => Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
                schema::WORKLOAD => Arc::new(StringArray::from_iter_values(&workloads)),
                "fingerprint" => Arc::new(StringArray::from_iter_values(&fingerprints)),
                "duration_ms" => Arc::new(Float64Array::from(durations.clone())),
                "rows" => Arc::new(Int64Array::from(rows.clone())),
                "error" => Arc::new(BooleanArray::from(errors.clone())),
                "count" => Arc::new(Int64Array::from(vec![1; count])),
                _ => new_null_array(field.data_type(), count),
            }
        });
        let columns = columns.collect();
        RecordBatch::try_new(Arc::clone(&schema), columns).context("the benchmark's rows")
    }
}
