//! From what is wanted to what is commanded: raised at once, released late.
//!
//! A change has its price beside that of the units: a unit that is raised again is paid for its lead time before it serves,
//! and connections and caches are lost. So a release waits for the dwell time, looks as far ahead as it will be until a
//! further change could make up for it, and leaves a margin, since the forecasts of one and the same load differ from one
//! origin to the next.

use headroom_proto::time::Span;

use super::PlannerConfig;

/// How many units are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What is raised to.
    pub units: u32,
    /// What is released to: no fewer than `units`.
    pub floor: u32,
    /// Nothing is released before there are more than these: the floor at a load that is higher by the hysteresis.
    pub margin: u32,
}

impl Wanted {
    /// So many, whatever the load.
    #[must_use]
    pub fn exactly(units: u32) -> Self {
        Self { units, floor: units, margin: units }
    }
}

impl PlannerConfig {
    /// What is wanted for a load, by the declared capacity.
    #[must_use]
    pub fn wanted(&self, load: f64) -> Wanted {
        let (units, margin) = (self.units_for(load), self.units_for(load * (1.0 + self.hysteresis)));
        Wanted { units, floor: units, margin }
    }

    /// What is commanded, when so many are wanted, and what holds it back: raised at once, released after the dwell time
    /// when there are more than the margin, in limited steps.
    #[must_use]
    pub fn settle(&self, wanted: Wanted, commanded: u32, since_change: Span) -> (u32, Option<&'static str>) {
        let desired = wanted.units;
        if desired > commanded {
            let limit = commanded.saturating_add(self.max_step_up);
            let step = || self.sizes.step_up(commanded, limit).min(desired);
            return if desired > limit { (step(), Some("rate limit")) } else { (desired, None) };
        }
        if desired == commanded {
            return (commanded, None);
        }
        if since_change < self.dwell {
            return (commanded, Some("dwell"));
        }
        if wanted.margin >= commanded {
            return (commanded, Some("hysteresis"));
        }
        let floor = wanted.floor.max(desired);
        let limit = commanded.saturating_sub(self.max_step_down);
        let step = || self.sizes.step_down(commanded, limit).max(floor);
        if floor < limit { (step(), Some("rate limit")) } else { (floor, None) }
    }
}
