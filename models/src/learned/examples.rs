//! The training set: a row for each step of each origin whose value has come.

use serde::{Deserialize, Serialize};

use super::frame::{COLUMNS, Frame, OF_LOAD};
use crate::History;
use crate::scales::log;

const DAY_US: f64 = 86_400_000_000.0;
/// Beyond, the oldest tenth goes.
const MAX_ROWS: usize = 20_000;
/// Rows of this share of the history's length count half, but never younger ones than these days.
const HALF_LIFE_SHARE: f64 = 0.4;
const HALF_LIFE_DAYS: f64 = 30.0;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Examples {
    columns: Vec<Vec<f32>>,
    targets: Vec<f32>,
    times_us: Vec<i64>,
}

impl Examples {
    /// Adds the row of a step that starts at `at_us` and had this value.
    pub(super) fn push(&mut self, at_us: i64, frame: &Frame<'_>, step: usize, value: f64) {
        if self.columns.is_empty() {
            self.columns = vec![Vec::new(); COLUMNS];
        }
        if self.targets.len() >= MAX_ROWS {
            let spare = MAX_ROWS / 10;
            self.columns.iter_mut().for_each(|column| drop(column.drain(..spare)));
            self.targets.drain(..spare);
            self.times_us.drain(..spare);
        }
        let mut row = Vec::with_capacity(COLUMNS);
        frame.push_row(step, &mut row);
        for (column, cell) in self.columns.iter_mut().zip(row) {
            column.push(cell);
        }
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
        self.targets.push((log(value) - frame.base(step)) as f32);
        self.times_us.push(at_us);
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn columns(&self) -> &[Vec<f32>] {
        &self.columns
    }

    /// Least and greatest value of each column that tells of the load; the widest for one without values.
    pub(super) fn ranges(&self) -> Vec<(f32, f32)> {
        let range = |column: &Vec<f32>| {
            let seen = || column.iter().copied().filter(|cell| cell.is_finite());
            let (low, high) = (seen().reduce(f32::min), seen().reduce(f32::max));
            (low.unwrap_or(f32::MIN), high.unwrap_or(f32::MAX))
        };
        self.columns.get(OF_LOAD).unwrap_or_default().iter().map(range).collect()
    }

    pub(super) fn targets(&self) -> &[f32] {
        &self.targets
    }

    /// Newer rows count more.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "days of history")]
    pub(super) fn weights(&self, history: &History) -> Vec<f32> {
        let days = |us: i64| us as f64 / DAY_US;
        let length = days(history.end_us() - history.start_us());
        let half_life = (HALF_LIFE_SHARE * length).max(HALF_LIFE_DAYS);
        let weight = |at_us: &i64| 0.5_f64.powf(days(history.end_us() - at_us) / half_life) as f32;
        self.times_us.iter().map(weight).collect()
    }
}
