//! From medians to quantiles: conformal offsets on the log scale, from residuals of forecasts that have matured.
//!
//! Residuals are kept apart by horizon and by whether a step is within an event, near one, or quiet (Mondrian conformal
//! prediction: Vovk and others, 2005), as histograms that fade over months. The level that is read off them adapts slowly
//! (adaptive conformal inference, Gibbs and Candès, 2021), apart for these and for each quantile. Residuals of one day tell
//! nearly the same, so the finite-sample correction counts days, not rows; and few days with events prove little: until
//! more have been seen, steps within events may be three times as far off as quiet ones. The median is not shifted: the correction of the centre fades in towards the tails.

use serde::{Deserialize, Serialize};

use crate::event::When;
use crate::histogram::{Histogram, Packed};
use crate::scales::{log, unlog};

const DAY_US: i64 = 86_400_000_000;
/// Where the horizon's groups part, in minutes ahead: the error grows fast at first.
const BOUNDS_MIN: [i64; 6] = [15, 60, 180, 480, 1_440, 4_320];
const HORIZONS: usize = BOUNDS_MIN.len() + 1;
/// How many groups there are.
pub(crate) const GROUPS: usize = When::ALL.len() * HORIZONS;
/// What is left of a residual's weight after a day: half after 200 days.
const KEPT_PER_DAY: f32 = 0.996_54;
/// Below this many residuals a group is not trusted alone.
const ENOUGH: f64 = 60.0;
/// As much as this many independent residuals are in those of a day.
const PER_DAY: f64 = 3.0;
/// Steps near events, and within them, are assumed to be so many times as far off as quiet ones, with the weight of so many
/// days.
const ASSUMED_NEAR: (f64, f64) = (1.3, 10.0);
const ASSUMED_EVENT: (f64, f64) = (3.0, 3.0);
/// Step of the adaptation for one matured value.
const RATE: f64 = 0.0005;
/// Offsets are refreshed after this many new residuals of a group.
const REFRESH: usize = 36;
/// Residuals to assume where nothing is known, on the log scale: half as much, as much, twice as much.
const UNKNOWN: [f64; 5] = [-0.7, -0.3, 0.0, 0.3, 0.7];
/// Quantiles are no further from the median than those of a normal distribution with so many robust deviations of the
/// quiet residuals, or with so much on the log scale: the days on which everything changes are not the rule behind them.
const WIDEST: f64 = 1.5;
const WIDEST_QUIET_LOG: f64 = 0.3;
const WIDEST_NEAR_LOG: f64 = 0.4;
const WIDEST_EVENT_LOG: f64 = 0.55;
/// How far beyond all residuals the outermost quantiles go at the most.
const MAX_REACH: f64 = 0.4;

/// Which residuals a step draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    horizon: usize,
    pub(crate) when: When,
}

impl Group {
    /// The group of a step that starts `ahead_us` after the origin.
    pub(crate) fn of(ahead_us: i64, when: When) -> Self {
        let horizon = BOUNDS_MIN.into_iter().filter(|bound| ahead_us >= bound * 60_000_000).count();
        Self { horizon, when }
    }

    /// Every group.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        When::ALL.into_iter().flat_map(|when| (0..HORIZONS).map(move |horizon| Self { horizon, when }))
    }

    /// Quiet steps as far ahead.
    pub(crate) fn quiet(self) -> Self {
        Self { when: When::Quiet, ..self }
    }

    /// Its place among all.
    pub(crate) fn index(self) -> usize {
        self.horizon + HORIZONS * self.when.index()
    }
}

/// A path on the log scale: medians, and how far off a value usually is, in the path's own measure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Centres {
    pub(crate) medians: Vec<f64>,
    /// All 1 where the model has no measure of its own.
    pub(crate) widths: Vec<f64>,
}

impl Centres {
    /// A path whose steps are alike uncertain.
    pub(crate) fn even(medians: Vec<f64>) -> Self {
        Self { widths: vec![1.0; medians.len()], medians }
    }
}

/// Residuals of one group, and the offsets that follow from them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Residuals {
    kept: Packed,
    /// How many days they are from, and the last of them.
    days: f32,
    last_day: i64,
    fresh: usize,
    offsets: Vec<f32>,
}

impl Residuals {
    fn add(&mut self, residual: f64, day: i64) {
        if self.kept.is_empty() || day != self.last_day {
            self.kept.fade(KEPT_PER_DAY);
            self.days = self.days * KEPT_PER_DAY + 1.0;
            self.last_day = day;
        }
        self.kept.add(residual);
        self.fresh += 1;
    }
}

