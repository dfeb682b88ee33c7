//! Upkeep of a table while others write and read it: joining files, letting old days go, removing what no version needs.
//!
//! Nothing here takes a table's turn to write for long: each step is a Delta commit of its own, which gives way to
//! appends. Two that rewrite the same files find out at the commit; the later one plans again.
//!
//! Architecture invariant: upkeep changes no row that is kept and no position.

mod expire;
mod history;
mod optimize;
mod vacuum;

pub use expire::Expired;
pub use history::HistoryEntry;
pub(crate) use history::log_versions;
pub use optimize::{OptimizeSettings, Optimized};
pub use vacuum::Vacuumed;

use deltalake::DeltaTableError;
use deltalake::kernel::transaction::{CommitProperties, TransactionError};

/// Times that a step which met another writer is planned again.
pub(crate) const ATTEMPTS: usize = 5;

/// Upkeep leaves the log's old entries to [`crate::Lake::clean_log`].
pub(crate) fn properties() -> CommitProperties {
    CommitProperties::default().with_cleanup_expired_logs(Some(false))
}

/// Has another writer changed what this step was about to change?
pub(crate) fn is_conflict(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(_) | TransactionError::MaxCommitAttempts(_)
            }
    )
}

#[cfg(test)]
mod tests;
