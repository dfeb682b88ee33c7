//! The state of one query over one shard: panes that are open, and the windows that are due.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt32Array,
};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch, max, min, take_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use headroom_proto::EventTime;
use headroom_proto::schema;
use headroom_proto::time::Span;

use crate::correct::Corrections;
use crate::fingerprints::Fingerprints;
use crate::query::Size;
use crate::session::run;
use crate::{FeatureQuery, WindowError};

/// Panes are merged when they hold this many times the rows they had after the last merge.
const COMPACT_FACTOR: usize = 4;
const COMPACT_ROWS: usize = 8_192;

/// Closed windows of one length.
#[derive(Clone, Debug)]
pub struct Emission {
    /// The windows' length.
    pub span: Span,
    /// The envelope of [`headroom_proto::schema::WINDOW_ENVELOPE`], then the query's columns; in order of time.
    pub batch: RecordBatch,
}

/// States of one pane.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: usize,
    bytes: usize,
    compacted_rows: usize,
}

/// One query over one shard.
///
/// A window is `complete` when the shard's first row is not later than its start, and no row of it came too late or was
/// set aside before the watermark had passed it.
#[derive(Debug)]
pub struct WindowAggregate {
    pub(crate) query: Arc<FeatureQuery>,
    pub(crate) panes: BTreeMap<i64, Pane>,
    /// For each window length, up to where windows have been emitted.
    pub(crate) closed: Vec<i64>,
    pub(crate) first_row: Option<i64>,
    /// Panes that lack rows, with the watermark at which the first of them was missed.
    pub(crate) damaged: BTreeMap<i64, i64>,
    pub(crate) corrections: Corrections,
    pub(crate) fingerprints: Option<Fingerprints>,
}

impl WindowAggregate {
    /// A shard that has seen nothing.
    #[must_use]
    pub fn new(query: Arc<FeatureQuery>) -> Self {
        let closed = vec![i64::MIN; query.sizes.len()];
        Self {
            fingerprints: query.remembers.then(Fingerprints::default),
            query,
            panes: BTreeMap::new(),
            closed,
            first_row: None,
            damaged: BTreeMap::new(),
            corrections: Corrections::default(),
        }
    }

    /// The query.
    #[must_use]
    pub fn query(&self) -> &Arc<FeatureQuery> {
        &self.query
    }

    /// How many state rows are held.
    #[must_use]
    pub fn state_rows(&self) -> usize {
        self.panes.values().map(|pane| pane.rows).sum()
    }

