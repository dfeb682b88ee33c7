//! What a stage says of itself, for the console and the command line.

use serde::{Deserialize, Serialize};

use crate::EventTime;

/// Where a stage is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageState {
    /// Recovering, not yet reading.
    #[default]
    Starting,
    /// Reading and writing.
    Running,
    /// Its input has ended, or it was told to stop and is finishing.
    Drained,
    /// It ended with an error, which stands in the note.
    Failed,
}

/// A stage's state and progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStatus {
    /// The stage's name: `collect`, `process`, `store`, `forecast`, `actuate`.
    pub stage: String,
    /// Where it is in its life.
    pub state: StageState,
    /// All input up to this event time has been handled and its results are durable.
    pub event_time: Option<EventTime>,
    /// Records read since the start.
    pub records_in: u64,
    /// Records written since the start.
    pub records_out: u64,
    /// Records set aside since the start: late, dead letters, repeats.
    pub set_aside: u64,
    /// One line for a person: what it is doing, or what went wrong.
    pub note: String,
}
