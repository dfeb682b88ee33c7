//! Parquet: timestamps of any unit, dates or texts as time; any number as value.

use std::collections::VecDeque;
use std::fs::File;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use bytes::Bytes;
use headroom_proto::{EventTime, WorkloadId};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::csv_rows::{TIME_HOW, VALUE_HOW};
use super::{Entry, Places, Rejected, Row, RowError, Sample, TraceColumns, TraceError, shortened};

const BATCH_ROWS: usize = 8_192;

/// The rows of a Parquet file.
pub(super) struct ParquetRows {
    file: String,
    reader: ParquetRecordBatchReader,
    columns: TraceColumns,
    row: u64,
}

/// The columns of one batch, each in the type it is read in.
struct Cells {
    times: Times,
    values: ArrayRef,
    workloads: Option<ArrayRef>,
    gaps: Option<ArrayRef>,
}

enum Times {
    Micros(ArrayRef),
    Texts(ArrayRef),
}

impl ParquetRows {
    pub(super) fn open(file: String, input: File, columns: &TraceColumns) -> Result<Self, TraceError> {
        let failed = |error: parquet::errors::ParquetError| TraceError::Parquet {
            file: file.clone(),
            reason: error.to_string(),
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(input).map_err(failed)?;
        let names: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        let places = Places::find(&file, &names, columns)?;
        check_types(&file, &builder, &places)?;
        let wanted = [Some(places.time), Some(places.value), places.workload, places.gap];
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.into_iter().flatten());
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(failed)?;
        Ok(Self { file, reader, columns: columns.clone(), row: 0 })
    }

    pub(super) fn next_batch(&mut self) -> Result<Option<VecDeque<Row>>, TraceError> {
        let failed = |error: arrow::error::ArrowError| TraceError::Parquet {
            file: self.file.clone(),
            reason: error.to_string(),
        };
        let Some(batch) = self.reader.next().transpose().map_err(failed)? else { return Ok(None) };
        let cells = self.cells(&batch).map_err(failed)?;
        let mut rows = VecDeque::with_capacity(batch.num_rows());
        for at in 0..batch.num_rows() {
            self.row += 1;
            let entry = self.parse(&cells, at).unwrap_or_else(|error| {
                let raw = Bytes::from(format!(
                    "{}={} {}={}",
                    self.columns.time,
                    cells.time_text(at),
                    self.columns.value,
                    error.found
                ));
                Entry::Rejected(Rejected { raw, error })
            });
            rows.push_back(Row { number: self.row, entry });
        }
        Ok(Some(rows))
    }

    fn cells(&self, batch: &RecordBatch) -> Result<Cells, arrow::error::ArrowError> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| arrow::error::ArrowError::SchemaError(format!("column `{name}` is gone")))
        };
        let time = column(&self.columns.time)?;
        let times = if let DataType::Timestamp(_, zone) = time.data_type() {
            // The unit changes, the zone stays: a timestamp counts from the epoch in UTC whatever zone it shows.
            Times::Micros(cast(time, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?)
        } else if is_date(time.data_type()) {
            Times::Micros(cast(time, &DataType::Timestamp(TimeUnit::Microsecond, None))?)
        } else {
            Times::Texts(cast(time, &DataType::Utf8)?)
        };
        let texts = |name: &String| cast(column(name)?, &DataType::Utf8);
        Ok(Cells {
            times,
            values: cast(column(&self.columns.value)?, &DataType::Float64)?,
            workloads: self.columns.workload.as_ref().map(texts).transpose()?,
            gaps: batch.column_by_name(super::GAP_COLUMN).map(|gaps| cast(gaps, &DataType::Float64)).transpose()?,
        })
    }

    fn parse(&self, cells: &Cells, at: usize) -> Result<Entry, RowError> {
        let time =
            cells.time(at).ok_or_else(|| self.error(&self.columns.time, cells.time_text(at), TIME_HOW.to_owned()))?;
        if cells.gaps.as_ref().and_then(|gaps| number(gaps, at)).is_some_and(|flag| flag > 0.5) {
            return Ok(Entry::Gap(time));
        }
        let workload = match (&cells.workloads, &self.columns.workload) {
            (Some(names), Some(column)) => {
                let name = text(names, at).unwrap_or_default();
                WorkloadId::try_new(name.clone()).map_err(|error| self.error(column, name, error.to_string()))?
            }
            _ => self.columns.default_workload.clone(),
        };
        match number(&cells.values, at) {
            Some(value) if value.is_finite() => Ok(Entry::Sample(Sample { workload, time, value })),
            Some(value) if !value.is_nan() => {
                Err(self.error(&self.columns.value, value.to_string(), VALUE_HOW.to_owned()))
            }
            _ => Ok(Entry::Gap(time)),
        }
    }

    fn error(&self, column: &str, found: String, how: String) -> RowError {
        let place = format!("row {}", self.row);
        RowError { file: self.file.clone(), place, column: column.to_owned(), found: shortened(&found), how }
    }
}

impl Cells {
    fn time(&self, at: usize) -> Option<EventTime> {
        match &self.times {
            Times::Micros(array) if array.is_valid(at) => {
                Some(EventTime::from_micros(array.as_primitive::<TimestampMicrosecondType>().value(at)))
            }
            Times::Micros(_) => None,
            Times::Texts(array) => EventTime::parse(&text(array, at)?).ok(),
        }
    }

    fn time_text(&self, at: usize) -> String {
        match &self.times {
            Times::Micros(_) => self.time(at).map(|time| time.to_string()),
            Times::Texts(array) => text(array, at),
        }
        .unwrap_or_default()
    }
}

fn number(array: &ArrayRef, at: usize) -> Option<f64> {
    array.is_valid(at).then(|| array.as_primitive::<Float64Type>().value(at))
}

fn text(array: &ArrayRef, at: usize) -> Option<String> {
    array.is_valid(at).then(|| array.as_string::<i32>().value(at).to_owned())
}

fn is_date(kind: &DataType) -> bool {
    matches!(kind, DataType::Date32 | DataType::Date64)
}

fn is_text(kind: &DataType) -> bool {
    if let DataType::Dictionary(_, values) = kind {
        return is_text(values);
    }
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_flag(kind: &DataType) -> bool {
    kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Null)
}

fn check_types(file: &str, builder: &ParquetRecordBatchReaderBuilder<File>, places: &Places) -> Result<(), TraceError> {
    let check = |place: usize, fits: fn(&DataType) -> bool, wanted: &'static str| {
        let Some(field) = builder.schema().fields().get(place) else { return Ok(()) };
        if fits(field.data_type()) {
            return Ok(());
        }
        Err(TraceError::ColumnType {
            file: file.to_owned(),
            column: field.name().clone(),
            found: field.data_type().to_string(),
            wanted,
        })
    };
    let is_time = |kind: &DataType| matches!(kind, DataType::Timestamp(..)) || is_date(kind) || is_text(kind);
    check(places.time, is_time, "time: give a timestamp, a date or a text")?;
    check(places.value, DataType::is_numeric, "number")?;
    if let Some(place) = places.workload {
        check(place, is_text, "text")?;
    }
    if let Some(place) = places.gap {
        check(place, is_flag, "flag: give 0 and 1, or true and false")?;
    }
    Ok(())
}

/// How many rows the file's footer tells of.
pub(super) fn count(file: String, input: File) -> Result<u64, TraceError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(input)
        .map_err(|error| TraceError::Parquet { file, reason: error.to_string() })?;
    Ok(u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0))
}