/// Quantiles for one family.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Calibration {
    levels: Vec<f64>,
    /// The level that is read for each level that is asked, in the order of [`When::ALL`].
    adapted: [Vec<f64>; When::ALL.len()],
    groups: Vec<Residuals>,
}

impl Calibration {
    pub(crate) fn new(levels: &[f64]) -> Self {
        let adapted = When::ALL.map(|_| levels.to_vec());
        Self { levels: levels.to_vec(), adapted, groups: vec![Residuals::default(); GROUPS] }
    }

    /// The same, for a file: offsets are made again from the residuals when they are needed.
    pub(crate) fn without_offsets(&self) -> Self {
        let mut calibration = self.clone();
        calibration.groups.iter_mut().for_each(|group| group.offsets = Vec::new());
        calibration
    }

    /// Keeps the residual of a value that has come, in widths of its path.
    pub(crate) fn keep(&mut self, group: Group, due_us: i64, (median_log, width): (f64, f64), actual: f64) {
        if let Some(residuals) = self.groups.get_mut(group.index()) {
            residuals.add((log(actual) - median_log) / width, due_us.div_euclid(DAY_US));
        }
    }

    /// Adapts to whether a value was within the quantiles that were forecast for it.
    pub(crate) fn adapt(&mut self, group: Group, quantiles: &[f32], actual: f64) {
        let Some(adapted) = self.adapted.get_mut(group.when.index()) else { return };
        for ((adapted, level), forecast) in adapted.iter_mut().zip(&self.levels).zip(quantiles) {
            let covered = if actual <= f64::from(*forecast) { 1.0 } else { 0.0 };
            let moved = *adapted + RATE * (level - covered);
            // It never leaves its side of the median, nor strays far from its level; the median stays.
            *adapted = if *level > 0.5 {
                moved.clamp(0.5_f64.max(level - 0.2), 0.999)
            } else if *level < 0.5 {
                moved.clamp(0.001, 0.5_f64.min(level + 0.2))
            } else {
                *level
            };
        }
    }

    /// Quantiles for a path: `values[step * levels + level]`, ascending within a step.
    pub(crate) fn quantiles(&mut self, path: &Centres, when: &[When], step_us: i64) -> Vec<f32> {
        self.refresh();
        let mut values = Vec::with_capacity(path.medians.len() * self.levels.len());
        for (((median, width), when), k) in path.medians.iter().zip(&path.widths).zip(when).zip(0_i64..) {
            let group = Group::of(k * step_us, *when);
            let offsets = self.groups.get(group.index()).map(|group| group.offsets.as_slice()).unwrap_or_default();
            let mut floor = 0.0_f32;
            for offset in offsets {
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
                let value = unlog(median + width * f64::from(*offset)) as f32;
                floor = floor.max(value);
                values.push(floor);
            }
        }
        values
    }

