//! What a commit carries, and how batches of different width become one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use deltalake::kernel::Transaction;

/// How far the inputs of a commit were read: position by id, such as the next offset of `headroom.windows/3`. Positions
/// only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Positions by id.
    pub positions: BTreeMap<String, i64>,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The rows and positions are durable.
    Committed {
        /// The table's version that holds them.
        version: u64,
        /// How many rows.
        rows: u64,
    },
    /// Every position had been committed before, so nothing was written.
    Repeated,
}

impl Commit {
    pub(crate) fn transactions(&self) -> Vec<Transaction> {
        self.positions.iter().map(|(id, position)| Transaction::new(id, *position)).collect()
    }
}

/// Gives all batches the same columns, in the order in which they first appear; what a batch lacks is null.
pub(crate) fn widen(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ArrowError> {
    let Some(first) = batches.first().map(RecordBatch::schema) else { return Ok(batches) };
    if batches.iter().all(|batch| batch.schema() == first) {
        return Ok(batches);
    }
    let mut fields: Vec<Field> = Vec::new();
    for batch in &batches {
        for field in batch.schema().fields() {
            match fields.iter().find(|known| known.name() == field.name()) {
                None => fields.push(field.as_ref().clone()),
                Some(known) if known.data_type() == field.data_type() => {}
                Some(known) => {
                    return Err(ArrowError::SchemaError(format!(
                        "column `{}` is {} in one batch and {} in another",
                        field.name(),
                        known.data_type(),
                        field.data_type()
                    )));
                }
            }
        }
    }
    let lacks = |name: &str| batches.iter().any(|batch| batch.column_by_name(name).is_none());
    let fields: Vec<Field> = fields
        .into_iter()
        .map(|field| {
            let nullable = field.is_nullable() || lacks(field.name());
            field.with_nullable(nullable)
        })
        .collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    batches.iter().map(|batch| conform(batch, &schema)).collect()
}

fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
}
