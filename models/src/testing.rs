//! What the tests have in common.

use crate::KnownEvent;

const HOUR_US: i64 = 3_600_000_000;
pub(crate) const STEP_US: i64 = HOUR_US / 4;
/// Steps of a day.
pub(crate) const DAY: i64 = 96;

/// An event of two hours that starts at this step.
pub(crate) fn event(id: &str, kind: &str, step: i64, weight: f64) -> KnownEvent {
    let starts_at_us = step * STEP_US;
    KnownEvent {
        id: id.to_owned(),
        revision: 1,
        kind: kind.to_owned(),
        name: String::new(),
        channel: String::new(),
        weight,
        audience_size: None,
        announced_at_us: 0,
        starts_at_us,
        ends_at_us: starts_at_us + 2 * HOUR_US,
        cancelled: false,
    }
}
