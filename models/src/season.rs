//! Seasonal regressors: harmonics of the day, apart on weekends, and of the week when the history holds three.

use std::f64::consts::TAU;

const DAY_US: i64 = 86_400_000_000;
const DAILY: usize = 6;
const WEEKEND: usize = 4;
const WEEKLY: usize = 3;

/// How many regressors.
pub(crate) fn width(weekly: bool) -> usize {
    2 * DAILY + 2 * WEEKEND + 1 + if weekly { 2 * WEEKLY } else { 0 }
}

/// The regressors of one step, appended.
#[expect(clippy::cast_precision_loss, reason = "days since the epoch are exact")]
pub(crate) fn push_row(start_us: i64, weekly: bool, row: &mut Vec<f64>) {
    let day = start_us.rem_euclid(DAY_US) as f64 / DAY_US as f64;
    let week = start_us.rem_euclid(7 * DAY_US) as f64 / (7 * DAY_US) as f64;
    // 1 January 1970 was a Thursday: days 2 and 3 of this count are Saturday and Sunday.
    let is_weekend = matches!(start_us.div_euclid(DAY_US).rem_euclid(7), 2 | 3);
    let flag = if is_weekend { 1.0 } else { 0.0 };
    let mut harmonics = [(0.0, 0.0); DAILY];
    for (k, harmonic) in (1_u8..).zip(harmonics.iter_mut()) {
        *harmonic = (TAU * f64::from(k) * day).sin_cos();
        row.extend([harmonic.0, harmonic.1]);
    }
    for (sin, cos) in harmonics.iter().take(WEEKEND) {
        row.extend([flag * sin, flag * cos]);
    }
    row.push(flag);
    if weekly {
        for k in (1_u8..).take(WEEKLY) {
            let (sin, cos) = (TAU * f64::from(k) * week).sin_cos();
            row.extend([sin, cos]);
        }
    }
}
