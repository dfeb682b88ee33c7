//! Rows of a training set: what a forecast saw of one step, and the value that came.

use serde::{Deserialize, Serialize};

use super::frame::{COLUMNS, Frame};
use crate::scales::log;

const DAY_US: f64 = 86_400_000_000.0;
/// Rows of this share of the history's length count half, but never younger ones than these days.
const HALF_LIFE_SHARE: f64 = 0.4;
const HALF_LIFE_DAYS: f64 = 30.0;

/// One step of one origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Start of the step.
    at_us: i64,
    /// Of the workload and the origin, evenly spread: by it a training set is thinned.
    key: u64,
    cells: [f32; COLUMNS],
    /// Distance of the value from the ridge's path, on the log scale.
    target: f32,
}

impl Row {
    /// The row of a step that starts at `at_us` and had this value.
    pub(super) fn new(key: u64, at_us: i64, frame: &Frame<'_>, step: usize, value: f64) -> Self {
        let (base, cells) = frame.row(step);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
        let target = (log(value) - base) as f32;
        Self { at_us, key, cells, target }
    }

    #[cfg(test)]
    pub(crate) fn of_key(key: u64) -> Self {
        Self { at_us: 0, key, cells: [0.0; COLUMNS], target: 0.0 }
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    pub(super) fn target(&self) -> f32 {
        self.target
    }

    /// Newer rows count more.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "days of history")]
    pub(super) fn weight(&self, now_us: i64, length_us: i64) -> f32 {
        let days = |us: i64| us as f64 / DAY_US;
        let half_life = (HALF_LIFE_SHARE * days(length_us)).max(HALF_LIFE_DAYS);
        0.5_f64.powf(days(now_us - self.at_us) / half_life) as f32
    }
}

/// The first columns of rows, one after the other.
pub(super) fn columns(rows: &[&Row], count: usize) -> Vec<Vec<f32>> {
    let column = |at: usize| rows.iter().map(|row| row.cells.get(at).copied().unwrap_or(f32::NAN)).collect();
    (0..count).map(column).collect()
}
