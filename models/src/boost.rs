//! Gradient-boosted trees for quantiles: the pinball loss of several levels over one binned matrix.
//!
//! The algorithm is that of LightGBM's objective `quantile` (Ke et al., 2017), on one thread: cells are sorted into at
//! most 255 bins a column; a tree grows leaf by leaf, at the split that gains most, found in histograms of which the
//! larger sibling's is the parent's minus the smaller one's; and each leaf is given the quantile of its rows'
//! residuals, since the gradient of the pinball loss tells a direction and no distance. That gradient has two values
//! only, so histograms count rows in integers: sums are exact whatever their order, and the same rows, settings and
//! seed give the same model on every machine.
//!
//! A missing cell (NaN) goes where it helped most in training, and where no cell was missing, to the side with more
//! rows. Trees do not extrapolate: the target should be relative to something that follows the level of the series.
//! Rows may be in any order, that of time included. Quantiles are fitted apart and may cross: sort what is shown.
//!
//! Without weights the trees are those of LightGBM wherever the bins are the same. On purpose otherwise: a leaf whose
//! residuals all have the same sign is not split by rounding, 0 has no bin of its own, rows of a leaf are counted and
//! not guessed from their weight, and a weighted quantile is interpolated.

mod edges;
mod grow;
mod histogram;
mod matrix;
pub(crate) mod random;
mod settings;
mod split;
mod training;
mod tree;
mod weighted;

use serde::{Deserialize, Serialize};

pub use matrix::Matrix;
pub use settings::Settings;

use crate::ModelError;
use edges::Edges;
use training::Training;
use tree::Tree;

const FAMILY: &str = "boosted-quantiles";

/// Fitted trees, of one or more quantile levels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boosted {
    edges: Vec<Edges>,
    forests: Vec<Forest>,
}

/// The trees of one level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Forest {
    level: f64,
    base: f32,
    trees: Vec<Tree>,
}

impl Boosted {
    /// Fits each of `levels`, each in (0, 1), to `target`, one finite value for each row of the matrix. `weights` are
    /// zero or positive and count relative to each other: all the same is as none, and a row of weight 0 is left out.
    /// What is fitted to a level does not depend on which others are asked for.
    ///
    /// # Errors
    /// When a setting or a level is out of range, the target or the weights do not match the matrix's rows or are not
    /// finite, a weight is negative, or none is positive.
    pub fn fit(
        matrix: &Matrix,
        target: &[f32],
        weights: Option<&[f32]>,
        levels: &[f64],
        settings: &Settings,
    ) -> Result<Self, ModelError> {
        settings.check()?;
        if levels.is_empty() || !levels.iter().all(|level| *level > 0.0 && *level < 1.0) {
            let problem = format!("must be one or more within (0, 1), not {levels:?}");
            return Err(ModelError::Setting { setting: "levels", problem });
        }
        let training = Training::try_new(matrix, target, weights, settings)?;
        let forests = levels.iter().map(|level| training.forest(*level)).collect();
        Ok(Self { edges: matrix.edges().to_vec(), forests })
    }

    /// The levels, in the order of [`Boosted::predict`].
    pub fn levels(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.forests.iter().map(|forest| forest.level)
    }

    /// How many columns a row has.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.edges.len()
    }

    /// How many trees there are, of all levels.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.forests.iter().map(|forest| forest.trees.len()).sum()
    }

    /// Writes one value a level, not sorted. `row` has a cell for each column, NaN where it is missing; cells that a
    /// shorter row does not have are missing.
    pub fn predict(&self, row: &[f32], out: &mut [f32]) {
        let cells = row.iter().copied().chain(std::iter::repeat(f32::NAN));
        let bins: Vec<u8> = self.edges.iter().zip(cells).map(|(edges, cell)| edges.bin(cell)).collect();
        for (forest, out) in self.forests.iter().zip(out) {
            let value = |tree: &Tree| f64::from(tree.value(|column| bins.get(usize::from(column)).copied()));
            *out = forest.after(forest.trees.iter().map(value).sum());
        }
    }

    /// The values of many rows, given by column as to [`Matrix::try_new`]: row after row, one value a level.
    ///
    /// # Errors
    /// When the columns are not as many as those fitted or differ in length.
    pub fn predict_all<C: AsRef<[f32]>>(&self, columns: &[C]) -> Result<Vec<f32>, ModelError> {
        if columns.len() != self.columns() {
            let problem = format!("{} columns do not fit a model of {}", columns.len(), self.columns());
            return Err(ModelError::Fit { family: FAMILY, problem });
        }
        let rows = matrix::rows(columns)?;
        let bin_all = |(edges, cells): (&Edges, &C)| cells.as_ref().iter().map(|cell| edges.bin(*cell)).collect();
        let bins: Vec<Vec<u8>> = self.edges.iter().zip(columns).map(bin_all).collect();
        let mut values = vec![0.0; rows * self.forests.len()];
        for (at, forest) in self.forests.iter().enumerate() {
            let mut steps = vec![0.0; rows];
            // Tree by tree, so that a tree stays in the processor's cache.
            for tree in &forest.trees {
                for (row, step) in steps.iter_mut().enumerate() {
                    *step += f64::from(tree.value(|column| bins.get(usize::from(column))?.get(row).copied()));
                }
            }
            for (out, step) in values.iter_mut().skip(at).step_by(self.forests.len()).zip(steps) {
                *out = forest.after(step);
            }
        }
        Ok(values)
    }
}

impl Forest {
    /// The value that all trees' steps together lead to.
    #[expect(clippy::cast_possible_truncation, reason = "features and targets are single precision")]
    fn after(&self, steps: f64) -> f32 {
        (f64::from(self.base) + steps) as f32
    }
}

#[cfg(test)]
mod tests;
