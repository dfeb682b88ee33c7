//! The forecasts of a backtest, for whoever compares them with others: a row for each quantile of each step.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use headroom_models::ForecastSet;
use headroom_proto::codec;
use parquet::arrow::ArrowWriter;

use crate::cli::UserError;

/// Opens the file that they go to, before the work begins.
pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).map_err(|error| UserError::new(format!("--forecasts {}: {error}", path.display())))
}

/// Rows that are kept until they are written.
#[derive(Debug, Default)]
pub(super) struct Kept {
    workload: StringBuilder,
    origin: TimestampMicrosecondBuilder,
    ts: TimestampMicrosecondBuilder,
    level: Float64Builder,
    value: Float64Builder,
}

impl Kept {
    /// Adds a forecast.
    pub(super) fn add(&mut self, workload: &str, set: &ForecastSet) {
        for (row, step) in set.values.chunks_exact(set.levels.len().max(1)).zip(0_i64..) {
            for (level, value) in set.levels.iter().zip(row) {
                self.workload.append_value(workload);
                self.origin.append_value(set.origin_us);
                self.ts.append_value(set.origin_us + step * set.step_us);
                self.level.append_value(*level);
                self.value.append_value(f64::from(*value));
            }
        }
    }

    /// Them all, in the form of an IPC stream; times are UTC.
    pub(super) fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        let columns: [(&str, ArrayRef); 5] = [
            ("workload", Arc::new(self.workload.finish())),
            ("origin", Arc::new(self.origin.finish().with_timezone("UTC"))),
            ("ts", Arc::new(self.ts.finish().with_timezone("UTC"))),
            ("level", Arc::new(self.level.finish())),
            ("value", Arc::new(self.value.finish())),
        ];
        let rows = RecordBatch::try_from_iter(columns)?;
        Ok(codec::encode_stream(&rows.schema(), &[rows])?.to_vec())
    }
}

/// Writes what was kept of each workload into one file.
pub(super) fn write<'a>(file: File, parts: impl Iterator<Item = &'a [u8]>) -> anyhow::Result<()> {
    let mut writer: Option<ArrowWriter<File>> = None;
    let mut file = Some(file);
    for part in parts {
        for rows in codec::decode_stream(part)? {
            if let Some(file) = file.take() {
                writer = Some(ArrowWriter::try_new(file, rows.schema(), None)?);
            }
            if let Some(writer) = &mut writer {
                writer.write(&rows)?;
            }
        }
    }
    writer.map(ArrowWriter::close).transpose()?;
    Ok(())
}
