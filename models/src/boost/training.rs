//! Boosting of one level: round by round a tree on the signs of the residuals.

use super::histogram::{Counts, Sums, WHOLE_WEIGHT, Weights};
use super::matrix::Matrix;
use super::random::Random;
use super::settings::Settings;
use super::split::Judge;
use super::tree::Tree;
use super::weighted::{quantile, weighted_quantile};
use super::{FAMILY, Forest, grow::Grower};
use crate::ModelError;

/// What all levels are fitted to.
pub(super) struct Training<'a> {
    matrix: &'a Matrix,
    target: &'a [f32],
    /// Of each row, with a mean of one over the rows that count; empty when those weigh the same.
    weights: Vec<f64>,
    /// The rows that count, ascending.
    rows: Vec<u32>,
    settings: &'a Settings,
}

impl<'a> Training<'a> {
    pub(super) fn try_new(
        matrix: &'a Matrix,
        target: &'a [f32],
        weights: Option<&[f32]>,
        settings: &'a Settings,
    ) -> Result<Self, ModelError> {
        let refuse = |problem: String| Err(ModelError::Fit { family: FAMILY, problem });
        if target.len() != matrix.rows() {
            return refuse(format!("{} targets for {} rows", target.len(), matrix.rows()));
        }
        if let Some(row) = target.iter().position(|value| !value.is_finite()) {
            return refuse(format!("the target of row {row} is not finite"));
        }
        let Some(weights) = weights else {
            let rows = (0..).take(target.len()).collect();
            return Ok(Self { matrix, target, weights: Vec::new(), rows, settings });
        };
        if weights.len() != matrix.rows() {
            return refuse(format!("{} weights for {} rows", weights.len(), matrix.rows()));
        }
        if let Some(row) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
            return refuse(format!("the weight of row {row} is not a finite number of 0 or more"));
        }
        let rows: Vec<u32> = (0..).zip(weights).filter(|(_, weight)| **weight > 0.0).map(|(row, _)| row).collect();
        let mut counted = weights.iter().filter(|weight| **weight > 0.0);
        let Some(first) = counted.next() else {
            return refuse("the weight of every row is 0: no row counts".to_owned());
        };
        let equal = counted.all(|weight| weight.total_cmp(first).is_eq());
        let mean = weights.iter().map(|weight| f64::from(*weight)).sum::<f64>() / rows.len() as f64;
        let relative = || weights.iter().map(|weight| f64::from(*weight) / mean).collect();
        Ok(Self { matrix, target, weights: if equal { Vec::new() } else { relative() }, rows, settings })
    }

    /// The trees of one level.
    pub(super) fn forest(&self, level: f64) -> Forest {
        if self.weights.is_empty() {
            return self.boost(level, 1.0, |is_above, _| Counts::of_row(is_above));
        }
        let per_unit = WHOLE_WEIGHT / self.rows.len() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 40 bits, and positive")]
        let units: Vec<u64> = self.weights.iter().map(|weight| (weight * per_unit).round() as u64).collect();
        let sums = |is_above, row: usize| Weights::of_row(is_above, units.get(row).copied().unwrap_or(0));
        self.boost(level, 1.0 / per_unit, sums)
    }

    fn boost<S: Sums>(&self, level: f64, unit: f64, sums_of: impl Fn(bool, usize) -> S) -> Forest {
        let Settings { rounds, leaves, min_rows, l2, row_share, feature_share, seed, .. } = *self.settings;
        let mut residuals: Vec<f64> = self.target.iter().map(|value| f64::from(*value)).collect();
        let mut leaf = LeafValues { training: self, level, values: Vec::new(), pairs: Vec::new() };
        let base = single(leaf.quantile(&self.rows, &residuals));
        residuals.iter_mut().for_each(|residual| *residual -= f64::from(base));

        let mut grower = Grower::new(self.matrix, Judge { level: level.into(), min_rows, l2, unit }, leaves);
        let all_columns: Vec<u16> = (0..).take(self.matrix.columns()).collect();
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        let (mut sums, mut trees) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let mut random = Random::of_round(seed, round);
            random.draw(&self.rows, row_share, &mut rows);
            random.draw(&all_columns, feature_share, &mut columns);
            sums.clear();
            sums.extend(residuals.iter().enumerate().map(|(row, residual)| sums_of(*residual > 0.0, row)));
            let (mut tree, ranges) = grower.grow(&mut rows, &sums, &columns);
            if ranges.len() < 2 {
                // Another draw may find a split; without draws no round will.
                if row_share < 1.0 || feature_share < 1.0 {
                    continue;
                }
                break;
            }
            let parts: Vec<&[u32]> = ranges.into_iter().filter_map(|range| rows.get(range)).collect();
            let values: Vec<f32> = parts.iter().map(|rows| leaf.step(rows, &residuals)).collect();
            tree.set_values(values.clone());
            subtract_by_leaf(&parts, &values, &mut residuals);
            if rows.len() < residuals.len() {
                self.subtract_elsewhere(&tree, &rows, &mut residuals);
            }
            trees.push(tree);
        }
        Forest { level, base, trees }
    }

    /// Subtracts what a tree says of the rows that it was not grown on.
    fn subtract_elsewhere(&self, tree: &Tree, grown_on: &[u32], residuals: &mut [f64]) {
        let mut elsewhere = vec![true; residuals.len()];
        for row in grown_on {
            if let Some(elsewhere) = elsewhere.get_mut(*row as usize) {
                *elsewhere = false;
            }
        }
        for (row, (residual, _)) in residuals.iter_mut().zip(elsewhere).enumerate().filter(|(_, (_, is))| *is) {
            *residual -= f64::from(tree.value(|column| self.matrix.column(column).get(row).copied()));
        }
    }
}

fn subtract_by_leaf(parts: &[&[u32]], values: &[f32], residuals: &mut [f64]) {
    for (rows, value) in parts.iter().zip(values) {
        for row in *rows {
            if let Some(residual) = residuals.get_mut(*row as usize) {
                *residual -= f64::from(*value);
            }
        }
    }
}

/// Fits the values of leaves; keeps its memory between them.
struct LeafValues<'a> {
    training: &'a Training<'a>,
    level: f64,
    values: Vec<f64>,
    pairs: Vec<(f64, f64)>,
}

impl LeafValues<'_> {
    /// What a leaf adds: the quantile of its residuals, of which a part is taken.
    fn step(&mut self, rows: &[u32], residuals: &[f64]) -> f32 {
        single(self.quantile(rows, residuals) * self.training.settings.learning_rate)
    }

    fn quantile(&mut self, rows: &[u32], residuals: &[f64]) -> f64 {
        let weights = &self.training.weights;
        if weights.is_empty() {
            self.values.clear();
            self.values.extend(rows.iter().filter_map(|row| residuals.get(*row as usize)));
            return quantile(&mut self.values, self.level);
        }
        let pair = |row: &u32| Some((*residuals.get(*row as usize)?, *weights.get(*row as usize)?));
        self.pairs.clear();
        self.pairs.extend(rows.iter().filter_map(pair));
        weighted_quantile(&mut self.pairs, self.level)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "features and targets are single precision")]
fn single(value: f64) -> f32 {
    value as f32
}
