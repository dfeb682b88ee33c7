//! How far the inputs of a table were read, as its log says.

use std::collections::HashMap;

use deltalake::DeltaTable;

use crate::{Commit, LakeError, Table};

/// The positions that were read from the log of one version of a table.
#[derive(Default)]
pub(crate) struct KnownPositions {
    version: Option<u64>,
    by_id: HashMap<String, Option<i64>>,
}

async fn position_of(
    table: Table,
    current: &DeltaTable,
    known: &mut KnownPositions,
    id: &str,
) -> Result<Option<i64>, LakeError> {
    if known.version != current.version() {
        known.version = current.version();
        known.by_id.clear();
    }
    if let Some(position) = known.by_id.get(id) {
        return Ok(*position);
    }
    let reading = LakeError::delta(table, "reading the positions of");
    let state = current.snapshot().map_err(LakeError::delta(table, "reading"))?;
    let position = state.transaction_version(current.log_store().as_ref(), id).await.map_err(reading)?;
    known.by_id.insert(id.to_owned(), position);
    Ok(position)
}

/// Was this commit made before? Partly made is the mark of a second writer.
async fn is_repeat(
    table: Table,
    current: &DeltaTable,
    known: &mut KnownPositions,
    commit: &Commit,
) -> Result<bool, LakeError> {
    let mut is_new = commit.positions.is_empty();
    let mut passed = None;
    for (id, position) in &commit.positions {
        match position_of(table, current, known, id).await? {
            Some(found) if found > *position => passed = Some((id, found)),
            Some(found) if found == *position => {}
            Some(_) | None => is_new = true,
        }
    }
    match passed {
        Some((id, found)) if is_new => {
            Err(LakeError::Conflict { table, position: id.clone(), found: found.to_string() })
        }
        _ => Ok(!is_new),
    }
}

