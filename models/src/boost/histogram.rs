//! Sums over the rows of a leaf for each bin of each column, in integers.
//!
//! The gradient of the pinball loss has two values, so a row tells only whether its residual is above zero, and its
//! weight. Integer sums do not depend on their order, and a sibling's sums by subtraction are exact.

use std::ops::{AddAssign, Sub};

/// What is summed over rows.
pub(super) trait Sums: Copy + Default + AddAssign + Sub<Output = Self> {
    /// How many rows.
    fn rows(self) -> u32;
    /// Their weight, in the units of the fit.
    fn weight(self) -> u64;
    /// The weight of those with a residual above zero, in the same units.
    fn above(self) -> u64;
}

/// Sums where every row weighs the same: rows in the high half, those above in the low one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts(u64);

impl Counts {
    pub(super) fn of_row(is_above: bool) -> Self {
        Self((1 << 32) | u64::from(is_above))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half holds 32 bits")]
impl Sums for Counts {
    fn rows(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn weight(self) -> u64 {
        self.0 >> 32
    }

    fn above(self) -> u64 {
        u64::from(self.0 as u32)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

/// Sums with weights: rows in the high 24 bits and their weight in the low 40, then the weight above.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weights(u64, u64);

/// What the weights of all rows sum up to, nearly: rounding every row up stays within 40 bits.
pub(super) const WHOLE_WEIGHT: f64 = ((1_u64 << 40) - (1 << 25)) as f64;

impl Weights {
    /// `weight` is below 2^40, as is the sum over all rows.
    pub(super) fn of_row(is_above: bool, weight: u64) -> Self {
        Self((1 << 40) | weight, if is_above { weight } else { 0 })
    }
}

impl Sums for Weights {
    fn rows(self) -> u32 {
        (self.0 >> 40) as u32
    }

    fn weight(self) -> u64 {
        self.0 & ((1 << 40) - 1)
    }

    fn above(self) -> u64 {
        self.1
    }
}

impl AddAssign for Weights {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
        self.1 = self.1.wrapping_add(other.1);
    }
}

impl Sub for Weights {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0), self.1.wrapping_sub(other.1))
    }
}

/// The sums of each bin of one column; those of missing cells stand last.
pub(super) type Cells<S> = [S; 256];

/// Adds rows, in ascending order, to the cells of one column; `sums` has one of each row.
#[expect(clippy::indexing_slicing, reason = "a byte is within 256 cells")]
pub(super) fn add_rows<S: Sums>(cells: &mut Cells<S>, bins: &[u8], rows: &[u32], sums: &[S]) {
    if let Some(bins) = unbroken(bins, rows) {
        for (bin, sums) in bins.iter().zip(sums) {
            cells[usize::from(*bin)] += *sums;
        }
        return;
    }
    for (row, sums) in rows.iter().zip(sums) {
        let Some(bin) = bins.get(*row as usize) else { continue };
        cells[usize::from(*bin)] += *sums;
    }
}

/// The bins of rows of which none is left out between the first and the last.
fn unbroken<'a>(bins: &'a [u8], rows: &[u32]) -> Option<&'a [u8]> {
    let (first, last) = (*rows.first()? as usize, *rows.last()? as usize);
    if last - first + 1 == rows.len() { bins.get(first..=last) } else { None }
}
