//! From medians to quantiles: conformal offsets on the log scale, from residuals of forecasts that have matured.
//!
//! Residuals are kept apart by horizon and by event and quiet steps. The level that is read off them adapts slowly
//! (adaptive conformal inference, Gibbs and Candès, 2021), apart for events and for each quantile; ten times the rate
//! costs sharpness on every series that it was tried on. The median is not shifted: the correction of the centre fades
//! in towards the tails.

use std::cmp::Ordering;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::scales::{log, quantile, unlog};

/// Where the horizon's groups part, in minutes ahead: the error grows fast at first.
const BOUNDS_MIN: [i64; 6] = [15, 60, 180, 480, 1_440, 4_320];
const HORIZONS: usize = BOUNDS_MIN.len() + 1;
/// About ten days of a group.
const KEPT: usize = 2_000;
/// Below this many residuals a group borrows from its neighbours.
const ENOUGH: usize = 60;
/// Step of the adaptation for one matured value.
const RATE: f64 = 0.0005;
/// Offsets are refreshed after this many new residuals of a group.
const REFRESH: usize = 36;
/// Residuals to assume where nothing is known, on the log scale: half as much, as much, twice as much.
const UNKNOWN: [f32; 5] = [-0.7, -0.3, 0.0, 0.3, 0.7];

/// Which residuals a step draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    horizon: usize,
    event: bool,
}

impl Group {
    /// The group of a step that starts `ahead_us` after the origin.
    pub(crate) fn of(ahead_us: i64, event: bool) -> Self {
        let horizon = BOUNDS_MIN.into_iter().filter(|bound| ahead_us >= bound * 60_000_000).count();
        Self { horizon, event }
    }

    fn index(self) -> usize {
        self.horizon + if self.event { HORIZONS } else { 0 }
    }
}

/// The same in widths of the path at the most.
const MAX_UNKNOWN: f64 = 2.3;
/// Quantiles are no further from the median than this, on the log scale: nothing that was measured reaches so far.
const FURTHEST: f64 = 1.6;
/// How far beyond all residuals the outermost quantiles go at the most.
const MAX_REACH: f64 = 0.4;

/// A path on the log scale: medians, and how far off a value usually is, in the path's own measure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Centres {
    pub(crate) medians: Vec<f64>,
    /// All 1 where the model has no measure of its own.
    pub(crate) widths: Vec<f64>,
}

/// Residuals of one group, and the offsets that follow from them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Residuals {
    kept: VecDeque<f32>,
    fresh: usize,
    offsets: Vec<f64>,
}

/// Quantiles for one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Calibration {
    levels: Vec<f64>,
    /// The level that is read for each level that is asked: first quiet steps, then event steps.
    adapted: [Vec<f64>; 2],
    groups: Vec<Residuals>,
    /// The mean width of the last forecast.
    width: f64,
    /// Residuals are cut off here, in widths.
    limit: f64,
}

impl Calibration {
    /// For a path whose widths are all 1, or (`in_widths`) those of calibrated intervals.
    pub(crate) fn new(levels: &[f64], in_widths: bool) -> Self {
        let adapted = [levels.to_vec(), levels.to_vec()];
        Self { levels: levels.to_vec(), adapted, groups: vec![Residuals::default(); 2 * HORIZONS], width: 1.0, limit: if in_widths { 5.0 } else { 10.0 } }
    }

    /// Learns from a value that has come: the centre, as median and width, and the quantiles that were forecast for it.
    pub(crate) fn matured(&mut self, group: Group, (median_log, width): (f64, f64), quantiles: &[f32], actual: f64) {
        if let Some(residuals) = self.groups.get_mut(group.index()) {
            #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
            residuals.kept.push_back(((log(actual) - median_log) / width).clamp(-self.limit, self.limit) as f32);
            residuals.fresh += 1;
            if residuals.kept.len() > KEPT {
                residuals.kept.pop_front();
            }
        }
        let [quiet, event] = &mut self.adapted;
        let adapted = if group.event { event } else { quiet };
        for ((adapted, level), forecast) in adapted.iter_mut().zip(&self.levels).zip(quantiles) {
            let covered = if actual <= f64::from(*forecast) { 1.0 } else { 0.0 };
            let moved = *adapted + RATE * (level - covered);
            // It never leaves its side of the median, nor strays far from its level; the median stays.
            *adapted = match level.total_cmp(&0.5) {
                Ordering::Greater => moved.clamp(0.5_f64.max(level - 0.2), 0.999),
                Ordering::Less => moved.clamp(0.001, 0.5_f64.min(level + 0.2)),
                Ordering::Equal => *level,
            };
        }
    }

