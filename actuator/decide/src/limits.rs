//! Limits against storms: how many changes may begin within an hour, and how many may be under way, over all workloads.
//!
//! What the load of now needs comes first: it has a reserve as large as the limit, so that a storm of forecasts or
//! releases cannot starve it. Beyond the reserve even that waits, and says so: a sensor that has gone mad would else
//! raise everything at once.

use headroom_proto::{EventTime, Span};
use serde::{Deserialize, Serialize};

const HOUR: Span = Span::from_hours(1);

/// How much may happen at once, over all workloads; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Changes that begin within any hour.
    pub actions_per_hour: usize,
    /// Changes whose units are not ready yet.
    pub concurrent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { actions_per_hour: 600, concurrent: 100 }
    }
}

/// Why a change has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// In words.
    pub reason: String,
}

impl Limits {
    /// May a change begin, when others began at these times and so many are under way?
    ///
    /// # Errors
    /// Says which limit is reached and when to expect it to be lifted.
    pub fn admit(
        &self,
        now: EventTime,
        began: impl IntoIterator<Item = EventTime>,
        under_way: usize,
        needed_now: bool,
    ) -> Result<(), Held> {
        let share = |limit: usize| if needed_now { limit.saturating_mul(2) } else { limit };
        let reserve = if needed_now { ", the reserve for the load of now included" } else { "" };
        if self.concurrent > 0 && under_way >= share(self.concurrent) {
            let reason = format!(
                "{under_way} changes are under way, the limit of all workloads (actuate.limits.concurrent){reserve}"
            );
            return Err(Held { reason });
        }
        if self.actions_per_hour == 0 {
            return Ok(());
        }
        let mut within: Vec<EventTime> = began.into_iter().filter(|at| now - *at < HOUR).collect();
        within.sort();
        let limit = share(self.actions_per_hour);
        let Some(freed_by) = within.len().checked_sub(limit).and_then(|over| within.get(over)) else { return Ok(()) };
        let reason = format!(
            "{} changes began within the hour, the limit of all workloads (actuate.limits.actions_per_hour){reserve}; \
             the next may begin at {}",
            within.len(),
            *freed_by + HOUR
        );
        Err(Held { reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> EventTime {
        EventTime::from_micros(0) + Span::from_mins(minute)
    }

    #[test]
    fn an_hour_has_its_limit_and_the_load_of_now_its_reserve() {
        let limits = Limits { actions_per_hour: 2, concurrent: 0 };
        let began = |minutes: &[i64]| minutes.iter().map(|minute| at(*minute)).collect::<Vec<_>>();
        assert_eq!(limits.admit(at(50), began(&[0]), 9, false), Ok(()));
        let held = limits.admit(at(50), began(&[10, 0]), 9, false).expect_err("two within the hour");
        assert!(held.reason.contains("actions_per_hour") && held.reason.contains("01:00"), "{held:?}");
        assert_eq!(limits.admit(at(60), began(&[0, 10]), 9, false), Ok(()), "the first is an hour ago");
        assert_eq!(limits.admit(at(50), began(&[0, 10, 20]), 9, true), Ok(()));
        let held = limits.admit(at(50), began(&[0, 10, 20, 30]), 9, true).expect_err("the reserve is used up");
        assert!(held.reason.contains("reserve"), "{held:?}");
        assert_eq!(Limits { actions_per_hour: 0, concurrent: 0 }.admit(at(0), began(&[0; 99]), 99, false), Ok(()));
    }

    #[test]
    fn so_many_may_be_under_way() {
        let limits = Limits { actions_per_hour: 0, concurrent: 3 };
        for (under_way, needed_now, admitted) in
            [(2, false, true), (3, false, false), (5, true, true), (6, true, false)]
        {
            assert_eq!(limits.admit(at(0), [], under_way, needed_now).is_ok(), admitted, "{under_way}, {needed_now}");
        }
    }
}
