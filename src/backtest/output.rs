//! What a backtest has found, as a table for people and as JSON for programs.

use std::fmt;

use serde::Serialize;

use crate::scoreboard::Row;

/// How well one model forecast.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ModelRow {
    /// Its name.
    pub(super) model: String,
    /// Twice the mean pinball loss over the quantiles .1 to .9, divided by the sum of the actuals.
    pub(super) wql: Option<f64>,
    /// The same within event windows.
    pub(super) event_wql: Option<f64>,
    /// The sum of the median's absolute errors, divided by the sum of the actuals.
    pub(super) wape: Option<f64>,
    /// The same within event windows.
    pub(super) event_wape: Option<f64>,
    /// The median's mean absolute error, divided by that of the day before on the history.
    pub(super) mase: Option<f64>,
    /// Share of the actuals between the quantiles .1 and .9.
    pub(super) coverage_80: Option<f64>,
    /// Share of the actuals between the quantiles .025 and .975.
    pub(super) coverage_95: Option<f64>,
    /// As `coverage_80`, within event windows.
    pub(super) event_coverage_80: Option<f64>,
    /// As `coverage_95`, within event windows.
    pub(super) event_coverage_95: Option<f64>,
}

impl ModelRow {
    /// The scores in the order of [`MODEL_COLUMNS`].
    pub(super) fn scores(&self) -> [Option<f64>; 9] {
        [
            self.wql,
            self.event_wql,
            self.wape,
            self.event_wape,
            self.mase,
            self.coverage_80,
            self.coverage_95,
            self.event_coverage_80,
            self.event_coverage_95,
        ]
    }
}

/// Headings of a model's scores.
pub(super) const MODEL_COLUMNS: [&str; 9] =
    ["wQL", "event wQL", "WAPE", "event WAPE", "MASE", "cover 80", "cover 95", "event c80", "event c95"];

/// Everything a backtest has found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Findings {
    /// The scoreboard.
    pub(super) policies: Vec<Row>,
    /// The forecasts' scores.
    pub(super) models: Vec<ModelRow>,
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
            for value in row.scores() {
                write!(f, "  {:>10}", score(value))?;
            }
        }
        Ok(())
    }
}
