//! The files of a table: how they are written, and how small ones become few.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use deltalake::DeltaTable;
use deltalake::checkpoints::cleanup_metadata;
use deltalake::kernel::transaction::CommitProperties;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::{Lake, LakeError, Table};

/// Files below this size are worth joining, in bytes.
const SMALL_BYTES: i64 = 32 << 20;
const TARGET_BYTES: NonZeroU64 = NonZeroU64::new(128 << 20).expect("not zero");
const ROW_GROUP_ROWS: usize = 256 << 10;

/// What a compaction did to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Small files that were joined.
    pub files_joined: u64,
    /// Files that hold their rows now.
    pub files_written: u64,
}

impl Lake {
    /// How many files a compaction could save: the small files of each day beyond its first.
    ///
    /// # Errors
    /// When the table's log cannot be read.
    pub async fn surplus_files(&self, table: Table) -> Result<usize, LakeError> {
        Ok(self.loaded(table).await?.as_ref().map_or(0, surplus_of))
    }

    /// Joins the small files of each day, and removes files and log entries that are past their retention (7 days). Rows,
    /// positions and the order of rows stay.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub async fn compact(&self, table: Table) -> Result<Compaction, LakeError> {
        let mut known = self.writing(table).await;
        let Some(current) = self.loaded(table).await? else { return Ok(Compaction::default()) };
        let schema = self.schema(table).await?;
        let properties = CommitProperties::default().with_cleanup_expired_logs(Some(false));
        let current_version = current.version();
        let (joined, metrics) = current
            .optimize()
            .with_target_size(TARGET_BYTES)
            .with_max_concurrent_tasks(1)
            .with_commit_properties(properties.clone())
            .with_writer_properties(writer_properties(table, &schema))
            .await
            .map_err(LakeError::delta(table, "compacting"))?;
        let (cleaned, _) = joined
            .vacuum()
            .with_commit_properties(properties)
            .await
            .map_err(LakeError::delta(table, "removing old files of"))?;
        cleanup_metadata(&cleaned, None).await.map_err(LakeError::delta(table, "removing old log entries of"))?;
        known.follow(current_version, cleaned.version(), BTreeMap::new());
        self.replace(table, cleaned);
        Ok(Compaction { files_joined: metrics.num_files_removed, files_written: metrics.num_files_added })
    }
}

fn surplus_of(table: &DeltaTable) -> usize {
    let Ok(state) = table.snapshot() else { return 0 };
    let mut small_files: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for file in state.log_data().iter().filter(|file| file.size() < SMALL_BYTES) {
        let day = file.partition_values_map().remove(crate::DATE).flatten();
        *small_files.entry(day).or_default() += 1;
    }
    small_files.values().map(|count| count.saturating_sub(1)).sum()
}

/// Fast compression for all; measured numbers are too varied for dictionaries, and nobody skips files by them.
pub(crate) fn writer_properties(table: Table, schema: &Schema) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("headroom ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::None);
    for column in table.skipping_columns() {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(*column), EnabledStatistics::Chunk);
    }
    let is_measured = |field: &&Arc<Field>| matches!(field.data_type(), DataType::Float32 | DataType::Float64);
    for field in schema.fields().iter().filter(is_measured) {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), false);
    }
    builder.build()
}
