//! How far the inputs of a table were read, as its log says.

use std::collections::{BTreeMap, HashMap};

use deltalake::DeltaTable;

use crate::{Commit, LakeError, Table};

/// The positions of one version of a table, as far as they were asked for: each answer reads the log.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    version: Option<u64>,
    by_id: HashMap<String, Option<i64>>,
}

impl Positions {
    /// The position of an id in this version.
    pub(crate) async fn find(
        &mut self,
        table: Table,
        current: &DeltaTable,
        id: &str,
    ) -> Result<Option<i64>, LakeError> {
        if self.version != current.version() {
            self.version = current.version();
            self.by_id.clear();
        }
        if let Some(position) = self.by_id.get(id) {
            return Ok(*position);
        }
        let reading = || LakeError::delta(table, "reading the positions of");
        let state = current.snapshot().map_err(reading())?;
        let position = state.transaction_version(current.log_store().as_ref(), id).await.map_err(reading())?;
        self.by_id.insert(id.to_owned(), position);
        Ok(position)
    }

    /// Was this commit made before? Partly made is the mark of a second writer.
    pub(crate) async fn hold(
        &mut self,
        table: Table,
        current: &DeltaTable,
        commit: &Commit,
    ) -> Result<bool, LakeError> {
        let mut is_new = commit.positions.is_empty();
        let mut passed = None;
        for (id, position) in &commit.positions {
            match self.find(table, current, id).await? {
                Some(found) if found > *position => passed = Some((id, found)),
                Some(found) if found == *position => {}
                Some(_) | None => is_new = true,
            }
        }
        match passed {
            Some((id, found)) if is_new => {
                Err(LakeError::Conflict { table, position: id.clone(), found: found.to_string() })
            }
            Some(_) | None => Ok(!is_new),
        }
    }

    /// Follows a table from one version to another, of which nothing but these moves is known to have happened. With
    /// versions between the two it forgets instead.
    pub(crate) fn follow(&mut self, from: Option<u64>, to: Option<u64>, moved: BTreeMap<String, i64>) {
        if self.version == from && from.map(|from| from + 1) == to {
            self.version = to;
            self.by_id.extend(moved.into_iter().map(|(id, position)| (id, Some(position))));
        }
    }
}
