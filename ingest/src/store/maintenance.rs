//! Upkeep of the tables in the background: few files, days within their retention, no files that nobody needs.
//!
//! Each step is a commit of its own that gives way to the store's, so appends wait for nothing. Stopping in the middle
//! of a step leaves files that belong to no version; a later vacuum removes them.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use headroom_ingest_lake::{Lake, LakeError, OptimizeSettings, Table};
use headroom_proto::Clock;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::StoreHandle;
use super::ledger::Ledger;

const SHORTEST_RETENTION: Span = Span::from_hours(1);

/// Settings of the upkeep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// Wall time between two rounds over the tables.
    #[serde(with = "span_text")]
    pub interval: Span,
    /// Joined files have about this size, in bytes.
    pub target_file_bytes: NonZeroU64,
    /// A day that is over is joined when it has at least this many small files.
    pub closed_day_files: usize,
    /// The newest day, and a table without days, is joined when it has at least this many.
    pub open_day_files: usize,
    /// Bytes that are rewritten in a second, on average; 0 is no limit.
    pub max_bytes_per_s: u64,
    /// Files that have not belonged to a table for this long are removed, with the versions that need them.
    #[serde(with = "span_text")]
    pub vacuum_retention: Span,
    /// Wall time between two vacuums of a table.
    #[serde(with = "span_text")]
    pub vacuum_interval: Span,
    /// How long the days of a table are kept, by the table's name; the others are kept for good.
    pub keep: BTreeMap<String, String>,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self {
            interval: Span::from_mins(1),
            target_file_bytes: NonZeroU64::new(128 << 20).expect("not zero"),
            closed_day_files: 4,
            open_day_files: 64,
            max_bytes_per_s: 16 << 20,
            vacuum_retention: Span::from_hours(7 * 24),
            vacuum_interval: Span::from_hours(6),
            keep: BTreeMap::new(),
        }
    }
}

impl MaintenanceConfig {
    /// Everything that is wrong with these settings, each with its key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, span) in [("interval", self.interval), ("vacuum_interval", self.vacuum_interval)] {
            if span < Span::from_secs(1) {
                problems.push(format!("{key}: {span} is too short: write at least 1s"));
            }
        }
        if self.vacuum_retention < SHORTEST_RETENTION {
            let told = "queries and writers that run need the files: write at least 1h";
            problems.push(format!("vacuum_retention: {} is too short: {told}", self.vacuum_retention));
        }
        for (name, text) in &self.keep {
            match Table::ALL.into_iter().find(|table| table.name() == name) {
                None => {
                    let known = Table::ALL.map(Table::name).join(", ");
                    problems.push(format!("keep: there is no table `{name}`: the tables are {known}"));
                }
                Some(Table::Signals | Table::Models | Table::Backtests) => {
                    problems.push(format!("keep.{name}: this table has no days and is kept for good: remove the line"));
                }
                Some(_) => {
                    let days = Span::parse(text).ok().filter(|span| *span >= Span::from_hours(24));
                    if days.is_none() {
                        problems.push(format!("keep.{name}: `{text}` is no length of at least a day, such as 90d"));
                    }
                }
            }
        }
        problems
    }

    fn optimize(&self) -> OptimizeSettings {
        OptimizeSettings {
            target_bytes: self.target_file_bytes,
            closed_day_files: self.closed_day_files,
            open_day_files: self.open_day_files,
            bytes_per_s: NonZeroU64::new(self.max_bytes_per_s),
        }
    }

    fn kept(&self, table: Table) -> Option<Span> {
        self.keep.get(table.name()).and_then(|text| Span::parse(text).ok())
    }
}

/// The upkeep of one lake.
pub(super) struct Maintenance {
    pub(super) config: MaintenanceConfig,
    pub(super) lake: Arc<Lake>,
    pub(super) ledger: Ledger,
    pub(super) handle: StoreHandle,
}

impl Maintenance {
    /// Runs until the shutdown, at which it stops wherever it is.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let rounds = async {
            let mut vacuumed = BTreeMap::new();
            loop {
                tokio::time::sleep(wall(self.config.interval)).await;
                self.round(&mut vacuumed).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = rounds => {}
        }
    }

    /// Every table once, the smallest first. A table that fails can still be written, and is tried again.
    async fn round(&self, vacuumed: &mut BTreeMap<Table, Instant>) {
        let mut tables = match self.lake.tables().await {
            Ok(tables) => tables,
            Err(error) => return self.failed(None, &error),
        };
        tables.retain(|state| state.version.is_some());
        tables.sort_by_key(|state| state.bytes);
        for table in tables.into_iter().map(|state| state.table) {
            if let Err(error) = self.tend(table, vacuumed).await {
                self.failed(Some(table), &error);
            }
        }
    }

    async fn tend(&self, table: Table, vacuumed: &mut BTreeMap<Table, Instant>) -> Result<(), LakeError> {
        if let (Some(keep), Some(now)) = (self.config.kept(table), self.handle.status().event_time) {
            let expired = self.lake.expire(table, keep, now).await?;
            if expired.files > 0 {
                tracing::info!(%table, files = expired.files, "old days removed");
                self.ledger.expired(table, expired.files);
            }
        }
        self.handle.tell_upkeep(format!("joining files of {table}"));
        let joined = self.lake.optimize(table, &self.config.optimize()).await;
        self.handle.tell_upkeep(String::new());
        let joined = joined?;
        if joined.files_joined > 0 {
            tracing::info!(%table, joined = joined.files_joined, written = joined.files_written, "files joined");
            self.ledger.compacted(table, joined.bytes_rewritten);
        }
        let interval = wall(self.config.vacuum_interval);
        if vacuumed.get(&table).is_none_or(|last| last.elapsed() >= interval) {
            vacuumed.insert(table, Instant::now());
            let removed = self.lake.vacuum(table, self.config.vacuum_retention).await?;
            let entries = self.lake.clean_log(table, self.config.vacuum_retention, Clock::Wall.now()).await?;
            tracing::debug!(%table, files = removed.files.len(), entries, "vacuumed");
            self.ledger.vacuumed(table, removed.files.len() as u64);
        }
        Ok(())
    }

    fn failed(&self, table: Option<Table>, error: &LakeError) {
        tracing::warn!(table = table.map(Table::name), %error, "upkeep failed, to be tried again");
        self.ledger.upkeep_failures.inc();
    }
}

fn wall(span: Span) -> Duration {
    Duration::from_micros(span.micros().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_with_their_keys() {
        let keep = [("window", "90d"), ("plans", "5m"), ("models", "90d"), ("windows", "90d")];
        let config = MaintenanceConfig {
            vacuum_retention: Span::from_mins(1),
            keep: keep.into_iter().map(|(table, span)| (table.to_owned(), span.to_owned())).collect(),
            ..MaintenanceConfig::default()
        };
        let problems = config.problems();
        let starts = ["vacuum_retention: 1m", "keep.models", "keep.plans: `5m`", "keep: there is no table `window`"];
        assert_eq!(problems.len(), starts.len(), "{problems:?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
        assert_eq!(config.kept(Table::Windows), Some(Span::from_hours(90 * 24)));
        assert!(MaintenanceConfig::default().problems().is_empty());
    }
}
