//! Log scale and order statistics.

/// To the log scale, where lifts add.
pub(crate) fn log(value: f64) -> f64 {
    value.max(0.0).ln_1p()
}

/// Back from the log scale; never negative, never infinite.
pub(crate) fn unlog(value: f64) -> f64 {
    value.clamp(0.0, 60.0).exp_m1()
}

/// The quantile of ascending values, interpolated; 0 for none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index between 0 and the length"
)]
pub(crate) fn quantile(sorted: &[f64], level: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = level.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (Some(low), Some(high)) = (sorted.get(below), sorted.get((below + 1).min(last))) else { return 0.0 };
    low + (high - low) * (position - below as f64)
}

/// The median; 0 for none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}
