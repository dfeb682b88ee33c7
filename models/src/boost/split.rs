//! The best split of a leaf, found in its histograms.

use super::histogram::{Cells, Sums};
use super::tree::{MISSING, Rule};

/// Gains below this share of what the leaf has already are rounding: where all residuals have the same sign, no split
/// is better than another, and LightGBM takes whichever rounding favours.
const NOTHING: f64 = 1e-10;

/// What a split is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub(super) level: Level,
    pub(super) min_rows: u32,
    pub(super) l2: f64,
    /// Rows' worth of one unit of weight.
    pub(super) unit: f64,
}

/// The slopes of the pinball loss on both sides. Rounded to single precision, as in LightGBM, so that sums of them are
/// exact and near ties fall alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    below: f64,
    above: f64,
}

impl From<f64> for Level {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
    fn from(level: f64) -> Self {
        let above = level as f32;
        Self { below: f64::from(1.0 - above), above: f64::from(above) }
    }
}

/// A split and what it gains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<S> {
    pub(super) rule: Rule,
    pub(super) gain: f64,
    pub(super) left: S,
}

impl Judge {
    /// The gain of keeping rows together: the squared gradient over the weight (Chen and Guestrin, 2016, with a second
    /// derivative of one).
    fn score<S: Sums>(&self, sums: S) -> f64 {
        let (weight, above) = (sums.weight() as f64 * self.unit, sums.above() as f64 * self.unit);
        let gradient = (weight - above) * self.level.below - above * self.level.above;
        gradient * gradient / (weight + self.l2).max(f64::MIN_POSITIVE)
    }

    /// Can a leaf of so many rows be split?
    pub(super) fn splittable(&self, rows: u32) -> bool {
        rows / 2 >= self.min_rows
    }

    /// The best split of a leaf on a column of `known` bins, beside those for missing cells.
    pub(super) fn best<S: Sums>(&self, column: u16, cells: &Cells<S>, known: usize, all: S) -> Option<Candidate<S>> {
        let [known_cells @ .., missing] = cells;
        let known_cells = known_cells.get(..known)?;
        let mut search = Search { judge: self, all, at_least: self.score(all) * (1.0 + NOTHING), best: None };
        // From the highest bin down, with the missing on the left.
        let mut right = S::default();
        for (bin, cell) in (0..MISSING).zip(known_cells).skip(1).rev() {
            right += *cell;
            if cell.rows() > 0 && !search.offer(bin - 1, true, all - right) {
                break;
            }
        }
        if missing.rows() > 0 {
            // From the lowest bin up, with the missing on the right, at last alone.
            let mut left = S::default();
            for (bin, cell) in (0..MISSING).zip(known_cells) {
                left += *cell;
                if cell.rows() > 0 && !search.offer_missing_right(bin, left) {
                    break;
                }
            }
        }
        let (gain, bin, missing_left, left) = search.best?;
        let gain = gain - self.score(all);
        // Where no cell was missing, one that will be goes with the most rows.
        let missing_left = if missing.rows() > 0 { missing_left } else { left.rows() >= all.rows() - left.rows() };
        Some(Candidate { rule: Rule { column, bin, missing_left }, gain, left })
    }
}

/// The best split so far.
struct Search<'a, S> {
    judge: &'a Judge,
    all: S,
    at_least: f64,
    best: Option<(f64, u8, bool, S)>,
}

impl<S: Sums> Search<'_, S> {
    /// Weighs a split whose left side shrinks from offer to offer. False when no later one can do.
    fn offer(&mut self, bin: u8, missing_left: bool, left: S) -> bool {
        let right = self.all - left;
        if left.rows() < self.judge.min_rows {
            return false;
        }
        if right.rows() >= self.judge.min_rows {
            self.weigh(bin, missing_left, left, right);
        }
        true
    }

    /// As [`Search::offer`], of a left side that grows.
    fn offer_missing_right(&mut self, bin: u8, left: S) -> bool {
        let right = self.all - left;
        if right.rows() < self.judge.min_rows {
            return false;
        }
        if left.rows() >= self.judge.min_rows {
            self.weigh(bin, false, left, right);
        }
        true
    }

    fn weigh(&mut self, bin: u8, missing_left: bool, left: S, right: S) {
        let score = self.judge.score(left) + self.judge.score(right);
        if score > self.at_least {
            self.at_least = score;
            self.best = Some((score, bin, missing_left, left));
        }
    }
}
