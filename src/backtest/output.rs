//! What a backtest has found, as a table for people and as JSON for programs.

use std::fmt;

use headroom_forecaster::backtest::ModelScores;
use serde::Serialize;

use crate::scoreboard::Row;

/// A model's scores in the order of [`MODEL_COLUMNS`].
pub(super) fn scores_of(row: &ModelScores) -> [Option<f64>; 12] {
    [
        row.wql,
        row.event_wql,
        row.wape,
        row.event_wape,
        row.mase,
        row.coverage_80,
        row.coverage_95,
        row.event_coverage_80,
        row.event_coverage_95,
        row.peak_error,
        row.spike_recall,
        row.spike_precision,
    ]
}

/// Headings of a model's scores.
pub(super) const MODEL_COLUMNS: [&str; 12] = [
    "wQL",
    "event wQL",
    "WAPE",
    "event WAPE",
    "MASE",
    "cover 80",
    "cover 95",
    "event c80",
    "event c95",
    "peak error",
    "recall",
    "precision",
];

/// Everything a backtest has found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Findings {
    /// The scoreboard.
    pub(super) policies: Vec<Row>,
    /// The forecasts' scores.
    pub(super) models: Vec<ModelScores>,
    /// What was measured, and how.
    #[serde(skip)]
    pub(super) premises: Vec<String>,
}

/// A score with three digits, or a dash.
pub(super) fn score(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for premise in &self.premises {
            writeln!(f, "{premise}")?;
        }
        writeln!(f)?;
        crate::scoreboard::write_rows(f, &self.policies)?;
        let width = self.models.iter().map(|row| row.model.chars().count()).max().unwrap_or(0).max("model".len());
        write!(f, "\n{:width$}", "model")?;
        for column in MODEL_COLUMNS {
            write!(f, "  {column:>10}")?;
        }
        for row in &self.models {
            write!(f, "\n{:width$}", row.model)?;
            for value in scores_of(row) {
                write!(f, "  {:>10}", score(value))?;
            }
        }
        Ok(())
    }
}
