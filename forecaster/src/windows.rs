//! Reads the target's values out of window records.

use arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, TimestampMicrosecondType};
use headroom_proto::codec::{CodecError, decode_stream};
use sha2::{Digest, Sha256};

/// A closed window of the target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetWindow {
    pub(crate) workload: String,
    pub(crate) start_us: i64,
    pub(crate) end_us: i64,
    /// NaN when the window has rows, but no value.
    pub(crate) value: f64,
    /// Did every record of the window's span arrive in time?
    pub(crate) complete: bool,
    pub(crate) revision: i32,
}

/// What one record of the windows topic holds for the target.
#[derive(Debug, Default)]
pub(crate) struct WindowRecord {
    /// By end, then workload.
    pub(crate) windows: Vec<TargetWindow>,
    /// Rows of other sizes, or of queries without the target.
    pub(crate) other_rows: u64,
    /// SHA-256 over the target's name and the columns' names and types, hex.
    pub(crate) schema_hash: String,
}

/// A window record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WindowError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("column `{name}` is missing or not {wanted}")]
    Column { name: &'static str, wanted: &'static str },
    #[error("the target `{target}` is {found}, not a number")]
    Target { target: String, found: DataType },
}

/// Reads the windows of `size_s` seconds that carry the column `target`.
pub(crate) fn read(value: &[u8], target: &str, size_s: i64) -> Result<WindowRecord, WindowError> {
    let mut record = WindowRecord::default();
    for batch in decode_stream(value)? {
        let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        let Some(values) = batch.column_by_name(target) else {
            record.other_rows += rows;
            continue;
        };
        if !values.data_type().is_numeric() {
            return Err(WindowError::Target { target: target.to_owned(), found: values.data_type().clone() });
        }
        let values = cast(values, &DataType::Float64).map_err(CodecError::from)?;
        record.schema_hash = schema_hash(&batch, target);
        let before = record.windows.len();
        Envelope::of(&batch)?.collect(values.as_primitive::<Float64Type>(), size_s, &mut record.windows);
        record.other_rows += rows - u64::try_from(record.windows.len() - before).unwrap_or(rows);
    }
    record.windows.sort_by(|a, b| (a.end_us, &a.workload, a.revision).cmp(&(b.end_us, &b.workload, b.revision)));
    Ok(record)
}

struct Envelope<'a> {
    size_s: &'a Int32Array,
    start: &'a TimestampMicrosecondArray,
    end: &'a TimestampMicrosecondArray,
    workload: &'a StringArray,
    revision: &'a Int32Array,
    complete: &'a BooleanArray,
}

impl<'a> Envelope<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, WindowError> {
        let column = |name: &'static str, wanted: &'static str| {
            batch.column_by_name(name).ok_or(WindowError::Column { name, wanted })
        };
        let int = |name| {
            column(name, "Int32")?.as_primitive_opt::<Int32Type>().ok_or(WindowError::Column { name, wanted: "Int32" })
        };
        let time = |name| {
            let wanted = "a timestamp in microseconds";
            column(name, wanted)?
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or(WindowError::Column { name, wanted })
        };
        let workload = column("workload", "Utf8")?.as_string_opt::<i32>();
        let complete = column("complete", "Boolean")?.as_boolean_opt();
        Ok(Self {
            size_s: int("window_size_s")?,
            start: time("window_start")?,
            end: time("window_end")?,
            workload: workload.ok_or(WindowError::Column { name: "workload", wanted: "Utf8" })?,
            revision: int("revision")?,
            complete: complete.ok_or(WindowError::Column { name: "complete", wanted: "Boolean" })?,
        })
    }

    fn collect(&self, values: &Float64Array, size_s: i64, windows: &mut Vec<TargetWindow>) {
        for row in (0..values.len()).filter(|row| i64::from(self.size_s.value(*row)) == size_s) {
            windows.push(TargetWindow {
                workload: self.workload.value(row).to_owned(),
                start_us: self.start.value(row),
                end_us: self.end.value(row),
                value: if values.is_null(row) { f64::NAN } else { values.value(row) },
                complete: self.complete.value(row),
                revision: self.revision.value(row),
            });
        }
    }
}

fn schema_hash(batch: &RecordBatch, target: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(target);
    for field in batch.schema_ref().fields() {
        hasher.update(format!("\n{}:{}", field.name(), field.data_type()));
    }
    hex(&hasher.finalize())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Row, window_bytes};

    const DAY_US: i64 = 86_400_000_000;

    #[test]
    fn other_sizes_are_left_and_the_order_is_by_end() {
        let row = |size_s: i32, end_us: i64, value: Option<f64>| Row {
            size_s,
            end_us,
            value,
            ..Row::new("shop", end_us, 0.0)
        };
        let rows = [row(300, 2 * DAY_US, Some(2.0)), row(60, DAY_US, Some(9.0)), row(300, DAY_US, None)];
        let record = read(&window_bytes("requests_per_s", &rows), "requests_per_s", 300).expect("reads");
        let ends: Vec<i64> = record.windows.iter().map(|window| window.end_us).collect();
        assert_eq!((ends, record.other_rows), (vec![DAY_US, 2 * DAY_US], 1));
        let values: Vec<u64> = record.windows.iter().map(|window| window.value.to_bits()).collect();
        assert_eq!(values, [f64::NAN, 2.0].map(f64::to_bits));
        assert_eq!(record.schema_hash.len(), 64);
    }

    #[test]
    fn a_query_without_the_target_is_not_ours_and_nonsense_is_an_error() {
        let bytes = window_bytes("errors_per_s", &[Row::new("shop", DAY_US, 1.0)]);
        let record = read(&bytes, "requests_per_s", 300).expect("reads");
        assert_eq!((record.windows.len(), record.other_rows), (0, 1));
        assert!(read(b"nonsense", "requests_per_s", 300).is_err());
        let error = read(&bytes, "workload", 300).expect_err("a text");
        assert!(error.to_string().contains("workload"), "{error}");
    }
}
