//! A quantile sketch whose states merge exactly: DDSketch (Masson, Rim and Lee, VLDB 2019) with the cubic mapping of its
//! reference implementation, which needs no logarithm.
//!
//! A value is counted in a bin whose bounds are within 1 % of each other's middle, so every quantile is within 1 % of
//! the value at its rank. The bytes of a sketch follow from the counts alone: merging in any order gives the same bytes.

/// Relative error of every quantile of values between [`SMALLEST`] and [`LARGEST`] in size.
pub const RELATIVE_ERROR: f64 = 0.01;
/// Values nearer to zero count as zero.
pub const SMALLEST: f64 = 1e-9;
/// Values further from zero count as this.
pub const LARGEST: f64 = 1e18;

/// Up to this many values are kept as a list of their bins.
const LISTED: usize = 64;
/// Room that is left beside the outermost bin.
const ROOM: i32 = 16;
/// The cubic approximation of log2 on [1, 2), from the reference implementation.
const CUBIC: [f64; 3] = [6.0 / 35.0, -3.0 / 5.0, 10.0 / 7.0];

/// Finds bins. Bin 0 is zero; positive values have positive bins, negative ones the same bins below zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    bins_per_octave: f64,
    first: i32,
}

/// Counts by bin.
#[derive(Clone, Debug)]
pub(crate) enum Sketch {
    Listed(Vec<i16>),
    /// `counts[k]` belongs to bin `low + k`.
    Dense {
        low: i32,
        counts: Vec<u32>,
    },
}

/// Bytes that are no sketch.
#[derive(Debug, thiserror::Error)]
#[error("a quantile sketch is damaged")]
pub(crate) struct Damaged;

impl Mapping {
    pub(crate) fn new() -> Self {
        let gamma = (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR);
        // The steepest part of the cubic decides how fine the bins must be: its slope is 10/7 at 1.
        let bins_per_octave = 7.0 / (10.0 * gamma.ln());
        let mapping = Self { bins_per_octave, first: 0 };
        Self { first: mapping.index(SMALLEST) - 1, ..mapping }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a few thousand bins")]
    fn index(&self, size: f64) -> i32 {
        self.position(size).floor() as i32
    }

    /// The bin of a value; none for NaN.
    pub(crate) fn bin(&self, value: f64) -> Option<i16> {
        let size = value.abs();
        if size < SMALLEST {
            return Some(0);
        }
        if size.is_nan() {
            return None;
        }
        let bin = self.index(size.min(LARGEST)) - self.first;
        let bin = i16::try_from(bin).unwrap_or(i16::MAX);
        Some(if value < 0.0 { -bin } else { bin })
    }

    /// The value that stands for a bin: the harmonic middle of its bounds.
    pub(crate) fn value(&self, bin: i16) -> f64 {
        if bin == 0 {
            return 0.0;
        }
        let position = f64::from(i32::from(bin).abs() + self.first);
        let (low, high) = (self.inverse(position), self.inverse(position + 1.0));
        let middle = 2.0 * low * high / (low + high);
        if bin < 0 { -middle } else { middle }
    }

    fn position(&self, value: f64) -> f64 {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32 - 1_023;
        let part = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000) - 1.0;
        (f64::from(exponent) + cubic(part)) * self.bins_per_octave
    }

    fn inverse(&self, position: f64) -> f64 {
        let octaves = position / self.bins_per_octave;
        let (mut low, mut high) = (0.0, 1.0);
        // Halved to the last bit of a double.
        for _ in 0..53 {
            let middle = 0.5 * (low + high);
            if cubic(middle) < octaves - octaves.floor() { low = middle } else { high = middle }
        }
        (1.0 + low) * octaves.floor().exp2()
    }
}

