//! The loads in a pinned version of the table `windows`.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use headroom_proto::Span;
use headroom_proto::schema::{WORKLOAD, timestamp};
use polars::prelude::{DataFrame, IntoLazy, PolarsError, SortMultipleOptions, col, df, lit};

use super::FrameError;

/// Which of a window's revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// What was told when the window closed: what a forecaster saw, and learns from.
    First,
    /// The newest revision, with the rows that came late.
    Newest,
}

impl Told {
    fn column(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Newest => "newest",
        }
    }
}

/// The loads of windows of one length, each as it was first told and in its newest revision.
#[derive(Clone, Debug)]
pub struct Loads {
    step: Span,
    /// `workload`, `start` (microseconds), `first` (null without a revision 0), `newest`, `complete` (of the newest
    /// revision); by workload and start.
    rows: DataFrame,
}

/// Rows as they stand in the table, column by column.
#[derive(Debug, Default)]
struct Raw {
    query: Vec<String>,
    workload: Vec<String>,
    start: Vec<i64>,
    revision: Vec<i32>,
    complete: Vec<bool>,
    value: Vec<f64>,
}

impl Loads {
    /// Takes rows of the table `windows` of which `feature` is the load; `step` is the length of the windows that count.
    /// Rows without a value, such as those of other queries, say nothing.
    ///
    /// # Errors
    /// When a column is missing or of another type.
    pub fn try_new(windows: &[RecordBatch], feature: &str, step: Span) -> Result<Self, FrameError> {
        let mut raw = Raw::default();
        for batch in windows {
            raw.add(batch, feature, step)?;
        }
        let Raw { query, workload, start, revision, complete, value } = raw;
        let told = df!("query" => query, "workload" => workload, "start" => start, "revision" => revision,
                       "complete" => complete, "value" => value)?;
        // The same revision from two queries, if ever: the first by name counts at first, as far as one can.
        let rows = told
            .lazy()
            .sort(["workload", "start", "revision", "query"], SortMultipleOptions::default().with_maintain_order(true))
            .group_by_stable([col("workload"), col("start")])
            .agg([
                col("value").filter(col("revision").eq(lit(0))).first().alias(Told::First.column()),
                col("value").last().alias(Told::Newest.column()),
                col("complete").last(),
            ])
            .collect()?;
        Ok(Self { step, rows })
    }

    /// The length of the windows.
    #[must_use]
    pub fn step(&self) -> Span {
        self.step
    }

    /// Is there no window with a value?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.height() == 0
    }

    /// Whose loads these are, in order.
    #[must_use]
    pub fn workloads(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names().map(str::to_owned).collect();
        names.dedup();
        names
    }

    /// Workload, start of the window in microseconds since the Unix epoch, and load; by workload and start.
    ///
    /// # Errors
    /// Never, unless a column went missing: a defect.
    pub fn samples(&self, told: Told) -> Result<impl Iterator<Item = (&str, i64, f64)>, FrameError> {
        let (starts, values) = (self.rows.column("start")?.i64()?, self.rows.column(told.column())?.f64()?);
        let rows = self.names().zip(starts.iter()).zip(values.iter());
        Ok(rows.filter_map(|((name, start_us), value)| Some((name, start_us?, value?))))
    }

    /// The rows of each workload, apart.
    pub(super) fn by_workload(&self) -> Result<Vec<(String, DataFrame)>, PolarsError> {
        let mut parts: Vec<(String, usize)> = Vec::new();
        for name in self.names() {
            match parts.last_mut().filter(|(last, _)| last == name) {
                Some((_, rows)) => *rows += 1,
                None => parts.push((name.to_owned(), 1)),
            }
        }
        let mut from = 0_usize;
        let slices = parts.into_iter().map(|(name, rows)| {
            let offset = i64::try_from(from).map_err(|error| PolarsError::ComputeError(error.to_string().into()))?;
            from += rows;
            Ok((name, self.rows.slice(offset, rows)))
        });
        slices.collect()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let column = self.rows.column(WORKLOAD).and_then(|column| column.str()).ok();
        column.into_iter().flat_map(|names| names.iter().flatten())
    }
}

impl Raw {
    fn add(&mut self, batch: &RecordBatch, feature: &str, step: Span) -> Result<(), FrameError> {
        let column = |name: &str, wanted: &'static str, data_type: &DataType| {
            let refused = || FrameError::Column { name: name.to_owned(), wanted };
            let found = batch.column_by_name(name).ok_or_else(refused)?;
            cast(found, data_type).map_err(|_| refused())
        };
        let text = |name: &str| column(name, "text", &DataType::Utf8);
        let starts = column("window_start", "a time", &timestamp())?;
        let starts = cast(&starts, &DataType::Int64)
            .map_err(|_| FrameError::Column { name: "window_start".to_owned(), wanted: "a time" })?;
        let (queries, workloads) = (text("query")?, text(WORKLOAD)?);
        let sizes = column("window_size_s", "a whole number", &DataType::Int64)?;
        let revisions = column("revision", "a whole number", &DataType::Int32)?;
        let complete = column("complete", "true or false", &DataType::Boolean)?;
        let values = column(feature, "a number", &DataType::Float64)?;
        let (queries, workloads) = (queries.as_string::<i32>(), workloads.as_string::<i32>());
        let (starts, sizes) = (starts.as_primitive::<Int64Type>(), sizes.as_primitive::<Int64Type>());
        let (revisions, complete) = (revisions.as_primitive::<Int32Type>(), complete.as_boolean());
        let values = values.as_primitive::<Float64Type>();
        let counts = |row: &usize| {
            Span::from_secs(sizes.value(*row)) == step && values.is_valid(*row) && !values.value(*row).is_nan()
        };
        for row in (0..batch.num_rows()).filter(counts) {
            self.query.push(queries.value(row).to_owned());
            self.workload.push(workloads.value(row).to_owned());
            self.start.push(starts.value(row));
            self.revision.push(revisions.value(row));
            self.complete.push(complete.value(row));
            self.value.push(values.value(row));
        }
        Ok(())
    }
}
