//! Closed steps of one series, gaps kept as gaps.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Values of consecutive steps, bounded: the oldest go first. Seven digits of a value are kept, since the history is most
/// of what a workload holds in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    step_us: i64,
    start_us: i64,
    limit: usize,
    /// NaN is a gap.
    values: VecDeque<f32>,
}

/// Room for one more; a queue that is kept grows by an eighth rather than twofold.
pub(crate) fn make_room<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(queue.len() / 8 + 4);
    }
}

fn known(value: f32) -> Option<f64> {
    (!value.is_nan()).then_some(f64::from(value))
}

impl History {
    /// Empty, of at most `limit` steps.
    #[must_use]
    pub fn new(step_us: i64, limit: usize) -> Self {
        Self { step_us, start_us: 0, limit: limit.max(1), values: VecDeque::new() }
    }

    /// Appends the step that starts at `start_us`; steps that were skipped are gaps. False when it is not later than
    /// the last one.
    pub fn push(&mut self, start_us: i64, value: f64) -> bool {
        if self.values.is_empty() {
            self.start_us = start_us;
        }
        let skipped = (start_us - self.end_us()).div_euclid(self.step_us);
        if skipped < 0 {
            return false;
        }
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        if skipped >= self.limit {
            self.values.clear();
            self.start_us = start_us;
        } else {
            self.values.extend(std::iter::repeat_n(f32::NAN, skipped));
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
        let single = value as f32;
        make_room(&mut self.values);
        self.values.push_back(if single.is_finite() && single >= 0.0 { single } else { f32::NAN });
        while self.values.len() > self.limit {
            self.values.pop_front();
            self.start_us += self.step_us;
        }
        true
    }

    /// End of the last step.
    #[must_use]
    pub fn end_us(&self) -> i64 {
        self.start_us + self.step_us * i64::try_from(self.values.len()).unwrap_or(0)
    }

    /// Start of the first step that is kept.
    #[must_use]
    pub fn start_us(&self) -> i64 {
        self.start_us
    }

    /// Length of a step.
    #[must_use]
    pub fn step_us(&self) -> i64 {
        self.step_us
    }

    /// How many steps are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Is nothing kept?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The part of it that ends at `end_us`, of at most `length_us`.
    #[must_use]
    pub(crate) fn until(&self, end_us: i64, length_us: i64) -> Self {
        let index = |us: i64| usize::try_from((us - self.start_us).div_euclid(self.step_us)).unwrap_or(0);
        let to = index(end_us.max(self.start_us)).min(self.values.len());
        let from = index(end_us.saturating_sub(length_us).max(self.start_us)).min(to);
        let start_us = self.start_us + self.step_us * i64::try_from(from).unwrap_or(0);
        Self { start_us, values: self.values.range(from..to).copied().collect(), ..*self }
    }

    /// The value of the step that starts at `start_us`; none for a gap and outside.
    #[must_use]
    pub fn at(&self, start_us: i64) -> Option<f64> {
        let index = (start_us - self.start_us).div_euclid(self.step_us);
        usize::try_from(index).ok().and_then(|index| known(*self.values.get(index)?))
    }

    /// Starts and values of the last `steps` steps, in order.
    pub fn last(&self, steps: usize) -> impl DoubleEndedIterator<Item = (i64, Option<f64>)> + '_ {
        let skip = self.values.len().saturating_sub(steps);
        let first_us = self.start_us + self.step_us * i64::try_from(skip).unwrap_or(0);
        self.values
            .range(skip..)
            .enumerate()
            .map(move |(k, value)| (first_us + self.step_us * i64::try_from(k).unwrap_or(0), known(*value)))
    }

    /// How many of the last `steps` steps are gaps.
    #[must_use]
    pub fn gaps(&self, steps: usize) -> usize {
        self.last(steps).filter(|(_, value)| value.is_none()).count()
    }
}