fn cubic(part: f64) -> f64 {
    let [third, second, first] = CUBIC;
    ((third * part + second) * part + first) * part
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Sketch {
    /// Counts one value.
    pub(crate) fn add(&mut self, bin: i16) {
        if let Self::Listed(bins) = self
            && bins.len() < LISTED
        {
            bins.push(bin);
            return;
        }
        self.add_many(bin, 1);
    }

    /// Counts what another sketch has counted.
    pub(crate) fn merge(&mut self, encoded: &[u8]) -> Result<(), Damaged> {
        for counted in Decoder::new(encoded) {
            let (bin, count) = counted?;
            self.add_many(bin, count);
        }
        Ok(())
    }

    fn add_many(&mut self, bin: i16, count: u32) {
        if let Self::Listed(bins) = self {
            if bins.len() + usize::try_from(count).unwrap_or(usize::MAX) <= LISTED {
                bins.extend(std::iter::repeat_n(bin, count as usize));
                return;
            }
            let bins = std::mem::take(bins);
            *self = Self::Dense { low: i32::from(bin), counts: Vec::new() };
            bins.into_iter().for_each(|bin| self.add_many(bin, 1));
        }
        let Self::Dense { low, counts } = self else { return };
        let mut at = i32::from(bin) - *low;
        if at < 0 {
            let grown = at.unsigned_abs() as usize + ROOM as usize;
            counts.splice(0..0, std::iter::repeat_n(0, grown));
            *low = i32::from(bin) - ROOM;
            at = ROOM;
        }
        let at = at.unsigned_abs() as usize;
        if at >= counts.len() {
            counts.resize(at + ROOM as usize, 0);
        }
        if let Some(counted) = counts.get_mut(at) {
            *counted = counted.saturating_add(count);
        }
    }

    /// Bins in order with their counts, each as the distance from the bin before, in variable-length integers.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut before = 0;
        let mut put = |bin: i32, count: u32| {
            let distance = bin - before;
            before = bin;
            put_varint(out, ((distance << 1) ^ (distance >> 31)).cast_unsigned());
            put_varint(out, count);
        };
        match self {
            Self::Listed(bins) => {
                let mut bins = bins.clone();
                bins.sort_unstable();
                for same in bins.chunk_by(|a, b| a == b) {
                    if let Some(bin) = same.first() {
                        put(i32::from(*bin), u32::try_from(same.len()).unwrap_or(u32::MAX));
                    }
                }
            }
            Self::Dense { low, counts } => {
                (*low..).zip(counts).filter(|(_, count)| **count > 0).for_each(|(bin, count)| put(bin, *count));
            }
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Listed(bins) => bins.capacity() * size_of::<i16>(),
            Self::Dense { counts, .. } => counts.capacity() * size_of::<u32>(),
        }
    }
}

