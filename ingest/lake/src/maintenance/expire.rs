//! Old days go as a whole.

use datafusion::logical_expr::{col, lit};
use datafusion::scalar::ScalarValue;
use headroom_proto::EventTime;
use headroom_proto::time::Span;

use super::{ATTEMPTS, is_conflict, properties};
use crate::log::READ_VERSION;
use crate::{DATE, Lake, LakeError, Table, date_of};

/// What a retention removed from a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Files that no longer belong to the newest version; a vacuum removes them later.
    pub files: u64,
}

impl Lake {
    /// Removes the days that ended at least `keep` before `now`. A table without days keeps all its rows.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub async fn expire(&self, table: Table, keep: Span, now: EventTime) -> Result<Expired, LakeError> {
        if table.partition_columns().is_empty() {
            return Ok(Expired::default());
        }
        let first_kept = date_of(now.micros().saturating_sub(keep.micros().max(0)));
        for attempt in 1.. {
            let Some(current) = self.loaded(table).await? else { break };
            if !has_older(table, &current, first_kept)? {
                break;
            }
            let older = col(DATE).lt(lit(ScalarValue::Date32(Some(first_kept))));
            let read = current.version().unwrap_or_default();
            let outcome = current
                .delete()
                .with_predicate(older)
                .with_session_state(std::sync::Arc::clone(self.writing_session()) as std::sync::Arc<_>)
                .with_commit_properties(properties().with_metadata([(READ_VERSION.to_owned(), read.into())]))
                .await;
            match outcome {
                Ok((left, metrics)) => {
                    self.replace(table, left);
                    return Ok(Expired { files: metrics.num_removed_files as u64 });
                }
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS => {
                    tracing::debug!(%table, attempt, "another writer was first: planning again");
                }
                Err(error) => return Err(LakeError::delta(table, "removing old days of")(error)),
            }
        }
        Ok(Expired::default())
    }
}

fn has_older(table: Table, current: &deltalake::DeltaTable, first_kept: i32) -> Result<bool, LakeError> {
    let state = current.snapshot().map_err(LakeError::delta(table, "reading the files of"))?;
    let day_of = |text: &str| {
        let day: chrono::NaiveDate = text.parse().ok()?;
        i32::try_from(day.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()
    };
    Ok(state.log_data().iter().any(|file| {
        let day = file.partition_values_map().remove(DATE).flatten();
        day.as_deref().and_then(day_of).is_some_and(|day| day < first_kept)
    }))
}
