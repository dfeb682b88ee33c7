//! Reads recorded telemetry: CSV, plain or gzip, or Parquet; one row a sample. The kind of file is told by its first
//! bytes, not by its name.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use headroom_proto::{EventTime, WorkloadId};

use csv_rows::CsvRows;
use parquet_rows::ParquetRows;

mod csv_rows;
mod parquet_rows;

/// Name of the column that marks a gap with 1.
const GAP_COLUMN: &str = "gap";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const PARQUET_MAGIC: [u8; 4] = *b"PAR1";

/// Which columns hold what. A column named `gap`, where there is one, marks gaps with 1.
#[derive(Clone, Debug)]
pub struct TraceColumns {
    /// The time of a sample: RFC 3339, or `YYYY-MM-DD HH:MM:SS` for UTC; in Parquet a timestamp, a date or a text.
    pub time: String,
    /// The sample's value, a number; empty or NaN is a gap.
    pub value: String,
    /// The workload of each row; without it every row belongs to `default_workload`.
    pub workload: Option<String>,
    /// The workload of a file without a workload column.
    pub default_workload: WorkloadId,
}

/// One row of a trace.
#[derive(Clone, Debug)]
pub struct Row {
    /// Counts the rows of the file from 1, whatever they hold.
    pub number: u64,
    /// What it holds.
    pub entry: Entry,
}

/// What a row holds.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A measured value.
    Sample(Sample),
    /// Nothing was measured at this time.
    Gap(EventTime),
    /// It cannot be read.
    Rejected(Rejected),
}

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What was measured.
    pub workload: WorkloadId,
    /// When.
    pub time: EventTime,
    /// How much; finite.
    pub value: f64,
}

/// A row that cannot be read.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The line as it stands in the file; for Parquet the cells as text.
    pub raw: Bytes,
    /// Why, and how to mend it.
    pub error: RowError,
}

/// What is wrong with one row, and how to mend it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{file}, {place}, column `{column}`: found `{found}`: {how}")]
pub struct RowError {
    /// The file.
    pub file: String,
    /// `line 3` or `row 3`.
    pub place: String,
    /// The column's name.
    pub column: String,
    /// The cell's text, shortened.
    pub found: String,
    /// What is expected.
    pub how: String,
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be opened.
    #[error("{file}: {source}: give the path of a CSV (plain or .gz) or Parquet file")]
    Open {
        /// The file.
        file: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It cannot be read to its end.
    #[error("{file}, after line {line}: {source}: the file is cut short or damaged; export it again")]
    Read {
        /// The file.
        file: String,
        /// The last line that could be read.
        line: u64,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A column is not there.
    #[error("{file}: no column `{column}`; found {found}: name yours with {how}")]
    NoColumn {
        /// The file.
        file: String,
        /// The column that is wanted.
        column: String,
        /// The columns that are there.
        found: String,
        /// The option that names another column.
        how: &'static str,
    },
    /// A Parquet column is of a type that cannot be used.
    #[error("{file}: column `{column}` holds {found}, which is no {wanted}")]
    ColumnType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Its Arrow type.
        found: String,
        /// What is wanted.
        wanted: &'static str,
    },
    /// Not Parquet after all, or damaged.
    #[error("{file}: not a readable Parquet file: {reason}")]
    Parquet {
        /// The file.
        file: String,
        /// What the reader says.
        reason: String,
    },
}

enum Source {
    Csv(CsvRows),
    Parquet(Box<ParquetRows>),
}

/// Reads a trace row by row, in the order of the file.
pub struct TraceReader {
    source: Source,
    /// Rows that are decoded but not handed out.
    ready: VecDeque<Row>,
}

impl std::fmt::Debug for TraceReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceReader").finish_non_exhaustive()
    }
}

impl TraceReader {
    /// Opens a file and finds its columns.
    ///
    /// # Errors
    /// When the file cannot be opened, is not what its first bytes say, or lacks a column.
    pub fn open(path: &Path, columns: &TraceColumns) -> Result<Self, TraceError> {
        let (file, kind) = sniff(path)?;
        let label = path.display().to_string();
        let source = match kind {
            Kind::Parquet => Source::Parquet(Box::new(ParquetRows::open(label, file, columns)?)),
            Kind::Gzip | Kind::Plain => Source::Csv(CsvRows::open(label, text_of(file, &kind), columns)?),
        };
        Ok(Self { source, ready: VecDeque::new() })
    }
}

impl Iterator for TraceReader {
    type Item = Result<Row, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Csv(rows) => rows.next().transpose(),
            Source::Parquet(rows) => {
                while self.ready.is_empty() {
                    match rows.next_batch() {
                        Ok(Some(batch)) => self.ready = batch,
                        Ok(None) => return None,
                        Err(error) => return Some(Err(error)),
                    }
                }
                self.ready.pop_front().map(Ok)
            }
        }
    }
}

/// How many rows a file has, for progress. Reads a CSV to its end.
///
/// # Errors
/// When the file cannot be read.
pub fn count_rows(path: &Path) -> Result<u64, TraceError> {
    let (file, kind) = sniff(path)?;
    let label = path.display().to_string();
    match kind {
        Kind::Parquet => parquet_rows::count(label, file),
        Kind::Gzip | Kind::Plain => csv_rows::count(label, text_of(file, &kind)),
    }
}

enum Kind {
    Parquet,
    Gzip,
    Plain,
}

fn sniff(path: &Path) -> Result<(File, Kind), TraceError> {
    let failed = |source| TraceError::Open { file: path.display().to_string(), source };
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut head = Vec::with_capacity(PARQUET_MAGIC.len());
    (&mut file).take(4).read_to_end(&mut head).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let kind = match head.as_slice() {
        head if head.starts_with(&PARQUET_MAGIC) => Kind::Parquet,
        head if head.starts_with(&GZIP_MAGIC) => Kind::Gzip,
        _ => Kind::Plain,
    };
    Ok((file, kind))
}

fn text_of(file: File, kind: &Kind) -> Box<dyn BufRead + Send> {
    match kind {
        Kind::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)))),
        Kind::Plain | Kind::Parquet => Box::new(BufReader::new(file)),
    }
}

/// The place of each column of interest among those of the file.
struct Places {
    time: usize,
    value: usize,
    workload: Option<usize>,
    gap: Option<usize>,
}

impl Places {
    fn find(file: &str, names: &[String], columns: &TraceColumns) -> Result<Self, TraceError> {
        let place = |name: &str| names.iter().position(|n| n == name);
        let required = |name: &str, how| {
            place(name).ok_or_else(|| TraceError::NoColumn {
                file: file.to_owned(),
                column: name.to_owned(),
                found: listed(names),
                how,
            })
        };
        Ok(Self {
            time: required(&columns.time, "--time-column (time_column in the configuration)")?,
            value: required(&columns.value, "--value-column (value_column in the configuration)")?,
            workload: match &columns.workload {
                Some(name) => Some(required(name, "--workload-column (workload_column in the configuration)")?),
                None => None,
            },
            gap: place(GAP_COLUMN),
        })
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
    }
}

/// Longest cell shown in a message.
const SHOWN_CHARS: usize = 60;

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS {
        text.to_owned()
    } else {
        format!("{}...", text.chars().take(SHOWN_CHARS).collect::<String>())
    }
}

#[cfg(test)]
mod tests;
