//! What has capacity that can be changed, and what is asked of it.
//!
//! A change is idempotent by its key, fenced by its place on the record, undone exactly, and believed only when the
//! target reports it. One suite (`tests/targets.rs`) holds every target to that.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use headroom_actuator_decide::protocol::Reply;
use headroom_proto::EventTime;

/// The place of a change in its workload's record: when it was decided, then the number of the move that permits it.
/// A target refuses a change that is not newer than the newest it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    at_us: u64,
    position: u64,
}

/// A change that is asked of a target.
#[derive(Clone, Debug)]
pub struct ApplyRequest {
    /// Whose capacity.
    pub workload: String,
    /// Units to have from now on.
    pub units: u32,
    /// The same key is the same change: it happens once.
    pub idempotency_key: String,
    /// Its place among the changes of the workload.
    pub fence: Fence,
    /// The key of the change that is undone: what stood before it comes back, whatever it was, and `units` is only said.
    pub undoes: Option<String>,
    /// When it is asked.
    pub at: EventTime,
    /// When it has to begin, so that its units are ready in time; at once without. A target that cannot wait for it by
    /// itself begins at once.
    pub begin_at: Option<EventTime>,
}

/// A change that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The value before it, in the target's own words.
    pub before: String,
    /// The value that the target reports since.
    pub after: String,
}

/// How far the work is let go of units that a release takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Nothing is left on them, or there is nothing to let go.
    Done,
    /// Not yet; what is left, in the target's own words.
    Left(String),
}

/// What a target reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// Units that serve.
    pub ready: u32,
    /// Units that were asked for, those on their way included.
    pub commanded: u32,
    /// What was asked for, in the target's own words: `pool_size=25`.
    pub value: String,
}

/// Why a target did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It cannot be reached.
    Away,
    /// It did not answer in its time; what it did meanwhile is not known.
    Slow,
    /// It was begun and not finished; the same key finishes it.
    HalfDone,
    /// It said yes, and reports another value.
    NotChanged,
    /// A newer change was there: whoever asks has been overtaken.
    Fenced,
    /// It will not do this, however often it is asked.
    Refused,
}

/// A target that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("target {target}: {problem}")]
pub struct TargetError {
    /// The target's name.
    pub target: String,
    /// What kind of failure it is.
    pub fault: Fault,
    /// What went wrong, and how to mend it.
    pub problem: String,
}

/// A system whose capacity can be changed.
#[async_trait]
pub trait Target: Send + Sync {
    /// Its name in records.
    fn name(&self) -> &str;

    /// Asks for a change; it has happened, or had happened already, when this returns, and the target reports it.
    ///
    /// # Errors
    /// When it has not happened, or not wholly. Unless the fault is lasting, asking again with the same key is safe and
    /// finishes what was begun.
    async fn apply(&self, request: &ApplyRequest) -> Result<Applied, TargetError>;

    /// The state at a time; of a target without a history, the state of now.
    ///
    /// # Errors
    /// When the target cannot be asked.
    async fn observe(&self, workload: &str, at: EventTime) -> Result<TargetState, TargetError>;

    /// How long the work of units may take to be let go before a release takes them away; none when the target looks after
    /// that by itself.
    fn drains_within(&self) -> Option<Duration> {
        None
    }

    /// Lets the work go of the units that a release will take away. It is asked again until it says that it is done, or
    /// its time is over; nothing is taken away by it.
    ///
    /// # Errors
    /// When the target cannot be asked.
    async fn drain(&self, _request: &ApplyRequest) -> Result<Drain, TargetError> {
        Ok(Drain::Done)
    }

    /// Does it begin a change by itself at the time that it is given? Units that it will have then count as commanded.
    fn schedules(&self) -> bool {
        false
    }

    /// Can a change from one number of units to another be undone? What cannot always needs a person.
    fn is_reversible(&self, _before: u32, _after: u32) -> bool {
        true
    }

    /// Could a change be made now? Asks for everything that one needs, and changes nothing.
    ///
    /// # Errors
    /// Says what is missing.
    async fn probe(&self, workload: &str) -> Result<(), TargetError>;
}

impl Fault {
    /// May it be different next time?
    #[must_use]
    pub fn is_passing(self) -> bool {
        match self {
            Self::Away | Self::Slow | Self::HalfDone | Self::NotChanged => true,
            Self::Fenced | Self::Refused => false,
        }
    }
}

impl TargetError {
    /// What is known of the change then. One that was not known before stays so while the target is away.
    pub(crate) fn reply(&self, was_unknown: bool) -> Reply {
        match self.fault {
            Fault::Slow | Fault::HalfDone => Reply::Unknown,
            Fault::Away if was_unknown => Reply::Unknown,
            Fault::Away | Fault::NotChanged | Fault::Fenced | Fault::Refused => Reply::NotDone,
        }
    }
}

impl Fence {
    /// The place of a move that was made at `at` and is number `position` of its workload's record.
    #[must_use]
    pub fn new(at: EventTime, position: u64) -> Self {
        Self { at_us: u64::try_from(at.micros()).unwrap_or(0), position }
    }
}

/// Texts of fences compare as the fences do.
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:017}-{:012}", self.at_us, self.position)
    }
}

impl FromStr for Fence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('-').and_then(|(at, position)| Some((at.parse().ok()?, position.parse().ok()?)));
        let (at_us, position) = parts.ok_or_else(|| format!("`{text}` is no fence"))?;
        Ok(Self { at_us, position })
    }
}

impl serde::Serialize for Fence {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fence {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
