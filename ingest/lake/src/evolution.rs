//! The schema version of a table, kept in its properties. Columns are added and never removed; so an older program may
//! not write a newer table, and a newer one widens an older table with its first commit.

use deltalake::DeltaTable;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::{StructField, StructType};

use crate::maintenance::{ATTEMPTS, is_conflict, properties};
use crate::{Lake, LakeError, Table};

/// The property of a table that holds its schema version.
pub(crate) const PROPERTY: &str = "headroom.schemaVersion";

/// The schema version of this program; to be raised when a column of `schema.rs` is added. A table without the property
/// is of version 0.
pub(crate) const SCHEMA_VERSION: u32 = 4;

/// Refuses a table of a later program.
pub(crate) fn check(table: Table, current: &DeltaTable) -> Result<(), LakeError> {
    let found = found_version(table, current)?;
    match found.parse::<u32>() {
        Ok(version) if version <= SCHEMA_VERSION => Ok(()),
        Ok(_) | Err(_) => Err(LakeError::Newer { table, found, known: SCHEMA_VERSION }),
    }
}

/// The schema version of a table as it stands.
pub(crate) fn found_version(table: Table, current: &DeltaTable) -> Result<String, LakeError> {
    let state = current.snapshot().map_err(LakeError::delta(table, "reading the properties of"))?;
    Ok(state.metadata().configuration().get(PROPERTY).cloned().unwrap_or_else(|| "0".to_owned()))
}

impl Lake {
    /// Adds the columns that an older program did not know, then raises the table's schema version: a crash in between
    /// is made good by the next writer.
    pub(crate) async fn upgraded(&self, table: Table, older: DeltaTable) -> Result<DeltaTable, LakeError> {
        let mut current = older;
        for attempt in 1.. {
            if found_version(table, &current)? == SCHEMA_VERSION.to_string() {
                break;
            }
            match widened(table, current).await {
                Ok(upgraded) => {
                    tracing::info!(%table, version = SCHEMA_VERSION, "schema upgraded");
                    self.replace(table, upgraded.clone());
                    return Ok(upgraded);
                }
                Err(LakeError::Delta { source, .. }) if is_conflict(&source) && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
            let Some(newer) = self.loaded(table).await? else { return self.create(table).await };
            current = newer;
        }
        Ok(current)
    }
}

async fn widened(table: Table, current: DeltaTable) -> Result<DeltaTable, LakeError> {
    let known: StructType = table.schema().as_ref().try_into_kernel().map_err(LakeError::rows(table))?;
    let state = current.snapshot().map_err(LakeError::delta(table, "reading the columns of"))?;
    let has = state.schema();
    let missing: Vec<StructField> = known
        .fields()
        .filter(|field| has.field(field.name()).is_none())
        .map(|field| StructField::nullable(field.name(), field.data_type().clone()))
        .collect();
    let current = if missing.is_empty() {
        current
    } else {
        let adding = current.add_columns().with_fields(missing).with_commit_properties(properties());
        adding.await.map_err(LakeError::delta(table, "adding columns to"))?
    };
    current
        .set_tbl_properties()
        .with_properties([(PROPERTY.to_owned(), SCHEMA_VERSION.to_string())].into())
        .with_raise_if_not_exists(false)
        .with_commit_properties(properties())
        .await
        .map_err(LakeError::delta(table, "raising the schema version of"))
}

#[cfg(test)]
mod tests;