    /// How much memory the states take, in bytes.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.panes.values().map(|pane| pane.bytes).sum()
    }

    /// Before this a pane has been emitted: rows from before are late.
    #[must_use]
    pub fn closed_before(&self) -> EventTime {
        EventTime::from_micros(self.closed.first().copied().unwrap_or(i64::MIN))
    }

    /// Takes in rows, none of them late.
    ///
    /// # Errors
    /// When an expression of the query fails on a row.
    pub async fn push(&mut self, rows: Vec<RecordBatch>) -> Result<(), WindowError> {
        for batch in &rows {
            let first = batch
                .column_by_name(schema::EVENT_TIME)
                .and_then(|times| min(times.as_primitive::<TimestampMicrosecondType>()));
            self.first_row = match (self.first_row, first) {
                (Some(known), Some(first)) => Some(known.min(first)),
                (known, first) => known.or(first),
            };
        }
        self.aggregate(rows).await
    }

    /// Files the rows' states under their panes.
    pub(crate) async fn aggregate(&mut self, rows: Vec<RecordBatch>) -> Result<(), WindowError> {
        let query = Arc::clone(&self.query);
        let rows = match &mut self.fingerprints {
            Some(known) => {
                let beside = rows.iter().map(|batch| known.beside(batch)).collect::<Result<_, _>>();
                beside.map_err(WindowError::arrow(query.name()))?
            }
            None => rows,
        };
        query.input.fill(rows);
        let states = run(&query.partial, &query.context).await.map_err(WindowError::failed(query.name()))?;
        self.file(&states)?;
        let due: Vec<i64> = self.panes.iter().filter(|(_, pane)| pane.is_due()).map(|(start, _)| *start).collect();
        for start in due {
            self.compact(start).await?;
        }
        Ok(())
    }

    /// Says that rows of `time` are missing, late or set aside, when the watermark stood at `watermark`: windows that
    /// it had not passed by then are incomplete.
    pub fn damage(&mut self, time: EventTime, watermark: EventTime) {
        let start = time.floor(self.query.pane()).micros();
        let oldest_open = self.closed.iter().copied().min().unwrap_or(i64::MIN);
        if start >= oldest_open {
            let first = self.damaged.entry(start).or_insert(i64::MAX);
            *first = watermark.micros().min(*first);
        }
    }

    /// Emits what was corrected and every window that ends at or before the watermark, and forgets panes that neither an
    /// open window nor a correction can need.
    ///
    /// # Errors
    /// When an expression of the query fails.
    pub async fn close(&mut self, watermark: EventTime) -> Result<Vec<Emission>, WindowError> {
        let query = Arc::clone(&self.query);
        let mut emissions = self.corrected().await?;
        for (at, size) in query.sizes.iter().enumerate() {
            let until = watermark.floor(size.span).micros();
            let Some(from) = self.closed.get(at).copied() else { continue };
            if until <= from {
                continue;
            }
            if let Some(emission) = self.emit(size, from, until).await? {
                emissions.push(emission);
            }
            if let Some(closed) = self.closed.get_mut(at) {
                *closed = until;
            }
        }
        let oldest_open = self.closed.iter().copied().min().unwrap_or(i64::MIN);
        let kept_from = self.kept_from().micros();
        self.panes = self.panes.split_off(&kept_from);
        self.corrections.forget_before(kept_from);
        if let Some(known) = &mut self.fingerprints {
            known.forget_before(oldest_open);
        }
        self.damaged = self.damaged.split_off(&oldest_open);
        Ok(emissions)
    }

    /// All windows of one length in `[from, until)`, in one run.
    pub(crate) async fn emit(&self, size: &Size, from: i64, until: i64) -> Result<Option<Emission>, WindowError> {
        let query = &self.query;
        let mut states: Vec<RecordBatch> =
            self.panes.range(from..until).flat_map(|(_, pane)| pane.batches.iter().cloned()).collect();
        if states.is_empty() {
            return Ok(None);
        }
        let failed = WindowError::failed(query.name());
        if let Some(rollup) = &size.rollup {
            query.state.fill(states);
            let merged = run(rollup, &query.context).await.map_err(&failed)?;
            states = restamped(merged, query).map_err(WindowError::arrow(query.name()))?;
        }
        query.state.fill(states);
        let windows = run(&size.top, &query.context).await.map_err(&failed)?;
        let Some(first) = windows.first() else { return Ok(None) };
        let batch = concat_batches(&first.schema(), &windows)
            .and_then(|batch| self.with_envelope(&batch, size.span))
            .map_err(WindowError::arrow(query.name()))?;
        Ok((batch.num_rows() > 0).then_some(Emission { span: size.span, batch }))
    }

    /// Puts the envelope in front of the query's columns and orders the rows by time, then workload.
    fn with_envelope(&self, batch: &RecordBatch, span: Span) -> Result<RecordBatch, ArrowError> {
        let missing = |name: &str| ArrowError::SchemaError(format!("no column `{name}`"));
        let starts = batch.column_by_name("window_start").ok_or_else(|| missing("window_start"))?;
        let starts = cast(starts, &schema::timestamp())?;
        let starts = starts.as_primitive::<TimestampMicrosecondType>().clone();
        let workloads = batch.column_by_name(schema::WORKLOAD).ok_or_else(|| missing(schema::WORKLOAD))?;
        let rows = batch.num_rows();
        let seconds = i32::try_from(span.micros() / 1_000_000).unwrap_or(i32::MAX);
        let ends: TimestampMicrosecondArray = starts.unary(|start| start.saturating_add(span.micros()));
        let complete: BooleanArray = starts
            .values()
            .iter()
            .map(|start| Some(self.is_complete(*start, start.saturating_add(span.micros()))))
            .collect();
        let mut fields = schema::window_envelope();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![self.query.name(); rows])),
            Arc::new(Int32Array::from(vec![seconds; rows])),
            Arc::new(starts.clone()),
            Arc::new(ends.with_timezone("UTC")),
            cast(workloads, &DataType::Utf8)?,
            Arc::new(Int32Array::from(vec![0; rows])),
            Arc::new(complete),
        ];
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if field.name() == "window_start" || field.name() == schema::WORKLOAD {
                continue;
            }
            let kind = if field.data_type() == &DataType::Utf8 { DataType::Utf8 } else { DataType::Float64 };
            columns.push(cast(column, &kind)?);
            fields.push(Field::new(field.name(), kind, true));
        }
        let enveloped = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let workloads = cast(workloads, &DataType::Utf8)?;
        let workloads = workloads.as_string::<i32>();
        let mut order: Vec<u32> = (0..u32::try_from(rows).unwrap_or(u32::MAX)).collect();
        order.sort_by_key(|row| {
            let row = usize::try_from(*row).unwrap_or(usize::MAX);
            (starts.value(row), workloads.value(row).to_owned())
        });
        take_record_batch(&enveloped, &UInt32Array::from(order))
    }

    fn is_complete(&self, start: i64, end: i64) -> bool {
        self.first_row.is_some_and(|first| first <= start)
            && !self.damaged.range(start..end).any(|(_, watermark)| end > *watermark)
    }

    /// Files state rows under their panes.
    pub(crate) fn file(&mut self, states: &[RecordBatch]) -> Result<(), WindowError> {
        for states in states {
            let split = by_window(states, self.query.window_column).map_err(WindowError::arrow(self.query.name()))?;
            for (start, batch) in split {
                let pane = self.panes.entry(start).or_default();
                pane.rows += batch.num_rows();
                pane.bytes += bytes_of(&batch);
                pane.batches.push(batch);
            }
        }
        Ok(())
    }

    async fn compact(&mut self, start: i64) -> Result<(), WindowError> {
        let query = Arc::clone(&self.query);
        let Some(pane) = self.panes.get_mut(&start) else { return Ok(()) };
        query.state.fill(std::mem::take(&mut pane.batches));
        let merged = run(&query.reduce, &query.context).await.map_err(WindowError::failed(query.name()))?;
        pane.batches = restamped(merged, &query).map_err(WindowError::arrow(query.name()))?;
        pane.rows = pane.batches.iter().map(RecordBatch::num_rows).sum();
        pane.bytes = pane.batches.iter().map(bytes_of).sum();
        pane.compacted_rows = pane.rows;
        Ok(())
    }
}

