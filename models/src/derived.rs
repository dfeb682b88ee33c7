//! What follows from a forecast of load: sessions at work (Little's law), latency at a given capacity (queueing), and the
//! growth of what only accumulates, such as storage. Each says why it cannot tell rather than guess.
//!
//! Load comes in as equally likely values: the quantiles of a forecast at [`EQUALLY_LIKELY`]. What is told is the interval of 80 % of the
//! load's spread and that of past windows around the fit together, as if the two were independent.

mod connections;
mod growth;
mod latency;

pub use connections::{Sessions, SessionsSample, pool_for};
pub use growth::{Crossing, Growth};
pub use latency::{LatencyCurve, LatencySample};

use crate::scales::quantile;

/// Levels in the middle of nine equal parts: quantiles at these stand for a distribution.
pub const EQUALLY_LIKELY: [f64; 9] =
    [1.0 / 18.0, 3.0 / 18.0, 5.0 / 18.0, 7.0 / 18.0, 9.0 / 18.0, 11.0 / 18.0, 13.0 / 18.0, 15.0 / 18.0, 17.0 / 18.0];

/// The middle of what is likely, and the interval of 80 %. Infinite where the capacity is exceeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The quantile .1.
    pub low: f64,
    /// The median.
    pub middle: f64,
    /// The quantile .9.
    pub high: f64,
}

impl Range {
    /// Of equally likely values, each in the middle of its part (Hazen, 1914).
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "a count of values")]
        let count = values.len() as f64;
        let at = |level: f64| {
            let position = (level * count - 0.5) / (count - 1.0).max(1.0);
            let value = quantile(&values, position);
            // Between a finite and an infinite value there is none.
            if value.is_nan() { f64::INFINITY } else { value }
        };
        Self { low: at(0.1), middle: at(0.5), high: at(0.9) }
    }
}

/// Nine values that stand for many.
fn equally_likely(mut values: Vec<f64>) -> [f64; 9] {
    values.sort_by(f64::total_cmp);
    EQUALLY_LIKELY.map(|level| quantile(&values, level))
}

/// Sorted by load and cut into groups of nearly equal size.
fn groups<T: Copy>(samples: &[T], load: impl Fn(&T) -> f64, count: usize) -> Vec<Vec<T>> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| load(a).total_cmp(&load(b)));
    let size = sorted.len().div_ceil(count.max(1)).max(1);
    sorted.chunks(size).map(<[T]>::to_vec).collect()
}

#[cfg(test)]
mod tests;
