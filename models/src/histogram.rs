//! A histogram of numbers around zero: fine near zero, coarser further out, of a fixed size however much it has seen.

use serde::{Deserialize, Serialize};

/// Bins on either side of the middle one.
const SIDE: usize = 64;
/// Below this size bins are even, above they grow with it.
const FINE: f64 = 0.01;
/// Bins for a factor of e: the outermost is at about 10.
const PER_E: f64 = 8.4;

/// Weights of numbers by their size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Histogram {
    /// Empty until something is added.
    bins: Vec<f32>,
}

impl Histogram {
    pub(crate) fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    #[expect(clippy::cast_possible_truncation, reason = "weights of residuals")]
    pub(crate) fn add(&mut self, value: f64, weight: f64) {
        if self.bins.is_empty() {
            self.bins = vec![0.0; 2 * SIDE + 1];
        }
        if let Some(bin) = self.bins.get_mut(bin_of(value)) {
            *bin += weight as f32;
        }
    }

    /// Adds all of another, each number times `times`, each weight times `weight`.
    pub(crate) fn add_all(&mut self, other: &Self, times: f64, weight: f64) {
        for (bin, of) in other.bins.iter().enumerate().filter(|(_, of)| **of > 0.0) {
            self.add(value_at(position(bin)) * times, f64::from(*of) * weight);
        }
    }

    /// Every weight shrinks to this share.
    pub(crate) fn fade(&mut self, share: f32) {
        self.bins.iter_mut().for_each(|bin| *bin *= share);
    }

    pub(crate) fn total(&self) -> f64 {
        self.bins.iter().copied().map(f64::from).sum()
    }

    /// The quantile, interpolated within its bin; 0 for none.
    pub(crate) fn quantile(&self, level: f64) -> f64 {
        let wanted = level.clamp(0.0, 1.0) * self.total();
        let mut below = 0.0;
        let mut last = None;
        for (bin, weight) in self.bins.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            let weight = f64::from(*weight);
            if below + weight >= wanted {
                return value_at(position(bin) - 0.5 + (wanted - below) / weight);
            }
            below += weight;
            last = Some(bin);
        }
        last.map_or(0.0, |bin| value_at(position(bin) + 0.5))
    }

    /// The median of how far the numbers are from zero.
    pub(crate) fn median_of_absolutes(&self) -> f64 {
        let mut folded = Self::default();
        for (bin, weight) in self.bins.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            folded.add(value_at(position(bin)).abs(), f64::from(*weight));
        }
        folded.quantile(0.5)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "within bins")]
fn bin_of(value: f64) -> usize {
    let side = SIDE as f64;
    (side + ((value / FINE).asinh() * PER_E).round().clamp(-side, side)) as usize
}

/// Bins from the middle one.
#[expect(clippy::cast_precision_loss, reason = "a few bins")]
fn position(bin: usize) -> f64 {
    bin as f64 - SIDE as f64
}

fn value_at(position: f64) -> f64 {
    FINE * (position / PER_E).sinh()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_those_of_the_numbers() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.total()), (0.0, 0.0));
        let values: Vec<f64> = (0..2_001).map(|k| f64::from(k) / 1_000.0 - 1.0).collect();
        values.iter().for_each(|value| histogram.add(*value, 2.0));
        for level in [0.025, 0.1, 0.5, 0.75, 0.99] {
            let expected = 2.0 * level - 1.0;
            let found = histogram.quantile(level);
            assert!((found - expected).abs() < 0.03, "{level}: {found}");
        }
        assert!((histogram.median_of_absolutes() - 0.5).abs() < 0.03);
        assert!((histogram.total() - 4_002.0).abs() < 1e-6);
    }

    #[test]
    fn it_fades_joins_and_never_breaks() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        for value in [f64::INFINITY, f64::NEG_INFINITY, 0.1, -0.1] {
            two.add(value, 1.0);
        }
        one.add_all(&two, 3.0, 0.5);
        assert!((one.total() - 2.0).abs() < 1e-6 && one.quantile(1.0).is_finite() && one.quantile(0.0).is_finite());
        one.fade(0.5);
        assert!((one.total() - 1.0).abs() < 1e-6);
    }
}
