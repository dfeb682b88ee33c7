//! The files of a table: how they are written.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::Table;

const ROW_GROUP_ROWS: usize = 256 << 10;

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
