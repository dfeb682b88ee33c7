//! Settings of an engine.

use serde::{Deserialize, Serialize};

use crate::ModelError;

/// Settings of an engine; lengths of time in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Length of a step.
    pub step_us: i64,
    /// Steps of a forecast.
    pub horizon_steps: usize,
    /// Quantiles of a forecast, ascending, each in (0, 1).
    pub levels: Vec<f64>,
    /// No forecast before this much history.
    pub min_history_us: i64,
    /// What a model is fitted on at the most: 25,000 steps are 12 weeks of 5 minutes or nearly 3 years of hours.
    pub history_steps: usize,
    /// A model of this age is fitted anew.
    pub refit_after_us: i64,
    /// A model is fitted anew, and its forecasts are suspect, when the last day's loss is this many times that of the
    /// two weeks before; a simple trigger without an error bound.
    pub accuracy_factor: f64,
    /// A challenger replaces the champion when there is evidence that its loss is below this share of the champion's: when
    /// bets on its daily losses have paid 365 to one.
    pub promote_below: f64,
    /// Is MSTL with ETS, the field's benchmark, fitted and scored beside the others? It is never served, and a fit of it
    /// takes longer than those of all others together.
    pub with_benchmark: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        const HOUR_US: i64 = 3_600_000_000;
        Self {
            step_us: HOUR_US / 12,
            horizon_steps: 288,
            levels: vec![0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99],
            min_history_us: 7 * 24 * HOUR_US,
            history_steps: 25_000,
            refit_after_us: 6 * HOUR_US,
            accuracy_factor: 2.0,
            promote_below: 0.9,
            with_benchmark: false,
        }
    }
}

impl EngineConfig {
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let refuse = |setting, problem: &str| Err(ModelError::Setting { setting, problem: problem.to_owned() });
        if self.step_us < 1_000_000 || 86_400_000_000 % self.step_us != 0 {
            return refuse("step_us", "must divide a day and be a second or more");
        }
        if self.horizon_steps == 0 || self.horizon_steps > 100_000 {
            return refuse("horizon_steps", "must be 1 to 100000");
        }
        let ascending = self.levels.is_sorted_by(|a, b| a < b);
        if self.levels.is_empty() || !ascending || !self.levels.iter().all(|level| *level > 0.0 && *level < 1.0) {
            return refuse("levels", "must ascend within (0, 1)");
        }
        if self.min_history_us < 2 * 86_400_000_000 {
            return refuse("min_history_us", "must be two days or more");
        }
        if i64::try_from(self.history_steps)
            .map_or(true, |steps| steps.saturating_mul(self.step_us) < self.min_history_us)
        {
            return refuse("history_steps", "must hold min_history_us");
        }
        if self.refit_after_us < self.step_us {
            return refuse("refit_after_us", "must not be shorter than a step");
        }
        if !(self.accuracy_factor > 1.0 && self.promote_below > 0.0 && self.promote_below < 1.0) {
            return refuse("accuracy_factor", "must be above 1, and promote_below between 0 and 1");
        }
        Ok(())
    }
}
