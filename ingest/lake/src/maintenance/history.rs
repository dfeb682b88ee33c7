//! What happened to a table, by its log.

use std::collections::BTreeMap;

use deltalake::DeltaTable;
use futures::TryStreamExt;
use headroom_proto::EventTime;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Serialize;

use crate::{Lake, LakeError, Table};

/// A version of a table and what made it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryEntry {
    /// The version.
    pub version: u64,
    /// When it was committed, by the writer's clock.
    pub at: Option<EventTime>,
    /// `CREATE TABLE`, `WRITE`, `OPTIMIZE`, `DELETE`, `VACUUM START` ...
    pub operation: String,
    /// Files that the commit added.
    pub files_added: u64,
    /// Files that it removed from the table.
    pub files_removed: u64,
    /// Rows of the added files.
    pub rows_added: u64,
    /// The positions that it moved: how far the table's inputs were read.
    pub positions: BTreeMap<String, i64>,
}

impl Lake {
    /// The versions that the log still tells of, newest first, at most `limit` of them. Empty while the table does not
    /// exist.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn history(&self, table: Table, limit: usize) -> Result<Vec<HistoryEntry>, LakeError> {
        let Some(current) = self.loaded(table).await? else { return Ok(Vec::new()) };
        let mut versions: Vec<u64> = log_versions(table, &current).await?.commits;
        versions.reverse();
        let mut entries = Vec::new();
        for version in versions.into_iter().take(limit) {
            entries.extend(entry(table, &current, version).await?);
        }
        Ok(entries)
    }
}

/// What a log consists of, in ascending order.
pub(crate) struct LogVersions {
    pub(crate) commits: Vec<u64>,
    pub(crate) checkpoints: Vec<u64>,
}

impl LogVersions {
    /// The oldest version whose state can be told: behind a checkpoint, or from the first commit on.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let first = self.commits.first().copied()?;
        if first == 0 { Some(0) } else { self.checkpoints.first().copied() }
    }
}

pub(crate) async fn log_versions(table: Table, current: &DeltaTable) -> Result<LogVersions, LakeError> {
    let store = current.log_store().object_store(None);
    let listed: Vec<_> = store.list(Some(&Path::from("_delta_log"))).try_collect().await.map_err(listing(table))?;
    let mut versions = LogVersions { commits: Vec::new(), checkpoints: Vec::new() };
    for object in listed {
        let Some((number, kind)) = object.location.filename().and_then(|name| name.split_once('.')) else { continue };
        let Ok(version) = number.parse() else { continue };
        if kind == "json" {
            versions.commits.push(version);
        } else if kind.starts_with("checkpoint") {
            versions.checkpoints.push(version);
        }
    }
    versions.commits.sort_unstable();
    versions.checkpoints.sort_unstable();
    Ok(versions)
}

async fn entry(table: Table, current: &DeltaTable, version: u64) -> Result<Option<HistoryEntry>, LakeError> {
    let path = Path::from(format!("_delta_log/{version:020}.json"));
    let found = match current.log_store().object_store(None).get(&path).await {
        Ok(found) => found.bytes().await.map_err(listing(table))?,
        // Cleaned up since it was listed.
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(listing(table)(error)),
    };
    let mut entry = HistoryEntry {
        version,
        at: None,
        operation: String::new(),
        files_added: 0,
        files_removed: 0,
        rows_added: 0,
        positions: BTreeMap::new(),
    };
    let actions = serde_json::Deserializer::from_slice(&found).into_iter::<serde_json::Value>();
    for action in actions.map_while(Result::ok) {
        if let Some(add) = action.get("add") {
            entry.files_added += 1;
            entry.rows_added += rows_of(add).unwrap_or_default();
        }
        entry.files_removed += u64::from(action.get("remove").is_some());
        if let Some(told) = action.get("commitInfo") {
            entry.at = told.get("timestamp").and_then(serde_json::Value::as_i64).map(EventTime::from_millis);
            entry.operation = told.get("operation").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        }
        if let Some(moved) = action.get("txn")
            && let (Some(id), Some(position)) = (
                moved.get("appId").and_then(serde_json::Value::as_str),
                moved.get("version").and_then(serde_json::Value::as_i64),
            )
        {
            entry.positions.insert(id.to_owned(), position);
        }
    }
    Ok(Some(entry))
}

/// The statistics of a file are JSON within JSON.
fn rows_of(add: &serde_json::Value) -> Option<u64> {
    let statistics: serde_json::Value = serde_json::from_str(add.get("stats")?.as_str()?).ok()?;
    statistics.get("numRecords")?.as_u64()
}

fn listing(table: Table) -> impl FnOnce(object_store::Error) -> LakeError {
    move |error| LakeError::delta(table, "reading the log of")(error.into())
}
