//! How trees are fitted.

use serde::{Deserialize, Serialize};

use crate::ModelError;

/// How trees are fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Trees of a level, 1 to 10000; fewer when no split gains any more.
    pub rounds: u32,
    /// Leaves of a tree at the most, 2 to 1024. A fit keeps a histogram of 2 KB (4 KB with weights) for each leaf and
    /// column.
    pub leaves: usize,
    /// What is taken of each tree, above 0 and up to 1.
    pub learning_rate: f64,
    /// Rows of a leaf at the least, 1 or more.
    pub min_rows: u32,
    /// Rows' worth of doubt in each side of a split, 0 or more: it makes splits off few rows gain less. Leaf values
    /// are not shrunk.
    pub l2: f64,
    /// Share of the rows that a tree is grown on, above 0 and up to 1.
    pub row_share: f64,
    /// Share of the columns that a tree may split on, above 0 and up to 1.
    pub feature_share: f64,
    /// Of the draws of rows and columns, which all levels share.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rounds: 300,
            leaves: 31,
            learning_rate: 0.05,
            min_rows: 20,
            l2: 0.0,
            row_share: 1.0,
            feature_share: 1.0,
            seed: 0,
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), ModelError> {
        let refuse = |setting, problem: &str| Err(ModelError::Setting { setting, problem: problem.to_owned() });
        let share = |value: f64| value > 0.0 && value <= 1.0;
        if !(1..=10_000).contains(&self.rounds) {
            return refuse("rounds", "must be 1 to 10000");
        }
        if !(2..=1024).contains(&self.leaves) {
            return refuse("leaves", "must be 2 to 1024");
        }
        if !share(self.learning_rate) {
            return refuse("learning_rate", "must be above 0 and up to 1");
        }
        if self.min_rows == 0 {
            return refuse("min_rows", "must be 1 or more");
        }
        if !(self.l2 >= 0.0 && self.l2.is_finite()) {
            return refuse("l2", "must be 0 or more");
        }
        if !share(self.row_share) {
            return refuse("row_share", "must be above 0 and up to 1");
        }
        if !share(self.feature_share) {
            return refuse("feature_share", "must be above 0 and up to 1");
        }
        Ok(())
    }
}
