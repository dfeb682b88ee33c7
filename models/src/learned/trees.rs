//! The trees, and how they correct the path of a ridge.

use serde::{Deserialize, Serialize};

use super::frame::{self, Frame};
use super::rows::{self, Row};
use super::{DAY_US, FAMILY};
use crate::ModelError;
use crate::boost::{Boosted, Matrix, Settings};
use crate::calibration::Centres;
use crate::scales::median;

/// Trees are grown anew after this part of the history's length.
const TRAININGS: i64 = 50;
const MIN_ROWS: usize = 500;
/// More rows bear more and larger trees: these from few rows, those from many; between, in proportion to their number.
const FEW: Growth = Growth { rows: 15_000.0, rounds: 90.0, leaves: 16.0 };
const MANY: Growth = Growth { rows: 35_000.0, rounds: 200.0, leaves: 31.0 };
const BINS: usize = 127;
/// The usual width is no less than this, on the log scale.
const MIN_WIDTH: f64 = 0.01;
/// Widths are no further from the usual one of a path than this factor: the trees see few rows at the edges.
const WIDTH_RANGE: f64 = 1.6;
/// So far outside of its range, as a part of it, a column makes a row unlike all that were seen.
const FAR_OUTSIDE: f64 = 0.5;
/// The levels that are fitted: the centre, and the width of the interval of 80 %.
const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];

/// How far trees grow from so many rows.
struct Growth {
    rows: f64,
    rounds: f64,
    leaves: f64,
}

/// Grown trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trees {
    model: Boosted,
    /// Of the columns that tell of the load, as the trees have seen them.
    ranges: Vec<(f32, f32)>,
    /// When they were grown: no row is younger.
    pub(crate) grown_us: i64,
    pub(crate) rows: usize,
    /// Whose rows there were.
    pub(crate) workloads: usize,
}

impl Trees {
    /// Are trees that were grown at `grown_us` old, with a history of this length?
    pub(crate) fn is_due(grown_us: i64, now_us: i64, length_us: i64) -> bool {
        now_us.saturating_sub(grown_us) >= (length_us / TRAININGS).max(DAY_US)
    }

    /// Trees of these rows of so many workloads, whose histories are as long as `length_us` and end at `now_us`.
    pub(crate) fn grow(rows: &[&Row], workloads: usize, now_us: i64, length_us: i64) -> Result<Self, ModelError> {
        if rows.len() < MIN_ROWS {
            let problem = format!("{} rows are too few to learn from", rows.len());
            return Err(ModelError::Fit { family: FAMILY, problem });
        }
        let (rounds, leaves) = growth(rows.len());
        let settings = Settings {
            rounds,
            leaves,
            learning_rate: 0.08,
            min_rows: 20,
            l2: 1.0,
            row_share: 0.8,
            feature_share: 0.8,
            seed: 1,
        };
        // What a workload is like tells nothing where there is but one.
        let columns = if workloads > 1 { frame::COLUMNS } else { frame::OF_ORIGIN };
        let columns = rows::columns(rows, columns);
        let targets: Vec<f32> = rows.iter().map(|row| row.target()).collect();
        let weights: Vec<f32> = rows.iter().map(|row| row.weight(now_us, length_us)).collect();
        let matrix = Matrix::try_new(&columns, BINS)?;
        let ranges = columns.get(frame::OF_LOAD).unwrap_or_default().iter().map(|column| range(column)).collect();
        let model = Boosted::fit(&matrix, &targets, Some(&weights), &LEVELS, &settings)?;
        Ok(Self { model, ranges, grown_us: now_us, rows: rows.len(), workloads })
    }

    /// The path of a frame; its widths are those of the interval of 80 %, relative to the usual one.
    pub(super) fn centres(&self, frame: &Frame<'_>, steps: usize) -> Centres {
        let mut out = [0.0_f32; LEVELS.len()];
        let (mut medians, mut widths) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
        for step in 0..steps {
            let (base, row) = frame.row(step);
            self.model.predict(&row, &mut out);
            out.sort_by(f32::total_cmp);
            let [low, middle, high] = out.map(f64::from);
            medians.push(base + trust(&row, &self.ranges) * middle);
            widths.push((high - low) / 2.0);
        }
        let usual = median(widths.clone()).max(MIN_WIDTH);
        // Their shape alone: how wide the interval is on the whole, residuals tell better than few rows do.
        widths.iter_mut().for_each(|width| *width = (*width / usual).clamp(1.0 / WIDTH_RANGE, WIDTH_RANGE));
        Centres { medians, widths }
    }

    pub(super) fn parameters(&self) -> serde_json::Value {
        serde_json::json!({
            "rows": self.rows, "trees": self.model.trees(), "levels": LEVELS, "workloads": self.workloads,
            "grown_us": self.grown_us,
        })
    }
}

/// Rounds, and leaves of a tree, for so many rows.
fn growth(rows: usize) -> (u32, usize) {
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    let share = ((rows as f64 - FEW.rows) / (MANY.rows - FEW.rows)).clamp(0.0, 1.0);
    let between = |few: f64, many: f64| (few + share * (many - few)).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the two, which are small")]
    let growth = (between(FEW.rounds, MANY.rounds) as u32, between(FEW.leaves, MANY.leaves) as usize);
    growth
}

/// Least and greatest value of a column; the widest for one without values.
fn range(column: &[f32]) -> (f32, f32) {
    let seen = || column.iter().copied().filter(|cell| cell.is_finite());
    let (low, high) = (seen().reduce(f32::min), seen().reduce(f32::max));
    (low.unwrap_or(f32::MIN), high.unwrap_or(f32::MAX))
}

/// How much of what the trees say is believed: nothing of a row that is far outside of what they have seen.
fn trust(row: &[f32], ranges: &[(f32, f32)]) -> f64 {
    let outside = |(cell, (low, high)): (&f32, &(f32, f32))| {
        let beyond = (cell - high).max(low - cell).max(0.0);
        f64::from(beyond / (high - low).max(1e-6))
    };
    let load = row.get(frame::OF_LOAD).unwrap_or_default();
    let furthest = load.iter().zip(ranges).map(outside).fold(0.0, f64::max);
    (1.0 - furthest / FAR_OUTSIDE).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_grow_more_and_larger_trees_up_to_a_limit() {
        assert_eq!(
            [0, 15_000, 25_000, 35_000, 1_000_000].map(growth),
            [(90, 16), (90, 16), (145, 24), (200, 31), (200, 31)]
        );
    }

    #[test]
    fn trees_are_not_believed_far_outside_of_what_they_saw() {
        let ranges = vec![(0.0, 2.0); frame::OF_LOAD.len()];
        let trust = |cell: f32| {
            let mut row = vec![1.0; frame::COLUMNS];
            row[frame::OF_LOAD.start] = cell;
            trust(&row, &ranges)
        };
        let cases = [(0.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0), (2.5, 0.5), (-0.5, 0.5), (3.0, 0.0), (-9.0, 0.0)];
        for (cell, expected) in cases {
            assert!((trust(cell) - expected).abs() < 1e-6, "{cell}: {}", trust(cell));
        }
    }
}