/// What the rows take, without what their buffers hold beside them: batches are often slices of larger ones.
fn bytes_of(batch: &RecordBatch) -> usize {
    let of_column =
        |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size());
    batch.columns().iter().map(of_column).sum()
}

impl Pane {
    fn is_due(&self) -> bool {
        self.batches.len() > 1 && self.rows >= COMPACT_FACTOR * self.compacted_rows.max(COMPACT_ROWS / COMPACT_FACTOR)
    }
}

/// Merged states differ from partial ones in the names of their columns alone.
fn restamped(batches: Vec<RecordBatch>, query: &FeatureQuery) -> Result<Vec<RecordBatch>, ArrowError> {
    batches
        .into_iter()
        .map(|batch| RecordBatch::try_new(Arc::clone(&query.state_schema), batch.columns().to_vec()))
        .collect()
}

/// Splits rows by the value of a time column.
fn by_window(batch: &RecordBatch, column: usize) -> Result<Vec<(i64, RecordBatch)>, ArrowError> {
    let starts = cast(cast(batch.column(column), &schema::timestamp())?.as_ref(), &DataType::Int64)?;
    let starts = starts.as_primitive::<Int64Type>();
    let mut rows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, start) in (0_u32..).zip(starts.values()) {
        rows.entry(*start).or_default().push(row);
    }
    if rows.len() == 1 {
        return Ok(rows.into_keys().map(|start| (start, batch.clone())).collect());
    }
    rows.into_iter().map(|(start, rows)| Ok((start, take_record_batch(batch, &UInt32Array::from(rows))?))).collect()
}

/// Rows of a batch, apart by what can be done with them.
#[derive(Debug)]
pub struct Split {
    /// Rows to aggregate.
    pub on_time: RecordBatch,
    /// Rows whose pane has been emitted.
    pub late: RecordBatch,
    /// Rows too far in the future to be believed.
    pub future: RecordBatch,
    /// The largest event time of the rows to aggregate.
    pub newest: Option<EventTime>,
}

/// Sets late and unbelievable rows apart: late before `closed_before`, unbelievable after `latest`.
///
/// # Errors
/// When the batch has no event-time column.
pub fn split_rows(
    batch: &RecordBatch,
    closed_before: EventTime,
    latest: Option<EventTime>,
) -> Result<Split, WindowError> {
    let checkpoint = |error: ArrowError| WindowError::Checkpoint(error.to_string());
    let times = batch
        .column_by_name(schema::EVENT_TIME)
        .ok_or_else(|| WindowError::Checkpoint(format!("no column `{}`", schema::EVENT_TIME)))?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let latest = latest.map_or(i64::MAX, EventTime::micros);
    let of = |keep: &dyn Fn(i64) -> bool| {
        let mask = BooleanArray::from_unary(times, keep);
        filter_record_batch(batch, &mask)
    };
    let late = of(&|time| time < closed_before.micros()).map_err(checkpoint)?;
    let future = of(&|time| time > latest).map_err(checkpoint)?;
    let on_time = of(&|time| time >= closed_before.micros() && time <= latest).map_err(checkpoint)?;
    let newest = on_time
        .column_by_name(schema::EVENT_TIME)
        .and_then(|times| max(times.as_primitive::<TimestampMicrosecondType>()))
        .map(EventTime::from_micros);
    Ok(Split { on_time, late, future, newest })
}