/// The value at the rank of a quantile, within [`RELATIVE_ERROR`]; none when nothing was counted.
pub(crate) fn quantile(mapping: &Mapping, encoded: &[u8], level: f64) -> Result<Option<f64>, Damaged> {
    let mut total = 0_u64;
    for counted in Decoder::new(encoded) {
        total += u64::from(counted?.1);
    }
    if total == 0 {
        return Ok(None);
    }
    #[expect(clippy::cast_precision_loss, reason = "ranks below 2^53")]
    let rank = level.clamp(0.0, 1.0) * (total - 1) as f64;
    let (mut passed, mut last) = (0_u64, 0);
    for counted in Decoder::new(encoded) {
        let (bin, count) = counted?;
        (passed, last) = (passed + u64::from(count), bin);
        #[expect(clippy::cast_precision_loss, reason = "ranks below 2^53")]
        if passed as f64 > rank {
            break;
        }
    }
    Ok(Some(mapping.value(last)))
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

struct Decoder<'a> {
    bytes: std::slice::Iter<'a, u8>,
    before: i32,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter(), before: 0 }
    }

    fn varint(&mut self) -> Result<u32, Damaged> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = *self.bytes.next().ok_or(Damaged)?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<(i16, u32), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.len() == 0 {
            return None;
        }
        let counted = self.varint().and_then(|folded| {
            let distance = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
            self.before = self.before.checked_add(distance).ok_or(Damaged)?;
            Ok((i16::try_from(self.before).map_err(|_| Damaged)?, self.varint()?))
        });
        if counted.is_err() {
            self.bytes = [].iter();
        }
        Some(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    fn sketch_of(values: &[f64]) -> Vec<u8> {
        let mapping = Mapping::new();
        let mut sketch = Sketch::default();
        values.iter().filter_map(|value| mapping.bin(*value)).for_each(|bin| sketch.add(bin));
        let mut bytes = Vec::new();
        sketch.encode(&mut bytes);
        bytes
    }

    fn series(random: &mut SmallRng) -> Vec<(&'static str, Vec<f64>)> {
        let mut make = |value: fn(f64, f64) -> f64| -> Vec<f64> {
            (0..20_000).map(|_| value(random.random_range(1e-12..1.0), random.random_range(0.0..1.0))).collect()
        };
        vec![
            ("uniform", make(|a, _| a * 1_000.0)),
            ("exponential", make(|a, _| -a.ln())),
            ("pareto", make(|a, _| a.powf(-1.2))),
            ("both signs", make(|a, b| if b < 0.4 { -a } else { a * 50.0 })),
            ("many zeros", make(|a, b| if b < 0.9 { 0.0 } else { a })),
            ("eighteen decades", make(|a, _| 10_f64.powf(a * 18.0 - 6.0))),
        ]
    }

    #[test]
    fn quantiles_are_within_the_stated_error_of_exact_ones() {
        let seed = 11;
        let mut random = SmallRng::seed_from_u64(seed);
        for (name, mut values) in series(&mut random) {
            let bytes = sketch_of(&values);
            values.sort_by(f64::total_cmp);
            for percent in 0..=100_u32 {
                let level = f64::from(percent) / 100.0;
                let exact = values[usize::try_from(percent).expect("small") * (values.len() - 1) / 100];
                let found = quantile(&Mapping::new(), &bytes, level).expect("sound").expect("counted");
                let error = (found - exact).abs();
                assert!(
                    error <= RELATIVE_ERROR * 1.000_001 * exact.abs() + SMALLEST,
                    "{name} p{percent}: {found} for {exact}, seed {seed}"
                );
            }
        }
    }

    #[test]
    fn any_order_of_merging_gives_the_same_bytes() {
        let mut random = SmallRng::seed_from_u64(12);
        for (name, mut values) in series(&mut random) {
            let whole = sketch_of(&values);
            for parts in [1, 7, 300, 15_000] {
                values.shuffle(&mut random);
                let mut merged = Sketch::default();
                for part in values.chunks(parts) {
                    merged.merge(&sketch_of(part)).expect("sound");
                }
                let mut bytes = Vec::new();
                merged.encode(&mut bytes);
                assert_eq!(bytes, whole, "{name} in parts of {parts}");
            }
        }
    }

    #[test]
    fn extremes_and_damage() {
        let mapping = Mapping::new();
        assert_eq!(mapping.bin(f64::NAN), None);
        assert_eq!(mapping.bin(0.0), Some(0));
        assert_eq!(mapping.bin(f64::INFINITY), mapping.bin(LARGEST));
        assert_eq!(mapping.bin(f64::NEG_INFINITY), mapping.bin(-LARGEST));
        assert!(mapping.bin(SMALLEST).expect("a bin") > 0);
        assert_eq!(quantile(&mapping, &[], 0.5).expect("sound"), None);
        let bytes = sketch_of(&[1.0, 2.0, 1e6]);
        assert!(quantile(&mapping, &bytes[..bytes.len() - 1], 0.5).is_err());
        assert!(Sketch::default().merge(&[0xff; 9]).is_err());
    }
}
