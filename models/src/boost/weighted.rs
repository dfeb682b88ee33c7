//! Quantiles of samples, plain and weighted.

/// The quantile of values in any order, interpolated between neighbours (type 7 of Hyndman and Fan, 1996); 0 for none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index between 0 and the length")]
pub(super) fn quantile(values: &mut [f64], level: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let position = level * last as f64;
    let below = (position.floor() as usize).min(last);
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    low + (high - low) * (position - below as f64)
}

/// The quantile of (value, weight) pairs, which it sorts. With equal weights the same as [`quantile`]; a value's pull is
/// in proportion to its weight: Akinshin, "Weighted quantile estimators", 2023, with Kish's effective sample size.
pub(super) fn weighted_quantile(pairs: &mut [(f64, f64)], level: f64) -> f64 {
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let Some((least, _)) = pairs.first().copied() else { return 0.0 };
    let total: f64 = pairs.iter().map(|(_, weight)| weight).sum();
    let squares: f64 = pairs.iter().map(|(_, weight)| weight * weight).sum();
    let size = total * total / squares;
    // The mean of the empirical quantiles over a stretch of one effective row.
    let start = (size - 1.0) * level / size;
    let part_below = |share: f64| ((share - start) * size).clamp(0.0, 1.0);
    let (mut sum, mut seen, mut before) = (0.0, 0.0, 0.0);
    for (value, weight) in pairs {
        seen += *weight;
        let below = part_below(seen / total);
        sum += (below - before) * (*value - least);
        before = below;
        if below >= 1.0 {
            break;
        }
    }
    least + sum
}
