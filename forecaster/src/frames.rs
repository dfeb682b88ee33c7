//! Training frames: what was known at an origin, beside what came. The only user of Polars.
//!
//! A frame has one row for each workload, origin and step ahead. Its features hold what a forecast made at the origin could
//! have known: of windows those that had ended, each as it was first told, since corrections come later; of signals those
//! announced by then, each in the highest revision told by then. Only `target` and `target_complete` may know more: they are
//! the load in the newest revision of the pinned version, null where none has come.
//!
//! Architecture invariant: nothing that is told after an origin changes a feature of its rows.

mod columns;
mod known;
mod loads;
mod sources;

use std::io::Write;

use headroom_proto::time::span_text;
use headroom_proto::v1::Signal;
use headroom_proto::{Span, WorkloadId};
use polars::prelude::{DataFrame, KeyValueMetadata, ParquetCompression, ParquetWriter, PolarsError};
use serde::Serialize;

use crate::backtest::events_for;
pub use loads::{Loads, Told};
pub use sources::Sources;

/// The file's metadata hold the [`Sources`] of a frame under this key, as JSON.
pub const SOURCES_KEY: &str = "headroom.sources";
/// And its [`FrameShape`] under this one.
pub const SHAPE_KEY: &str = "headroom.shape";
/// A frame of more rows is refused: it would need gigabytes of memory.
const MAX_ROWS: usize = 20_000_000;

/// What a frame is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FrameShape {
    /// How far ahead its rows reach, in whole steps of the windows' length.
    #[serde(with = "span_text")]
    pub horizon: Span,
    /// The distance of its origins, a multiple of the step; they are multiples of it since the Unix epoch.
    #[serde(with = "span_text")]
    pub origins_every: Span,
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The windows are not what they should be.
    #[error("column `{name}` of the windows is missing or not {wanted}")]
    Column {
        /// The column.
        name: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A length that does not fit the windows.
    #[error("{setting} {value}: {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What was asked for.
        value: Span,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// More rows than are held.
    #[error("{rows} rows, at most {MAX_ROWS} are made: ask for fewer workloads, rarer origins or a shorter horizon")]
    TooLarge {
        /// How many there would be.
        rows: usize,
    },
    /// Polars refused.
    #[error("the frame: {0}")]
    Polars(#[from] PolarsError),
}

/// A training frame.
#[derive(Clone, Debug)]
pub struct Frame {
    shape: FrameShape,
    rows: DataFrame,
}

impl Frame {
    /// Builds a frame of these loads; `signals` are all revisions of all signals, as their table has them.
    ///
    /// # Errors
    /// When the shape does not fit the windows, or the frame would be too large.
    pub fn try_new(loads: &Loads, signals: &[Signal], shape: FrameShape) -> Result<Self, FrameError> {
        let grid = columns::Grid::try_new(loads.step(), shape)?;
        let of_workloads = loads.by_workload()?;
        let mut rows = 0_usize;
        for (_, loads) in &of_workloads {
            rows = rows.saturating_add(grid.rows(loads, signals.len())?);
        }
        if rows > MAX_ROWS {
            return Err(FrameError::TooLarge { rows });
        }
        let mut frame = Self { shape, rows: DataFrame::empty() };
        for (workload, loads) in of_workloads {
            let id = WorkloadId::try_new(workload.as_str());
            let events = id.map(|id| events_for(signals, &id)).unwrap_or_default();
            frame.rows.vstack_mut_owned(columns::of_workload(&workload, &loads, &events, &grid)?)?;
        }
        Ok(frame)
    }

    /// Its rows, by workload, origin and step.
    #[must_use]
    pub fn rows(&self) -> &DataFrame {
        &self.rows
    }

    /// Writes it as Parquet, with its sources and its shape among the file's metadata.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write_parquet(&mut self, sources: &Sources, to: impl Write) -> Result<(), FrameError> {
        let json = |told: serde_json::Result<String>| {
            told.map_err(|error| PolarsError::ComputeError(error.to_string().into()))
        };
        let metadata = KeyValueMetadata::from_static(vec![
            (SOURCES_KEY.to_owned(), json(serde_json::to_string(sources))?),
            (SHAPE_KEY.to_owned(), json(serde_json::to_string(&self.shape))?),
        ]);
        ParquetWriter::new(to)
            .with_compression(ParquetCompression::Snappy)
            .with_key_value_metadata(Some(metadata))
            .finish(&mut self.rows)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
