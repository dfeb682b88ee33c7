//! Scores of forecasts against what came.

use serde::{Deserialize, Serialize};

/// The levels of the weighted quantile loss.
pub const DECILES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// The quantile of a forecast at a level, interpolated between the levels it has; the outermost beyond them.
#[must_use]
pub fn at_level(levels: &[f64], values: &[f32], level: f64) -> f64 {
    let above = levels.iter().position(|known| *known >= level);
    let value = |index: usize| values.get(index).copied().map_or(f64::NAN, f64::from);
    match above {
        None => value(levels.len().saturating_sub(1)),
        Some(0) => value(0),
        Some(above) => {
            let (Some(low), Some(high)) = (levels.get(above - 1), levels.get(above)) else { return f64::NAN };
            let part = (level - low) / (high - low);
            value(above - 1) + (value(above) - value(above - 1)) * part
        }
    }
}

/// Pinball loss of one quantile: Koenker and Bassett, 1978.
#[must_use]
pub fn pinball(level: f64, forecast: f64, actual: f64) -> f64 {
    let miss = actual - forecast;
    if miss >= 0.0 { level * miss } else { (level - 1.0) * miss }
}

/// Sums from which the scores follow; sums of parts add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Steps scored.
    pub steps: u64,
    /// Mean pinball loss over the deciles, summed.
    pub pinball: f64,
    /// |median - actual|, summed.
    pub abs_error: f64,
    /// Actuals, summed.
    pub actual: f64,
    /// Steps within [.1, .9].
    pub in_80: u64,
    /// Steps within [.025, .975].
    pub in_95: u64,
}

impl Sums {
    /// Adds one step of a forecast.
    pub fn add(&mut self, levels: &[f64], values: &[f32], actual: f64) {
        let quantile = |level| at_level(levels, values, level);
        let losses = DECILES.iter().map(|level| pinball(*level, quantile(*level), actual)).sum::<f64>();
        self.steps += 1;
        self.pinball += losses / 9.0;
        self.abs_error += (quantile(0.5) - actual).abs();
        self.actual += actual;
        self.in_80 += u64::from(quantile(0.1) <= actual && actual <= quantile(0.9));
        self.in_95 += u64::from(quantile(0.025) <= actual && actual <= quantile(0.975));
    }

    /// Adds the sums of another part.
    pub fn merge(&mut self, other: &Sums) {
        self.steps += other.steps;
        self.pinball += other.pinball;
        self.abs_error += other.abs_error;
        self.actual += other.actual;
        self.in_80 += other.in_80;
        self.in_95 += other.in_95;
    }

    /// Weighted quantile loss: twice the mean pinball loss over .1 to .9, divided by the sum of the actuals.
    #[must_use]
    pub fn wql(&self) -> f64 {
        2.0 * self.pinball / self.actual
    }

    /// Weighted absolute percentage error of the median.
    #[must_use]
    pub fn wape(&self) -> f64 {
        self.abs_error / self.actual
    }

    /// Mean absolute error of the median over a scale, as of [`seasonal_scale`]: Hyndman and Koehler, 2006.
    #[must_use]
    pub fn mase(&self, scale: f64) -> f64 {
        self.abs_error / self.count() / scale
    }

    /// Share of steps within [.1, .9].
    #[must_use]
    pub fn coverage_80(&self) -> f64 {
        count(self.in_80) / self.count()
    }

    /// Share of steps within [.025, .975].
    #[must_use]
    pub fn coverage_95(&self) -> f64 {
        count(self.in_95) / self.count()
    }

    fn count(&self) -> f64 {
        count(self.steps)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of steps")]
fn count(steps: u64) -> f64 {
    steps as f64
}

/// Mean absolute difference to the value a season before, over steps where both are known; NaN when there are none.
#[must_use]
pub fn seasonal_scale(values: &[f64], season_steps: usize) -> f64 {
    let differences: Vec<f64> = values
        .iter()
        .skip(season_steps)
        .zip(values)
        .map(|(now, before)| (now - before).abs())
        .filter(|difference| difference.is_finite())
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "counts of steps")]
    let n = differences.len() as f64;
    differences.iter().sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_a_case_worked_by_hand() {
        let levels = [0.1, 0.5, 0.9];
        let mut sums = Sums::default();
        sums.add(&levels, &[8.0, 10.0, 12.0], 11.0);
        sums.add(&levels, &[8.0, 10.0, 12.0], 13.0);
        // Deciles of both steps: 8, 8.5, 9, 9.5, 10, 10.5, 11, 11.5, 12.
        let first = (0.1 * 3.0 + 0.2 * 2.5 + 0.3 * 2.0 + 0.4 * 1.5 + 0.5 + 0.6 * 0.5 + 0.0 + 0.2 * 0.5 + 0.1) / 9.0;
        let second =
            (0.1 * 5.0 + 0.2 * 4.5 + 0.3 * 4.0 + 0.4 * 3.5 + 0.5 * 3.0 + 0.6 * 2.5 + 0.7 * 2.0 + 0.8 * 1.5 + 0.9) / 9.0;
        let expected = 2.0 * (first + second) / 24.0;
        assert!((sums.wql() - expected).abs() < 1e-12 * expected, "{} {expected}", sums.wql());
        assert!((sums.wape() - 4.0 / 24.0).abs() < 1e-12);
        assert!((sums.coverage_80() - 0.5).abs() < 1e-12);
        assert!((seasonal_scale(&[1.0, 2.0, 4.0, 8.0], 2) - 4.5).abs() < 1e-12);
        assert!((sums.mase(2.0) - 1.0).abs() < 1e-12);
    }
}
