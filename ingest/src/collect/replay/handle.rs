//! Watching a replay.

use std::sync::{Arc, Mutex, PoisonError};

use headroom_proto::EventTime;
use headroom_proto::status::StageStatus;

/// How far a replay has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Rows of the file that have been dealt with.
    pub rows_done: u64,
    /// Rows of the file.
    pub rows_total: u64,
    /// Telemetry up to here is on the topic.
    pub event_time: Option<EventTime>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) status: StageStatus,
    pub(super) rows_done: u64,
    pub(super) rows_total: u64,
}

/// Watches a replay.
#[derive(Clone, Debug)]
pub struct ReplayHandle {
    shared: Arc<Mutex<Shared>>,
}

impl ReplayHandle {
    pub(super) fn new() -> Self {
        let shared = Shared {
            status: StageStatus { stage: "collect".to_owned(), ..StageStatus::default() },
            ..Shared::default()
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// What the stage says of itself.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        self.with(|shared| shared.status.clone())
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> ReplayProgress {
        self.with(|shared| ReplayProgress {
            rows_done: shared.rows_done,
            rows_total: shared.rows_total,
            event_time: shared.status.event_time,
        })
    }

    pub(super) fn with<T>(&self, access: impl FnOnce(&mut Shared) -> T) -> T {
        access(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