    /// Quantiles for a path of medians and of the widths that residuals are measured in: `values[step * levels + level]`,
    /// ascending within a step.
    pub(crate) fn quantiles(&mut self, path: &Centres, events: &[bool], step_us: i64) -> Vec<f32> {
        #[expect(clippy::cast_precision_loss, reason = "steps of a horizon")]
        let steps = path.widths.len().max(1) as f64;
        self.width = path.widths.iter().sum::<f64>() / steps;
        self.refresh();
        let mut values = Vec::with_capacity(path.medians.len() * self.levels.len());
        for (((median, width), event), k) in path.medians.iter().zip(&path.widths).zip(events).zip(0_i64..) {
            let group = Group::of(k * step_us, *event);
            let offsets = self.groups.get(group.index()).map(|group| group.offsets.as_slice()).unwrap_or_default();
            let mut floor = 0.0_f32;
            for offset in offsets {
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
                let value = unlog(median + (width * offset).clamp(-FURTHEST, FURTHEST)) as f32;
                floor = floor.max(value);
                values.push(floor);
            }
        }
        values
    }

    fn refresh(&mut self) {
        for horizon in 0..HORIZONS {
            for event in [false, true] {
                let group = Group { horizon, event };
                let due = self.groups.get(group.index()).is_some_and(|g| g.offsets.is_empty() || g.fresh >= REFRESH);
                if !due {
                    continue;
                }
                let offsets = self.offsets(group);
                if let Some(residuals) = self.groups.get_mut(group.index()) {
                    residuals.offsets = offsets;
                    residuals.fresh = 0;
                }
            }
        }
    }

    fn offsets(&self, group: Group) -> Vec<f64> {
        let kept = |group: Group| self.groups.get(group.index()).into_iter().flat_map(|g| g.kept.iter().copied());
        let mut pool: Vec<f64> = kept(group).map(f64::from).collect();
        if pool.len() < ENOUGH {
            // The other kind of step at this horizon, thinned to as many as are missing, and what might be at worst.
            let other: Vec<f32> = kept(Group { event: !group.event, ..group }).collect();
            let every = (other.len() / ENOUGH).max(1);
            pool.extend(other.into_iter().step_by(every).take(ENOUGH - pool.len()).map(f64::from));
            pool.extend(UNKNOWN.map(|residual| (f64::from(residual) / self.width).clamp(-MAX_UNKNOWN, MAX_UNKNOWN)));
        }
        pool.sort_by(f64::total_cmp);
        let centre = quantile(&pool, 0.5);
        let adapted = if group.event { &self.adapted[1] } else { &self.adapted[0] };
        let offset = |(level, adapted): (&f64, &f64)| {
            let fade = (1.0 - (level - 0.5).abs() / 0.3).max(0.0);
            beyond(&pool, *adapted) - centre * fade
        };
        self.levels.iter().zip(adapted).map(offset).collect()
    }
}

/// A quantile with the finite-sample correction of conformal prediction; beyond the sample, half as far again as the
/// outer tenth reaches.
fn beyond(sorted: &[f64], level: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of residuals")]
    let n = sorted.len() as f64;
    let reach = |side: f64| {
        let outer = quantile(sorted, side) - quantile(sorted, if side > 0.5 { 0.9 } else { 0.1 });
        (outer * 0.5).clamp(-MAX_REACH, MAX_REACH)
    };
    if level > 0.5 {
        let corrected = level * (n + 1.0) / n;
        if corrected > 1.0 { quantile(sorted, 1.0) + reach(1.0) } else { quantile(sorted, corrected) }
    } else if level < 0.5 {
        let corrected = (level * (n + 1.0) - 1.0) / n;
        if corrected < 0.0 { quantile(sorted, 0.0) + reach(0.0) } else { quantile(sorted, corrected) }
    } else {
        quantile(sorted, 0.5)
    }
}
