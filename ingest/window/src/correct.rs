//! Corrections: rows that come after their window was emitted, and the window's next revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::arrow::error::ArrowError;
use headroom_proto::time::Span;
use headroom_proto::v1::WindowRevision;
use headroom_proto::{EventTime, schema};

use crate::{Emission, WindowAggregate, WindowError};

/// What has been emitted before and is to be emitted again. Windows are named by the place of their length among the
/// query's, and their start.
#[derive(Debug, Default)]
pub(crate) struct Corrections {
    /// How long emitted panes are kept.
    pub(crate) keep: Span,
    touched: BTreeMap<(usize, i64), BTreeSet<String>>,
    revisions: BTreeMap<(usize, i64, String), i32>,
}

impl Corrections {
    pub(crate) fn saved(&self) -> Vec<WindowRevision> {
        let one = |((size, start, workload), revision): (&(usize, i64, String), &i32)| WindowRevision {
            size: u32::try_from(*size).unwrap_or(u32::MAX),
            start_us: *start,
            workload: workload.clone(),
            revision: *revision,
        };
        self.revisions.iter().map(one).collect()
    }

    pub(crate) fn restore(&mut self, saved: &[WindowRevision]) {
        let one = |saved: &WindowRevision| {
            let size = usize::try_from(saved.size).unwrap_or(usize::MAX);
            ((size, saved.start_us, saved.workload.clone()), saved.revision)
        };
        self.revisions = saved.iter().map(one).collect();
    }

    /// No row can touch what starts before.
    pub(crate) fn forget_before(&mut self, start: i64) {
        self.revisions.retain(|(_, of_window, _), _| *of_window >= start);
    }
}

impl WindowAggregate {
    /// Keeps emitted panes for so long, in event time, that rows which come late can correct their windows.
    #[must_use]
    pub fn with_corrections(mut self, keep: Span) -> Self {
        self.corrections.keep = keep;
        self
    }

    /// Rows from before cannot correct anything: their panes are forgotten.
    #[must_use]
    pub fn kept_from(&self) -> EventTime {
        let oldest_open = self.closed.iter().copied().min().unwrap_or(i64::MIN);
        EventTime::from_micros(oldest_open.saturating_sub(self.corrections.keep.micros()))
    }

    /// Takes in rows whose pane has been emitted and is kept: windows that were emitted get another revision with the
    /// next [`WindowAggregate::close`], those that are open get the rows as if they had come in time.
    ///
    /// # Errors
    /// When an expression of the query fails on a row.
    pub async fn correct(&mut self, rows: Vec<RecordBatch>) -> Result<(), WindowError> {
        for batch in &rows {
            let (Some(times), Some(workloads)) =
                (batch.column_by_name(schema::EVENT_TIME), batch.column_by_name(schema::WORKLOAD))
            else {
                continue;
            };
            let times = times.as_primitive::<TimestampMicrosecondType>();
            for (time, workload) in times.values().iter().zip(workloads.as_string::<i32>().iter().flatten()) {
                for (at, size) in self.query.sizes.iter().enumerate() {
                    let start = EventTime::from_micros(*time).floor(size.span).micros();
                    let closed = self.closed.get(at).copied().unwrap_or(i64::MIN);
                    if start.saturating_add(size.span.micros()) <= closed {
                        self.corrections.touched.entry((at, start)).or_default().insert(workload.to_owned());
                    }
                }
            }
        }
        self.aggregate(rows).await
    }

    /// The next revision of every window that was touched, of the workloads that touched it.
    pub(crate) async fn corrected(&mut self) -> Result<Vec<Emission>, WindowError> {
        let query = Arc::clone(&self.query);
        let mut emissions = Vec::new();
        for ((at, start), workloads) in std::mem::take(&mut self.corrections.touched) {
            let Some(size) = query.sizes.get(at) else { continue };
            let Some(emission) = self.emit(size, start, start.saturating_add(size.span.micros())).await? else {
                continue;
            };
            for workload in &workloads {
                *self.corrections.revisions.entry((at, start, workload.clone())).or_default() += 1;
            }
            let revision_of = |workload: Option<&str>| {
                let key = (at, start, workload.unwrap_or_default().to_owned());
                workloads.contains(&key.2).then(|| self.corrections.revisions.get(&key).copied()).flatten()
            };
            let batch = revised(&emission.batch, revision_of).map_err(WindowError::arrow(query.name()))?;
            if batch.num_rows() > 0 {
                emissions.push(Emission { span: emission.span, batch });
            }
        }
        Ok(emissions)
    }
}

/// The rows whose workload has a revision, under that revision.
fn revised(batch: &RecordBatch, revision_of: impl Fn(Option<&str>) -> Option<i32>) -> Result<RecordBatch, ArrowError> {
    let at = batch.schema().index_of("revision")?;
    let workloads = batch.column(batch.schema().index_of(schema::WORKLOAD)?).as_string::<i32>();
    let revisions: Vec<Option<i32>> = workloads.iter().map(revision_of).collect();
    let is_touched: BooleanArray = revisions.iter().map(|revision| Some(revision.is_some())).collect();
    let numbers: Int32Array = revisions.into_iter().map(|revision| Some(revision.unwrap_or(0))).collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    if let Some(column) = columns.get_mut(at) {
        *column = Arc::new(numbers);
    }
    filter_record_batch(&RecordBatch::try_new(batch.schema(), columns)?, &is_touched)
}
