//! Draws that are the same in every version and on every machine, so that a seed names a model.

/// SplitMix64: Steele, Lea and Flood, 2014.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator of one round; rounds do not share their numbers.
    pub(crate) fn of_round(seed: u64, round: u32) -> Self {
        Self::seeded(Self::seeded(seed ^ (u64::from(round) << 32)).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Fills `drawn` with a share of `from`, at least one and in their order: Knuth's algorithm S (TAOCP, 3.4.2).
    pub(crate) fn draw<T: Copy>(&mut self, from: &[T], share: f64, drawn: &mut Vec<T>) {
        drawn.clear();
        let mut left = from.len() as u64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
        let mut wanted = ((share * left as f64).round() as u64).clamp(1.min(left), left);
        for item in from {
            // Both factors are below 2^32: the high half of the product is uniform over 0..left.
            if ((self.next() >> 32) * left) >> 32 < wanted {
                drawn.push(*item);
                wanted -= 1;
            }
            left -= 1;
        }
    }
}
