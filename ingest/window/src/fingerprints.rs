//! `first_seen`: when a workload first ran a query of this fingerprint, as far as the shard remembers.
//!
//! It is a column of `queries` for feature queries that use it. A fingerprint that has not been seen for two weeks is
//! forgotten, and so are those beyond a million, the ones that were seen longest ago first.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use headroom_proto::schema;
use headroom_proto::time::Span;
use headroom_proto::v1::SeenFingerprint;

/// The column's name.
pub(crate) const FIRST_SEEN: &str = "first_seen";
const FINGERPRINT: &str = "fingerprint";
const LIMIT: usize = 1_000_000;

/// First and last event time of every fingerprint, by the hash of workload and fingerprint.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    seen: HashMap<u64, (i64, i64)>,
}

/// FNV-1a, 64 bits: <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>. The same in every run and version.
pub(crate) fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in texts {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// Query events with the column.
pub(crate) fn schema_with_first_seen(queries: &SchemaRef) -> SchemaRef {
    let mut fields = queries.fields().to_vec();
    fields.push(Arc::new(Field::new(FIRST_SEEN, schema::timestamp(), true)));
    Arc::new(Schema::new(fields))
}

impl Fingerprints {
    /// Rows with the column, and remembers what they have.
    ///
    /// # Errors
    /// When they are no query events.
    pub(crate) fn beside(&mut self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let column = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
        };
        let times = column(schema::EVENT_TIME)?.as_primitive::<TimestampMicrosecondType>();
        let workloads = column(schema::WORKLOAD)?.as_string::<i32>();
        let fingerprints = column(FINGERPRINT)?.as_string::<i32>();
        let first_seen = times.values().iter().zip(workloads.iter().zip(fingerprints.iter())).map(|(time, of)| {
            let (Some(workload), Some(fingerprint)) = of else { return None };
            let (first, last) = self.seen.entry(hash([workload, fingerprint])).or_insert((*time, *time));
            *first = (*first).min(*time);
            *last = (*last).max(*time);
            Some(*first)
        });
        let first_seen: TimestampMicrosecondArray = first_seen.collect();
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(first_seen.with_timezone("UTC")) as ArrayRef);
        RecordBatch::try_new(schema_with_first_seen(&rows.schema()), columns)
    }

    /// Forgets what was last seen before, and what is too much.
    pub(crate) fn forget_before(&mut self, time_us: i64) {
        let memory = Span::from_hours(14 * 24).micros();
        let oldest = time_us.saturating_sub(memory);
        self.seen.retain(|_, (_, last)| *last >= oldest);
        if self.seen.len() > LIMIT {
            let mut lasts: Vec<i64> = self.seen.values().map(|(_, last)| *last).collect();
            lasts.sort_unstable();
            let kept_from = lasts.get(lasts.len() - LIMIT * 9 / 10).copied().unwrap_or(i64::MIN);
            self.seen.retain(|_, (_, last)| *last >= kept_from);
        }
    }

    pub(crate) fn saved(&self) -> Vec<SeenFingerprint> {
        let one = |(hash, (first, last)): (&u64, &(i64, i64))| SeenFingerprint {
            hash: *hash,
            first_us: *first,
            last_us: *last,
        };
        self.seen.iter().map(one).collect()
    }

    pub(crate) fn restore(saved: &[SeenFingerprint]) -> Self {
        Self { seen: saved.iter().map(|one| (one.hash, (one.first_us, one.last_us))).collect() }
    }
}
