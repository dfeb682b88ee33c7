//! Many small files become few.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use deltalake::{DeltaTable, FilterLiteral, FilterOp, FilterValue};

use super::{ATTEMPTS, is_conflict, properties};
use crate::files::writer_properties;
use crate::{DATE, Lake, LakeError, Table};

/// When files are joined, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptimizeSettings {
    /// Joined files have about this size, in bytes; files of half of it and more are left alone.
    pub target_bytes: NonZeroU64,
    /// A day that is over is joined when it has at least this many small files.
    pub closed_day_files: usize,
    /// The newest day, to which rows still come, is joined when it has at least this many; so is a table without days.
    pub open_day_files: usize,
    /// Bytes that are rewritten in a second, on average; none is no limit.
    pub bytes_per_s: Option<NonZeroU64>,
}

impl Default for OptimizeSettings {
    fn default() -> Self {
        Self {
            target_bytes: NonZeroU64::new(128 << 20).expect("not zero"),
            closed_day_files: 2,
            open_day_files: 2,
            bytes_per_s: None,
        }
    }
}

/// What joining files did to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optimized {
    /// Small files that were joined.
    pub files_joined: u64,
    /// Files that hold their rows now.
    pub files_written: u64,
    /// Size of the files that were joined, in bytes.
    pub bytes_rewritten: u64,
}

/// The small files of a day.
#[derive(Clone, Copy, Debug, Default)]
struct Small {
    files: usize,
    bytes: u64,
}

impl Lake {
    /// Joins the small files of each day that has enough of them, the day with the fewest bytes first, one commit a day.
    /// Rows, their order within a day and positions stay. Others may write meanwhile. Days are counted in event time: the
    /// newest day of the table is the open one.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub async fn optimize(&self, table: Table, settings: &OptimizeSettings) -> Result<Optimized, LakeError> {
        let mut total = Optimized::default();
        let Some(current) = self.loaded(table).await? else { return Ok(total) };
        let mut due: Vec<(Option<String>, Small)> = due_days(table, &current, settings)?;
        due.sort_by_key(|(_, small)| small.bytes);
        for (day, small) in due {
            let done = self.optimize_day(table, day.as_deref(), settings).await?;
            total.files_joined += done.files_joined;
            total.files_written += done.files_written;
            total.bytes_rewritten += done.bytes_rewritten;
            if let Some(rate) = settings.bytes_per_s {
                tokio::time::sleep(pause(small.bytes, rate)).await;
            }
        }
        Ok(total)
    }

    async fn optimize_day(
        &self,
        table: Table,
        day: Option<&str>,
        settings: &OptimizeSettings,
    ) -> Result<Optimized, LakeError> {
        for attempt in 1.. {
            let Some(current) = self.loaded(table).await? else { break };
            let schema = self.schema(table).await?;
            let filters: Vec<FilterLiteral<'_>> =
                day.map(|day| (DATE, FilterOp::Eq, FilterValue::Scalar(day))).into_iter().collect();
            let outcome = current
                .optimize()
                .with_filters(&filters)
                .with_target_size(settings.target_bytes)
                .with_max_concurrent_tasks(1)
                .with_session_state(Arc::clone(self.writing_session()) as Arc<_>)
                .with_commit_properties(properties())
                .with_writer_properties(writer_properties(table, &schema))
                .await;
            match outcome {
                Ok((joined, metrics)) => {
                    self.replace(table, joined);
                    return Ok(Optimized {
                        files_joined: metrics.num_files_removed,
                        files_written: metrics.num_files_added,
                        bytes_rewritten: u64::try_from(metrics.files_removed.total_size).unwrap_or_default(),
                    });
                }
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS => {
                    tracing::debug!(%table, day, attempt, "another writer was first: planning again");
                }
                Err(error) => return Err(LakeError::delta(table, "joining the files of")(error)),
            }
        }
        Ok(Optimized::default())
    }
}

fn due_days(
    table: Table,
    current: &DeltaTable,
    settings: &OptimizeSettings,
) -> Result<Vec<(Option<String>, Small)>, LakeError> {
    let state = current.snapshot().map_err(LakeError::delta(table, "reading the files of"))?;
    let mut days: BTreeMap<Option<String>, Small> = BTreeMap::new();
    let mut newest: Option<String> = None;
    for file in state.log_data().iter() {
        let day = file.partition_values_map().remove(DATE).flatten();
        newest = newest.max(day.clone());
        if file.size().unsigned_abs() < settings.target_bytes.get() / 2 {
            let small = days.entry(day).or_default();
            small.files += 1;
            small.bytes += file.size().unsigned_abs();
        }
    }
    let is_due = |(day, small): &(Option<String>, Small)| {
        let is_open = *day == newest;
        let enough = if is_open { settings.open_day_files } else { settings.closed_day_files };
        small.files >= enough.max(2)
    };
    Ok(days.into_iter().filter(is_due).collect())
}

/// How long rewriting these bytes should have taken.
fn pause(bytes: u64, bytes_per_s: NonZeroU64) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a pause needs no such precision")]
    let seconds = bytes as f64 / bytes_per_s.get() as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
