//! The one source of time for services.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::EventTime;

/// Wall time when live, event time when replaying. Pure cores take the time as an argument instead.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    Wall,
    /// The largest event time that the replay has reached.
    Replay(Arc<AtomicI64>),
}

impl Clock {
    /// A replay clock that starts at the earliest moment.
    #[must_use]
    pub fn replay() -> Self {
        Self::Replay(Arc::new(AtomicI64::new(i64::MIN)))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> EventTime {
        match self {
            Self::Wall => {
                #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                EventTime::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
            }
            Self::Replay(micros) => EventTime::from_micros(micros.load(Ordering::Acquire)),
        }
    }

    /// Moves a replay clock forward to `time`; a wall clock does not listen.
    pub fn advance(&self, time: EventTime) {
        if let Self::Replay(micros) = self {
            micros.fetch_max(time.micros(), Ordering::AcqRel);
        }
    }

    /// Is event time replayed rather than lived?
    #[must_use]
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Replay(_))
    }
}
