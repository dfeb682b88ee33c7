//! Numbers of units that exist: instance classes and capacity steps come in sizes.

use serde::{Deserialize, Serialize};

/// The sizes that a workload can have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sizes {
    /// The sizes one by one, ascending: `[2, 4, 8, 16]`. Empty: every number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<u32>,
    /// Sizes are multiples of this; 0 and 1 for every number.
    pub step: u32,
}

impl Sizes {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self, min: u32, max: u32) -> Vec<String> {
        let mut problems = Vec::new();
        if self.list.windows(2).any(|pair| matches!(pair, [low, high] if low >= high)) || self.list.first() == Some(&0)
        {
            problems.push("`sizes.list` must ascend, from 1".to_owned());
        }
        if !self.list.is_empty() && self.step > 1 {
            problems.push("`sizes` has a `list` or a `step`, not both".to_owned());
        }
        if self.smallest_from(min).is_none_or(|size| size > max) {
            problems.push(format!("`sizes` has none from `min_units` {min} to `max_units` {max}"));
        }
        problems
    }

    /// The smallest size that is not below `units`, within the bounds; the largest where there is none.
    #[must_use]
    pub fn round_up(&self, units: u32, min: u32, max: u32) -> u32 {
        if self.is_every() {
            return units.clamp(min, max);
        }
        let fitting = self.smallest_from(units.max(min)).filter(|size| *size <= max);
        fitting.or_else(|| self.largest_to(max)).unwrap_or(max)
    }

    /// The largest size that is above `from` and not above `limit`; the next one above `from` where there is none, since
    /// half a step cannot be made.
    #[must_use]
    pub fn step_up(&self, from: u32, limit: u32) -> u32 {
        if self.is_every() {
            return limit;
        }
        let within = self.largest_to(limit).filter(|size| *size > from);
        within.or_else(|| self.smallest_from(from.saturating_add(1))).unwrap_or(limit)
    }

    /// The smallest size that is below `from` and not below `limit`; the next one below `from` where there is none.
    #[must_use]
    pub fn step_down(&self, from: u32, limit: u32) -> u32 {
        if self.is_every() {
            return limit;
        }
        let within = self.smallest_from(limit).filter(|size| *size < from);
        within.or_else(|| self.largest_to(from.saturating_sub(1))).unwrap_or(limit)
    }

    fn is_every(&self) -> bool {
        self.list.is_empty() && self.step <= 1
    }

    fn smallest_from(&self, units: u32) -> Option<u32> {
        if !self.list.is_empty() {
            return self.list.iter().copied().find(|size| *size >= units);
        }
        units.max(1).checked_next_multiple_of(self.step.max(1))
    }

    fn largest_to(&self, units: u32) -> Option<u32> {
        if !self.list.is_empty() {
            return self.list.iter().copied().rev().find(|size| *size <= units);
        }
        let step = self.step.max(1);
        Some(units / step * step).filter(|size| *size > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_rounded_up_to_a_size_and_steps_end_on_one() {
        let classes = Sizes { list: vec![2, 4, 8, 16], step: 0 };
        let rounded: Vec<u32> = [1, 2, 3, 9, 40].into_iter().map(|units| classes.round_up(units, 1, 20)).collect();
        assert_eq!(rounded, [2, 2, 4, 16, 16]);
        assert_eq!(classes.round_up(9, 1, 12), 8, "no size between the need and the bound");
        assert_eq!((classes.step_up(4, 9), classes.step_up(8, 10)), (8, 16));
        assert_eq!((classes.step_down(16, 7), classes.step_down(16, 12)), (8, 8));
        let steps = Sizes { list: Vec::new(), step: 4 };
        assert_eq!((steps.round_up(5, 1, 100), steps.step_up(8, 13), steps.step_down(8, 6)), (8, 12, 4));
        let every = Sizes::default();
        assert_eq!((every.round_up(5, 1, 4), every.step_up(1, 3), every.step_down(9, 6)), (4, 3, 6));
    }

    #[test]
    fn sizes_that_do_not_fit_the_bounds_are_named() {
        assert!(Sizes::default().problems(1, 10).is_empty());
        for sizes in [
            Sizes { list: vec![4, 2], step: 0 },
            Sizes { list: vec![0, 2], step: 0 },
            Sizes { list: vec![2], step: 2 },
            Sizes { list: vec![64], step: 0 },
            Sizes { list: Vec::new(), step: 64 },
        ] {
            assert_eq!(sizes.problems(1, 10).len(), 1, "{sizes:?}");
        }
    }
}
