//! Closed windows as rows: the envelope, then a column for each feature. The table grows with the features.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Field, Schema, SchemaRef, TimestampMicrosecondType};
use headroom_ingest_broker::Received;
use headroom_ingest_lake::{DATE, Table, date_of};
use headroom_proto::schema::{WINDOW_ENVELOPE, WINDOWS_VERSION, timestamp};
use headroom_proto::{codec, headers};

/// Characters that Delta keeps for itself in column names.
const RESERVED: [char; 12] = [' ', ',', ';', '{', '}', '(', ')', '\n', '\r', '\t', '=', '`'];

/// The columns that the table has or is about to get, by their lower-case names: Delta tells no cases apart.
pub(super) struct Columns(HashMap<String, Field>);

/// Which shard made a record, and the how-manieth of the shard it is.
pub(super) struct Place<'a> {
    pub(super) shard: &'a str,
    pub(super) sequence: i64,
    pub(super) watermark_us: Option<i64>,
}

impl<'a> Place<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    /// Names the header that is missing or malformed.
    pub(super) fn of(record: &'a Received) -> Result<Self, String> {
        let required = |name: &str| record.header(name).ok_or_else(|| format!("no header `{name}`"));
        if let Some(version) = record.header(headers::SCHEMA_VERSION)
            && version != WINDOWS_VERSION.to_string()
        {
            return Err(format!("windows of version {version}: this program reads version {WINDOWS_VERSION}"));
        }
        let sequence = required(headers::SEQUENCE)?;
        let sequence = sequence.parse().map_err(|_| format!("header `{}`: `{sequence}`", headers::SEQUENCE))?;
        let watermark_us = record.header(headers::WATERMARK).and_then(|text| text.parse().ok());
        Ok(Self { shard: required(headers::SHARD)?, sequence, watermark_us })
    }
}

impl Columns {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let by_name = |field: &Arc<Field>| (field.name().to_lowercase(), field.as_ref().clone());
        Self(schema.fields().iter().map(by_name).collect())
    }

    /// The rows of a record. Its new columns are known from then on.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn rows(&mut self, value: &[u8]) -> Result<Vec<RecordBatch>, String> {
        let batches = codec::decode_stream(value).map_err(|error| error.to_string())?;
        let batches = batches.iter().map(|batch| self.conform(batch)).collect::<Result<Vec<_>, _>>()?;
        for field in batches.iter().flat_map(|batch| batch.schema().fields().to_vec()) {
            self.0.entry(field.name().to_lowercase()).or_insert_with(|| field.as_ref().clone());
        }
        Ok(batches)
    }

    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for field in Table::Windows.schema().fields() {
            let column = if field.name() == DATE { dates(batch)? } else { envelope(batch, field)? };
            fields.push(field.as_ref().clone());
            columns.push(column);
        }
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if !WINDOW_ENVELOPE.contains(&field.name().as_str()) {
                let (field, column) = self.feature(field, column)?;
                if fields.iter().any(|known| known.name().eq_ignore_ascii_case(field.name())) {
                    return Err(format!("column `{}` twice: rename one of the features", field.name()));
                }
                fields.push(field);
                columns.push(column);
            }
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())
    }

    /// A feature's column in the type that the lake keeps: numbers as Float64, texts as Utf8.
    fn feature(&self, field: &Field, column: &ArrayRef) -> Result<(Field, ArrayRef), String> {
        let name = field.name();
        if name.is_empty() || name.contains(RESERVED) {
            return Err(format!(
                "column `{name}`: give the feature a name without blanks and without any of ,;{{}}()=`"
            ));
        }
        let Some(kept) = kept_type(column.data_type()) else {
            return Err(format!("column `{name}` is {}: cast it to a number or a text", column.data_type()));
        };
        if let Some(known) = self.0.get(&name.to_lowercase())
            && (known.data_type() != &kept || known.name() != name)
        {
            return Err(format!(
                "column `{name}` is {kept}, the table has `{}` as {}: give the feature another name",
                known.name(),
                known.data_type()
            ));
        }
        let column = cast(column, &kept).map_err(|error| format!("column `{name}`: {error}"))?;
        Ok((Field::new(name, kept, true), column))
    }
}

fn kept_type(data_type: &DataType) -> Option<DataType> {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_word = matches!(data_type, DataType::Dictionary(_, words) if is_text(words));
    if data_type.is_numeric() {
        return Some(DataType::Float64);
    }
    if matches!(data_type, DataType::Timestamp(..)) {
        return Some(timestamp());
    }
    if is_text(data_type) || is_word {
        return Some(DataType::Utf8);
    }
    (data_type == &DataType::Boolean).then_some(DataType::Boolean)
}

fn envelope(batch: &RecordBatch, field: &Field) -> Result<ArrayRef, String> {
    let name = field.name();
    let column = batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"))?;
    cast(column, field.data_type()).map_err(|error| format!("column `{name}`: {error}"))
}

fn dates(batch: &RecordBatch) -> Result<ArrayRef, String> {
    let starts = batch.column_by_name("window_start").ok_or_else(|| "no column `window_start`".to_owned())?;
    let starts = cast(starts, &timestamp()).map_err(|error| format!("column `window_start`: {error}"))?;
    let dates: Date32Array = starts.as_primitive::<TimestampMicrosecondType>().unary::<_, Date32Type>(date_of);
    Ok(Arc::new(dates))
}

#[cfg(test)]
mod tests;