    fn refresh(&mut self) {
        for group in Group::all() {
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

    fn offsets(&self, group: Group) -> Vec<f32> {
        let (own, own_days) = self.kept(group);
        let (quiet, quiet_days) = self.kept(group.quiet());
        let (mut pool, mut days) = (own.clone(), own_days);
        let assumed = match group.when {
            When::Quiet => None,
            When::Near => Some(ASSUMED_NEAR),
            When::Event => Some(ASSUMED_EVENT),
        };
        if let Some((times, assumed_days)) = assumed.filter(|_| quiet_days > 0.0) {
            let for_each_day = if own_days > 0.0 { own.total() / own_days } else { 1.0 };
            pool.add_all(&quiet, times, for_each_day * assumed_days / quiet.total());
            days += assumed_days;
        }
        if own.total().max(pool.total()) < ENOUGH {
            UNKNOWN.into_iter().for_each(|residual| pool.add(residual, 1.0));
            days += 1.0;
        }
        let robust = WIDEST * 1.4826 * (if quiet.total() < ENOUGH { &pool } else { &quiet }).median_of_absolutes();
        let widest = robust.max(match group.when {
            When::Quiet => WIDEST_QUIET_LOG,
            When::Near => WIDEST_NEAR_LOG,
            When::Event => WIDEST_EVENT_LOG,
        });
        let centre = pool.quantile(0.5);
        let adapted = self.adapted.get(group.when.index()).map_or(self.levels.as_slice(), Vec::as_slice);
        let offset = |(level, adapted): (&f64, &f64)| {
            let fade = (1.0 - (level - 0.5).abs() / 0.3).max(0.0);
            let furthest = widest * normal_quantile(*level);
            let offset = beyond(&pool, *adapted, days * PER_DAY) - centre * fade;
            // On its own side of the median.
            #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
            let kept = offset.clamp(furthest.min(0.0), furthest.max(0.0)) as f32;
            kept
        };
        self.levels.iter().zip(adapted).map(offset).collect()
    }

    /// The residuals of a group, and how many days they are from.
    fn kept(&self, group: Group) -> (Histogram, f64) {
        let residuals = self.groups.get(group.index());
        residuals.map(|residuals| (residuals.kept.unpacked(), f64::from(residuals.days))).unwrap_or_default()
    }
}

/// A quantile with the finite-sample correction of conformal prediction for `n` independent residuals, on both sides of
/// the median; beyond the sample, half as far again as the outer tenth reaches.
fn beyond(pool: &Histogram, level: f64, n: f64) -> f64 {
    let corrected = 0.5 + (level - 0.5) * (n + 1.0) / n.max(1.0);
    let outside = (corrected - 1.0).max(-corrected).max(0.0);
    let edge = pool.quantile(corrected.clamp(0.0, 1.0));
    let reach = (edge - pool.quantile(if level > 0.5 { 0.9 } else { 0.1 })) * 0.5;
    edge + if outside > 0.0 { reach.clamp(-MAX_REACH, MAX_REACH) * (outside * n).min(1.0) } else { 0.0 }
}

/// The quantile function of the standard normal distribution, as approximated by Shore (1982): within .03 from .01 to .99.
pub(crate) fn normal_quantile(level: f64) -> f64 {
    let upper = |level: f64| 5.5556 * (1.0 - ((1.0 - level) / level).powf(0.1186));
    if level >= 0.5 { upper(level) } else { -upper(1.0 - level) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;
    const LEVELS: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

    /// After so many days, residuals of the given size on either side in turn.
    fn after(days: i64, when: When, size: f64) -> Calibration {
        let mut calibration = Calibration::new(&LEVELS);
        for hour in 0..days * 24 {
            let residual = size * ((hour * 7919 % 201) as f64 / 100.0 - 1.0);
            calibration.keep(Group::of(HOUR_US, when), hour * HOUR_US, (5.0, 1.0), unlog(5.0 + residual));
        }
        calibration
    }

    fn widths(calibration: &mut Calibration, when: When) -> f64 {
        let values = calibration.quantiles(&Centres::even(vec![5.0; 3]), &[when; 3], HOUR_US);
        let row = &values[LEVELS.len()..2 * LEVELS.len()];
        assert!(row.is_sorted());
        log(f64::from(row[4])) - log(f64::from(row[0]))
    }

    #[test]
    fn intervals_are_as_wide_as_residuals() {
        // Evenly spread residuals: .1 to .9 are 80 % of the range.
        let width = widths(&mut after(60, When::Quiet, 0.2), When::Quiet);
        assert!((width - 0.32).abs() < 0.03, "{width}");
    }

    #[test]
    fn events_are_less_certain_until_some_were_seen() {
        let mut calibration = after(60, When::Quiet, 0.1);
        let quiet = widths(&mut calibration, When::Quiet);
        let unseen = widths(&mut calibration.clone(), When::Event);
        let near = widths(&mut calibration.clone(), When::Near);
        assert!(unseen > 2.0 * quiet && near > 1.2 * quiet && near < unseen, "{unseen} {near} {quiet}");
        let events = after(40, When::Event, 0.1);
        calibration.groups.iter_mut().zip(&events.groups).skip(2 * HORIZONS).for_each(|(to, from)| *to = from.clone());
        let seen = widths(&mut calibration, When::Event);
        assert!(seen < 0.6 * unseen, "{seen} {unseen}");
    }

    #[test]
    fn levels_move_towards_what_is_covered() {
        let mut calibration = after(60, When::Quiet, 0.1);
        let before = widths(&mut calibration, When::Quiet);
        for _ in 0..400 {
            calibration.adapt(Group::of(HOUR_US, When::Quiet), &[140.0, 145.0, 148.0, 150.0, 155.0], 300.0);
        }
        calibration.groups.iter_mut().for_each(|group| group.offsets.clear());
        let after = calibration.quantiles(&Centres::even(vec![5.0; 3]), &[When::Quiet; 3], HOUR_US);
        assert!(log(f64::from(after[LEVELS.len() + 4])) - 5.0 > before / 2.0, "{after:?}");
    }

    #[test]
    fn shore_is_close_to_the_normal_distribution() {
        for (level, z) in [(0.5, 0.0), (0.75, 0.6745), (0.9, 1.2816), (0.975, 1.96), (0.99, 2.3263)] {
            assert!((normal_quantile(level) - z).abs() < 0.03 && (normal_quantile(1.0 - level) + z).abs() < 0.03);
        }
    }
}
