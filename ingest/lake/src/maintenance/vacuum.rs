//! Files and log entries that no kept version needs are removed.

use chrono::Duration;
use deltalake::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use deltalake::operations::vacuum::VacuumMode;
use headroom_proto::EventTime;
use headroom_proto::time::Span;

use super::properties;
use crate::{Lake, LakeError, Table};

/// No shorter: a query or a writer that runs may still need the files.
const SHORTEST: Span = Span::from_mins(60);

/// What a vacuum removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// The files, relative to the table's folder.
    pub files: Vec<String>,
    /// Was it only asked?
    pub is_dry_run: bool,
}

/// Is it only asked, or done?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Dry,
    Real,
}

impl Lake {
    /// Removes the data files that no version of the last `retention` needs, whoever left them. Versions that were the
    /// newest within the retention can be read afterwards, older ones perhaps not. The time is the machine's: it is
    /// compared with when files were removed from the table.
    ///
    /// # Errors
    /// When the retention is shorter than an hour, or the table cannot be read or written.
    pub async fn vacuum(&self, table: Table, retention: Span) -> Result<Vacuumed, LakeError> {
        self.vacuum_in(table, retention, Mode::Real).await
    }

    /// What a vacuum would remove.
    ///
    /// # Errors
    /// As [`Lake::vacuum`].
    pub async fn vacuum_plan(&self, table: Table, retention: Span) -> Result<Vacuumed, LakeError> {
        self.vacuum_in(table, retention, Mode::Dry).await
    }

    async fn vacuum_in(&self, table: Table, retention: Span, mode: Mode) -> Result<Vacuumed, LakeError> {
        if retention < SHORTEST {
            return Err(LakeError::Retention { minutes: SHORTEST.micros() / 60_000_000 });
        }
        self.vacuum_unchecked(table, retention, mode).await
    }

    pub(super) async fn vacuum_unchecked(
        &self,
        table: Table,
        retention: Span,
        mode: Mode,
    ) -> Result<Vacuumed, LakeError> {
        let is_dry_run = mode == Mode::Dry;
        let Some(current) = self.loaded(table).await? else {
            return Ok(Vacuumed { files: Vec::new(), is_dry_run });
        };
        let (cleaned, metrics) = current
            .vacuum()
            .with_retention_period(Duration::microseconds(retention.micros()))
            .with_enforce_retention_duration(false)
            .with_mode(VacuumMode::Full)
            .with_dry_run(is_dry_run)
            .with_commit_properties(properties())
            .await
            .map_err(LakeError::delta(table, "removing old files of"))?;
        if !is_dry_run {
            self.replace(table, cleaned);
        }
        Ok(Vacuumed { files: metrics.files_deleted, is_dry_run })
    }

    /// Writes a checkpoint of the log at the newest version, and removes log entries that are older than `retention` and
    /// that no kept version needs. Gives the number of entries.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub async fn clean_log(&self, table: Table, retention: Span, now: EventTime) -> Result<usize, LakeError> {
        let Some(current) = self.loaded(table).await? else { return Ok(0) };
        let cleaning = || LakeError::delta(table, "removing old log entries of");
        create_checkpoint(&current, None).await.map_err(LakeError::delta(table, "writing a checkpoint of"))?;
        let version = current.version().unwrap_or_default();
        let cutoff_ms = now.millis().saturating_sub(retention.micros() / 1_000);
        cleanup_expired_logs_for(version, current.log_store().as_ref(), cutoff_ms, None).await.map_err(cleaning())
    }
}
