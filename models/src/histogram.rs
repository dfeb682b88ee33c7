//! A histogram of numbers around zero: fine near zero, coarser further out, of a fixed size however much it has seen.
//! What is kept of it for long is packed.

use serde::{Deserialize, Serialize};

/// Bins on either side of the middle one.
const SIDE: usize = 64;
/// Below this size bins are even, above they grow with it.
const FINE: f64 = 0.01;
/// Bins for a factor of e: the outermost is at about 10.
const PER_E: f64 = 8.4;

/// Weights of numbers by their size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Empty until something is added.
    bins: Vec<f32>,
}

impl Histogram {
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

/// Counts to begin with for a weight of one.
const COUNTS: f32 = 64.0;

/// A histogram in little room: 16 bits a bin, from the first that has weight to the last. All fade at once, by what a
/// count is worth, so that a number that comes later counts for more (forward decay: Cormode and others, 2009).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Packed {
    first: u8,
    /// Counts for a weight of one; 0 as long as nothing was added.
    per_one: f32,
    counts: Vec<u16>,
}

impl Packed {
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Adds a number with a weight of one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
    pub(crate) fn add(&mut self, value: f64) {
        let bin = bin_of(value);
        if self.counts.is_empty() {
            (self.first, self.per_one) = (bin as u8, COUNTS);
        }
        let before = usize::from(self.first).saturating_sub(bin);
        if before > 0 {
            self.counts.splice(0..0, std::iter::repeat_n(0, before));
            self.first = bin as u8;
        }
        let at = bin - usize::from(self.first);
        if at >= self.counts.len() {
            self.counts.reserve_exact(at + 1 - self.counts.len());
            self.counts.resize(at + 1, 0);
        }
        loop {
            let more = self.per_one.round().clamp(1.0, f32::from(u16::MAX)) as u16;
            let Some(count) = self.counts.get_mut(at) else { return };
            if let Some(sum) = count.checked_add(more) {
                *count = sum;
                return;
            }
            self.per_one /= 2.0;
            self.counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
        }
    }

    /// Every weight shrinks to this share.
    pub(crate) fn fade(&mut self, share: f32) {
        self.per_one /= share;
    }

    pub(crate) fn unpacked(&self) -> Histogram {
        let mut bins = if self.is_empty() { Vec::new() } else { vec![0.0; 2 * SIDE + 1] };
        for (bin, count) in bins.iter_mut().skip(usize::from(self.first)).zip(&self.counts) {
            *bin = f32::from(*count) / self.per_one;
        }
        Histogram { bins }
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
    fn it_joins_and_never_breaks() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        for value in [f64::INFINITY, f64::NEG_INFINITY, 0.1, -0.1] {
            two.add(value, 1.0);
        }
        one.add_all(&two, 3.0, 0.5);
        assert!((one.total() - 2.0).abs() < 1e-6 && one.quantile(1.0).is_finite() && one.quantile(0.0).is_finite());
    }

    #[test]
    fn packed_it_holds_the_same_however_long_it_fades() {
        let (mut packed, mut plain) = (Packed::default(), Histogram::default());
        assert!(packed.is_empty() && packed.unpacked() == plain);
        for day in 0..3_000_i32 {
            packed.fade(0.99);
            plain.bins.iter_mut().for_each(|bin| *bin *= 0.99);
            for value in [f64::from(day % 21) / 10.0 - 1.0, f64::from(day * 7 % 13) / 50.0] {
                packed.add(value);
                plain.add(value, 1.0);
            }
        }
        let unpacked = packed.unpacked();
        assert!((unpacked.total() / plain.total() - 1.0).abs() < 0.01, "{} {}", unpacked.total(), plain.total());
        for level in [0.05, 0.5, 0.9] {
            assert!((unpacked.quantile(level) - plain.quantile(level)).abs() < 0.01, "{level}");
        }
        packed.add(f64::NEG_INFINITY);
        packed.add(f64::INFINITY);
        assert_eq!(packed.counts.len(), 2 * SIDE + 1);
        assert!(packed.unpacked().quantile(1.0).is_finite());
    }
}
