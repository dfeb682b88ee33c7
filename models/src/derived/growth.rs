//! Growth of what accumulates, such as storage: paths of days to come, drawn from the days seen.
//!
//! What changes from day to day is drawn in blocks of a week, which keeps weekdays and runs together (the moving-block
//! bootstrap: Künsch, 1989). Each path draws first which history there might have been, then goes on from it, so that it
//! also tells how little a short history says of the pace. No trend is assumed to be straight, and a jump that was seen once
//! may come again as seldom.

use super::Range;
use crate::boost::random::Random;
use crate::scales::quantile;

const BLOCK_DAYS: usize = 7;
/// Fewest days to learn from: four blocks.
const MIN_DAYS: usize = 28;
const PATHS: u32 = 400;
const SEED: u64 = 0x6865_6164;

/// Paths of days to come.
#[derive(Clone, Debug)]
pub struct Growth {
    /// `paths[path][day]`, the first a day behind the last that was seen.
    paths: Vec<Vec<f64>>,
    /// Days learned from.
    pub days: usize,
}

/// After how many days a limit is crossed, counted from the last day that was seen; none when not within the horizon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// One path in ten has crossed it by then.
    pub early: Option<usize>,
    /// Half of the paths.
    pub middle: Option<usize>,
    /// Nine in ten.
    pub late: Option<usize>,
}

impl Growth {
    /// Paths of `horizon_days` behind the last of these daily values. A day without a value lies on the line between its
    /// neighbours.
    ///
    /// # Errors
    /// Why there are none: too few days.
    pub fn fit(daily: &[Option<f64>], horizon_days: usize) -> Result<Self, String> {
        let known = daily.iter().flatten().filter(|value| value.is_finite()).count();
        if known < MIN_DAYS {
            return Err(format!("{known} days with values, {MIN_DAYS} are needed"));
        }
        let values = without_gaps(daily);
        let changes: Vec<f64> = values.iter().zip(values.iter().skip(1)).map(|(before, now)| now - before).collect();
        let last = values.last().copied().unwrap_or_default();
        let path = |path: u32| {
            let mut random = Random::of_round(SEED, path);
            let history = blocks(&changes, changes.len(), &mut random);
            let mut value = last;
            let ahead = blocks(&history, horizon_days, &mut random).into_iter();
            ahead
                .map(|change| {
                    value = f64::max(value + change, 0.0);
                    value
                })
                .collect()
        };
        Ok(Self { paths: (0..PATHS).map(path).collect(), days: known })
    }

    /// The value so many days behind the last that was seen, counted from 1.
    #[must_use]
    pub fn after(&self, days: usize) -> Range {
        let of = |path: &Vec<f64>| days.checked_sub(1).and_then(|day| path.get(day).copied());
        Range::of(self.paths.iter().filter_map(of).collect())
    }

    /// When the value passes a limit.
    #[must_use]
    pub fn crosses(&self, limit: f64) -> Crossing {
        let first = |path: &Vec<f64>| path.iter().position(|value| *value >= limit).map(|day| day + 1);
        #[expect(clippy::cast_precision_loss, reason = "a horizon in days")]
        let mut days: Vec<f64> =
            self.paths.iter().map(|path| first(path).map_or(f64::INFINITY, |day| day as f64)).collect();
        days.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let day = quantile(&days, share);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a day within the horizon")]
            day.is_finite().then_some(day.round() as usize)
        };
        Crossing { early: at(0.1), middle: at(0.5), late: at(0.9) }
    }
}

/// So many items, drawn in runs.
fn blocks(from: &[f64], wanted: usize, random: &mut Random) -> Vec<f64> {
    let mut drawn = Vec::with_capacity(wanted + BLOCK_DAYS);
    let starts = u64::try_from(from.len().saturating_sub(BLOCK_DAYS) + 1).unwrap_or(1);
    while drawn.len() < wanted && !from.is_empty() {
        let start = usize::try_from(((random.next() >> 32) * starts) >> 32).unwrap_or(0);
        drawn.extend(from.iter().skip(start).take(BLOCK_DAYS));
    }
    drawn.truncate(wanted);
    drawn
}

/// Gaps filled by lines; those before the first and behind the last value are left off.
fn without_gaps(daily: &[Option<f64>]) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::with_capacity(daily.len());
    let mut missing = 0_u32;
    for value in daily.iter().map(|value| value.filter(|value| value.is_finite())) {
        let Some(value) = value else {
            missing += 1;
            continue;
        };
        if let Some(before) = values.last().copied() {
            let step = (value - before) / f64::from(missing + 1);
            values.extend((1..=missing).map(|k| before + step * f64::from(k)));
        }
        missing = 0;
        values.push(value);
    }
    values
}
