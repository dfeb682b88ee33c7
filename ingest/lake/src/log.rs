//! Delta's log with one more check: a commit may not remove a file that another commit has removed since it was planned.
//!
//! deltalake leaves removals that only change the layout out of its conflict checks, so of two that join the same files
//! both would commit, and every row would be there twice. Here the later one finds out, in whichever process it runs.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use deltalake::DeltaResult;
use deltalake::kernel::transaction::{CommitConflictError, TransactionError};
use deltalake::logstore::{CommitOrBytes, LogStore, LogStoreConfig, LogStoreRef};
use object_store::ObjectStore;
use serde_json::Value;
use uuid::Uuid;

/// The name of the metadata that says from which version a commit was planned.
pub(crate) const READ_VERSION: &str = "readVersion";

/// A log whose removals are checked.
#[derive(Debug)]
pub(crate) struct CheckedLog {
    inner: LogStoreRef,
}

impl CheckedLog {
    pub(crate) fn over(inner: LogStoreRef) -> Arc<Self> {
        Arc::new(Self { inner })
    }

    /// Has a commit after the one that was read, and before this, removed one of these files?
    async fn check(&self, version: u64, entry: &[u8]) -> Result<(), TransactionError> {
        let removed = removed_files(entry);
        let Some(read) = read_version(entry).filter(|_| !removed.is_empty()) else { return Ok(()) };
        for between in read.saturating_add(1)..version {
            let found = self.inner.read_commit_entry(between).await.map_err(unreadable)?;
            let found = found.ok_or_else(|| unreadable(deltalake::DeltaTableError::InvalidVersion(between)))?;
            if !removed_files(&found).is_disjoint(&removed) {
                return Err(CommitConflictError::ConcurrentDeleteDelete.into());
            }
        }
        Ok(())
    }
}

#[async_trait]
impl LogStore for CheckedLog {
    fn name(&self) -> String {
        self.inner.name()
    }

    async fn read_commit_entry(&self, version: u64) -> DeltaResult<Option<Bytes>> {
        self.inner.read_commit_entry(version).await
    }

    async fn write_commit_entry(
        &self,
        version: u64,
        entry: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        // What another commits between this check and the next line takes this version, and so is checked in its turn.
        if let CommitOrBytes::LogBytes(bytes) = &entry {
            self.check(version, bytes).await?;
        }
        self.inner.write_commit_entry(version, entry, operation).await
    }

    async fn abort_commit_entry(
        &self,
        version: u64,
        entry: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        self.inner.abort_commit_entry(version, entry, operation).await
    }

    async fn get_latest_version(&self, start: u64) -> DeltaResult<u64> {
        self.inner.get_latest_version(start).await
    }

    fn object_store(&self, operation: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.object_store(operation)
    }

    fn root_object_store(&self, operation: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.inner.root_object_store(operation)
    }

    fn config(&self) -> &LogStoreConfig {
        self.inner.config()
    }
}

fn unreadable(error: deltalake::DeltaTableError) -> TransactionError {
    TransactionError::LogStoreError { msg: "reading the commits in between".to_owned(), source: Box::new(error) }
}

fn actions(entry: &[u8]) -> impl Iterator<Item = Value> {
    serde_json::Deserializer::from_slice(entry).into_iter::<Value>().map_while(Result::ok)
}

fn removed_files(entry: &[u8]) -> HashSet<String> {
    let path = |action: Value| action.get("remove")?.get("path")?.as_str().map(str::to_owned);
    actions(entry).filter_map(path).collect()
}

fn read_version(entry: &[u8]) -> Option<u64> {
    actions(entry).find_map(|action| action.get("commitInfo")?.get(READ_VERSION)?.as_u64())
}
