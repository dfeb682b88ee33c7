//! The lake: one Delta table for each kind of record, written exactly once and read with SQL.
//!
//! A commit carries the data and, as Delta application transactions, how far its inputs were read; so a writer that
//! begins at [`Lake::positions`] neither loses nor repeats a row. Any Delta or Parquet reader can open the folders.
//!
//! Architecture invariant: a position moves only in the commit that holds its rows.

mod cluster;
mod commit;
mod error;
mod evolution;
mod files;
pub mod flight;
mod lake;
mod log;
mod maintenance;
mod positions;
mod query;
mod schema;
mod session;
mod storage;
mod table;
#[cfg(test)]
mod testing;
mod versions;
mod views;

pub use cluster::check_scheduler;
pub use commit::{Appended, Commit};
pub use error::LakeError;
pub use lake::{Lake, Layout, TableState};
pub use maintenance::{Expired, HistoryEntry, OptimizeSettings, Optimized, Vacuumed};
pub use query::{Planned, QueryLimits, Rows};
pub use schema::{DATE, date_of, quantile_column};
pub use storage::{Storage, StorageConfig};
pub use table::Table;
