//! Seasonal regressors: harmonics of the day, apart on weekends, and of the week when the history holds three; with a long
//! history a profile of its own for each day of the week, and the year.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

const DAY_US: i64 = 86_400_000_000;
/// Mean length of a year of the Gregorian calendar.
const YEAR_DAYS: f64 = 365.2425;
const DAILY: usize = 6;
const WEEKEND: usize = 4;
const WEEKLY: usize = 3;
/// Harmonics of a weekday's own profile.
const WEEKDAY: usize = 4;
const YEARLY: usize = 10;
/// Harmonics of the year that bend those of the day.
const YEARLY_BY_DAY: usize = 2;
const WEEKLY_FROM_US: i64 = 21 * DAY_US;
const WEEKDAYS_FROM_US: i64 = 56 * DAY_US;
const YEARLY_FROM_US: i64 = 500 * DAY_US;

/// Which regressors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Season {
    /// Steps within the day differ.
    daily: bool,
    /// The week has harmonics.
    weekly: bool,
    /// Each day of the week has a profile of its own.
    weekdays: bool,
    /// The year has harmonics.
    yearly: bool,
}

impl Season {
    /// What a history of this length can carry.
    pub(crate) fn of(length_us: i64, step_us: i64) -> Self {
        let daily = step_us < DAY_US;
        Self {
            daily,
            weekly: length_us >= WEEKLY_FROM_US,
            weekdays: length_us >= if daily { WEEKDAYS_FROM_US } else { WEEKLY_FROM_US },
            yearly: length_us >= YEARLY_FROM_US,
        }
    }

    /// Is the year among them?
    pub(crate) fn is_yearly(self) -> bool {
        self.yearly
    }

    /// How many regressors.
    pub(crate) fn width(self) -> usize {
        let within_day = if self.daily { 2 * DAILY + 2 * WEEKEND } else { 0 };
        let weekly = if self.weekly { 2 * WEEKLY } else { 0 };
        let weekdays = if self.weekdays { 7 * (1 + if self.daily { 2 * WEEKDAY } else { 0 }) } else { 0 };
        let by_day = if self.daily { 4 * YEARLY_BY_DAY * YEARLY_BY_DAY } else { 0 };
        within_day + 1 + weekly + weekdays + if self.yearly { 2 * YEARLY + by_day } else { 0 }
    }

    /// Which harmonic of the year a regressor is, counted from 1; none for the others.
    pub(crate) fn harmonic_of_year(self, column: usize) -> Option<f64> {
        let by_day = if self.daily { 4 * YEARLY_BY_DAY * YEARLY_BY_DAY } else { 0 };
        let first = self.width().saturating_sub(2 * YEARLY + by_day);
        let harmonic = column.checked_sub(first).map(|at| at / 2).filter(|at| self.yearly && *at < YEARLY)?;
        u32::try_from(harmonic + 1).ok().map(f64::from)
    }

    /// The regressors of one step, appended.
    #[expect(clippy::cast_precision_loss, reason = "days since the epoch are exact")]
    pub(crate) fn push_row(self, start_us: i64, row: &mut Vec<f64>) {
        let day = start_us.rem_euclid(DAY_US) as f64 / DAY_US as f64;
        let week = start_us.rem_euclid(7 * DAY_US) as f64 / (7 * DAY_US) as f64;
        let weekday = start_us.div_euclid(DAY_US).rem_euclid(7);
        // 1 January 1970 was a Thursday: days 2 and 3 of this count are Saturday and Sunday.
        let flag = if matches!(weekday, 2 | 3) { 1.0 } else { 0.0 };
        let harmonics: [(f64, f64); DAILY] = harmonics(day);
        if self.daily {
            row.extend(harmonics.iter().flat_map(|(sin, cos)| [*sin, *cos]));
            row.extend(harmonics.iter().take(WEEKEND).flat_map(|(sin, cos)| [flag * sin, flag * cos]));
        }
        row.push(flag);
        if self.weekly {
            row.extend(self::harmonics::<WEEKLY>(week).iter().flat_map(|(sin, cos)| [*sin, *cos]));
        }
        if self.weekdays {
            for of in 0..7 {
                let flag = if of == weekday { 1.0 } else { 0.0 };
                row.push(flag);
                if self.daily {
                    row.extend(harmonics.iter().take(WEEKDAY).flat_map(|(sin, cos)| [flag * sin, flag * cos]));
                }
            }
        }
        if self.yearly {
            let years: [(f64, f64); YEARLY] = self::harmonics(start_us as f64 / DAY_US as f64 / YEAR_DAYS);
            row.extend(years.iter().flat_map(|(sin, cos)| [*sin, *cos]));
            if self.daily {
                for (sin, cos) in harmonics.iter().take(YEARLY_BY_DAY) {
                    for (of_year, over_year) in years.iter().take(YEARLY_BY_DAY) {
                        row.extend([sin * of_year, sin * over_year, cos * of_year, cos * over_year]);
                    }
                }
            }
        }
    }
}

/// Sines and cosines of the first `N` harmonics of a part of a turn.
fn harmonics<const N: usize>(part: f64) -> [(f64, f64); N] {
    let mut all = [(0.0, 0.0); N];
    for (k, harmonic) in (1_u8..).zip(all.iter_mut()) {
        *harmonic = (TAU * f64::from(k) * part).sin_cos();
    }
    all
}
