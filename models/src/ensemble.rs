//! The ensemble: quantiles of the families averaged level by level on the log scale (Vincent, 1912), each family weighted
//! by how it did of late, apart for quiet steps, steps near events and steps within them.
//!
//! A power of the inverse loss as weight is one of the oldest ways to combine forecasts (Bates and Granger, 1969), and
//! keeps whoever is nearly as good as the best. An average of quantiles knows nothing of how far the families are apart, so
//! the variance of their medians is added to the squares of its widths, as a mixture would have it. Between two full hours the quantiles' distances from the short ridge are
//! kept, so that the ridge's look at the last minutes moves the whole. How wide the averaged intervals must be drawn for
//! 80 % to be within them is learned on the way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibration::{GROUPS, Group, normal_quantile};
use crate::event::When;
use crate::scales::{log, unlog};
use crate::score::at_level;

const DAY_US: i64 = 86_400_000_000;
/// Power of the inverse loss.
const POWER: f64 = 8.0;
/// Weights below this share of the largest are dropped.
const LEAST: f64 = 0.1;
/// Loss is forgotten by half in three days; near and within events, in as many hours with such steps.
const KEPT_PER_HOUR: f64 = 0.990_419;
/// Days with such steps after which their own loss counts as much as that of quiet ones.
const ENOUGH_DAYS: f64 = 5.0;
/// How far the families are apart makes up for intervals that averaging narrows: the first guess.
const FIRST_STRETCH: f64 = 1.0;
/// Step of the stretch's logarithm for one matured value.
const STRETCH_RATE: f64 = 0.0003;
const STRETCH_RANGE: (f64, f64) = (0.7, 2.0);

/// Loss of a family of late, by horizon, on quiet steps, near events and within them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recent {
    groups: [Loss; GROUPS],
    /// In the order of [`When::ALL`].
    spans: [Span; When::ALL.len()],
}

/// When there were such steps.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Span {
    is_in_this_hour: bool,
    days: f64,
    last_day: i64,
}

/// Pinball loss and actuals, summed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Loss {
    pinball: f64,
    actual: f64,
}

impl Recent {
    pub(crate) fn add(&mut self, group: Group, pinball: f64, actual: f64, at_us: i64) {
        if let Some(loss) = self.groups.get_mut(group.index()) {
            loss.pinball += pinball;
            loss.actual += actual;
        }
        let day = at_us.div_euclid(DAY_US);
        let Some(span) = self.spans.get_mut(group.when.index()) else { return };
        if day != span.last_day || span.days == 0.0 {
            (span.days, span.last_day) = (span.days + 1.0, day);
        }
        span.is_in_this_hour = true;
    }

    /// An hour has passed.
    pub(crate) fn fade(&mut self) {
        let had = self.spans.each_mut().map(|span| std::mem::take(&mut span.is_in_this_hour));
        for (loss, group) in self.groups.iter_mut().zip(Group::all()) {
            if group.when == When::Quiet || had.get(group.when.index()) == Some(&true) {
                loss.pinball *= KEPT_PER_HOUR;
                loss.actual *= KEPT_PER_HOUR;
            }
        }
    }

    /// Weighted quantile loss over all steps; none when nothing has matured.
    pub(crate) fn wql(&self) -> Option<f64> {
        let pinball: f64 = self.groups.iter().map(|group| group.pinball).sum();
        let actual: f64 = self.groups.iter().map(|group| group.actual).sum();
        (actual > 0.0).then(|| 2.0 * pinball / actual)
    }

    /// Pinball loss over actual, as far ahead and in or outside of events; none when nothing has matured.
    pub(crate) fn relative(&self, group: Group) -> Option<f64> {
        self.loss_log(group).map(f64::exp)
    }

    /// Pinball loss over actual, on the log scale; none when nothing has matured. That of events leans on that of quiet
    /// steps as long as few days with such steps were seen.
    fn loss_log(&self, group: Group) -> Option<f64> {
        let log = |group: Group| {
            let loss = self.groups.get(group.index()).filter(|loss| loss.actual > 0.0)?;
            Some((loss.pinball / loss.actual).max(1e-9).ln())
        };
        match (log(group.quiet()), log(group)) {
            (Some(quiet), Some(during)) if group.when != When::Quiet => {
                let days = self.spans.get(group.when.index()).map_or(0.0, |span| span.days);
                let share = days / (days + ENOUGH_DAYS);
                Some(share * during + (1.0 - share) * quiet)
            }
            (quiet, during) => quiet.or(during),
        }
    }
}

/// How wide averaged intervals are drawn, by horizon, on quiet steps, near events and within them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stretch([f64; GROUPS]);

impl Default for Stretch {
    fn default() -> Self {
        Self([FIRST_STRETCH; GROUPS])
    }
}

impl Stretch {
    fn of(&self, group: Group) -> f64 {
        self.0.get(group.index()).copied().unwrap_or(FIRST_STRETCH)
    }

    /// Widens when a value was outside of the interval of 80 %, narrows when within: in balance at 80 %.
    pub(crate) fn adapt(&mut self, group: Group, levels: &[f64], quantiles: &[f32], actual: f64) {
        let is_within = at_level(levels, quantiles, 0.1) <= actual && actual <= at_level(levels, quantiles, 0.9);
        let step = STRETCH_RATE * if is_within { -0.2 } else { 0.8 };
        if let Some(stretch) = self.0.get_mut(group.index()) {
            *stretch = (*stretch * step.exp()).clamp(STRETCH_RANGE.0, STRETCH_RANGE.1);
        }
    }
}

/// One family's part in a forecast.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    recent: Recent,
    /// Of a family of which nothing has matured yet.
    prior: f64,
    /// Quantiles on the log scale: `logs[step * levels + level]`.
    logs: Vec<f64>,
}

impl Part {
    /// From a path's quantiles.
    pub(crate) fn new(recent: Recent, prior: f64, values: &[f32]) -> Self {
        Self { recent, prior, logs: values.iter().map(|value| log(f64::from(*value))).collect() }
    }
}

/// The families' common quantiles at the last full hour, as their distance from the anchor's medians.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Blend {
    origin_us: i64,
    deltas: Vec<f32>,
}

impl Blend {
    /// Joins the parts over the medians of the anchor, on the log scale.
    pub(crate) fn join(
        &mut self,
        (origin_us, step_us): (i64, i64),
        parts: &[Part],
        anchor_log: &[f64],
        when: &[When],
        levels: &[f64],
    ) {
        let weights: Vec<Vec<f64>> = Group::all().map(|group| weights(parts, group)).collect();
        let deviations: Vec<f64> = levels.iter().map(|level| normal_quantile(*level)).collect();
        let middle = deviations.iter().enumerate().min_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
        let middle = middle.map_or(0, |(at, _)| at);
        self.origin_us = origin_us;
        self.deltas.clear();
        for ((step, (base, when)), k) in anchor_log.iter().zip(when).enumerate().zip(0_i64..) {
            let Some(weights) = weights.get(Group::of(k * step_us, *when).index()) else { continue };
            let of =
                |level: usize| parts.iter().map(move |part| part.logs.get(step * levels.len() + level).unwrap_or(base));
            let mean = |level: usize| of(level).zip(weights).map(|(log, weight)| log * weight).sum::<f64>();
            let median = mean(middle);
            let apart: f64 = of(middle).zip(weights).map(|(log, weight)| weight * (log - median).powi(2)).sum();
            for (level, deviation) in deviations.iter().enumerate() {
                let width = (mean(level) - median).hypot(deviation * apart.sqrt());
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
                self.deltas.push((median + width.copysign(*deviation) - base) as f32);
            }
        }
    }

    /// The common quantiles from `origin_us` on, over the anchor's medians there; none before the first full hour.
    pub(crate) fn over(
        &self,
        anchor_log: &[f64],
        when: &[When],
        (origin_us, step_us): (i64, i64),
        levels: &[f64],
        stretch: &Stretch,
    ) -> Option<Vec<f32>> {
        let rows: Vec<&[f32]> = self.deltas.chunks_exact(levels.len().max(1)).collect();
        let last = rows.len().checked_sub(1)?;
        let passed = usize::try_from((origin_us - self.origin_us).div_euclid(step_us)).ok()?;
        let mut values = Vec::with_capacity(anchor_log.len() * levels.len());
        for ((step, (base, when)), k) in anchor_log.iter().zip(when).enumerate().zip(0_i64..) {
            let stretch = stretch.of(Group::of(k * step_us, *when));
            let row = rows.get((step + passed).min(last))?;
            let middle = at_level(levels, row, 0.5);
            let mut floor = 0.0_f32;
            for delta in *row {
                let drawn = middle + (f64::from(*delta) - middle) * stretch;
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
                let value = unlog(base + drawn) as f32;
                floor = floor.max(value);
                values.push(floor);
            }
        }
        Some(values)
    }
}

/// What each family counts for, by name: for each group of steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shares(BTreeMap<String, Vec<f64>>);

impl Shares {
    /// Of families with these recent losses and priors.
    pub(crate) fn of(families: impl IntoIterator<Item = (&'static str, Recent, f64)>) -> Self {
        let (names, parts): (Vec<_>, Vec<_>) =
            families.into_iter().map(|(name, recent, prior)| (name, Part::new(recent, prior, &[]))).unzip();
        let groups: Vec<Vec<f64>> = Group::all().map(|group| weights(&parts, group)).collect();
        let of = |(place, name): (usize, &str)| {
            (name.to_owned(), groups.iter().filter_map(|weights| weights.get(place).copied()).collect())
        };
        Self(names.into_iter().enumerate().map(of).collect())
    }

    /// What a family counts for on steps within events, on average over the horizons.
    pub(crate) fn within_events(&self, family: &str) -> f64 {
        let shares = self.0.get(family).into_iter().flatten();
        let within = Group::all().zip(shares).filter(|(group, _)| group.when == When::Event);
        let (sum, count) = within.fold((0.0, 0.0), |(sum, count), (_, share)| (sum + share, count + 1.0));
        sum / f64::max(count, 1.0)
    }

    /// Parameters for the record: what each family counts for from the nearest horizon to the furthest.
    pub(crate) fn parameters(&self) -> serde_json::Value {
        let of = |when: When| {
            let shares = self.0.iter().map(|(name, shares)| {
                let of = Group::all().zip(shares).filter(|(group, _)| group.when == when);
                let rounded: Vec<f64> = of.map(|(_, share)| (share * 1e4).round() / 1e4).collect();
                (name.clone(), rounded.into())
            });
            serde_json::Value::Object(shares.collect())
        };
        serde_json::json!({ "quiet": of(When::Quiet), "near": of(When::Near), "events": of(When::Event) })
    }
}

/// Shares of the parts, which add up to one.
fn weights(parts: &[Part], group: Group) -> Vec<f64> {
    let losses: Vec<Option<f64>> = parts.iter().map(|part| part.recent.loss_log(group)).collect();
    let best = losses.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let raw = |(part, loss): (&Part, &Option<f64>)| match loss {
        Some(loss) => (POWER * (best - loss)).exp(),
        None if best.is_finite() => 0.0,
        None => part.prior,
    };
    let mut weights: Vec<f64> = parts.iter().zip(&losses).map(raw).collect();
    let largest = weights.iter().copied().fold(0.0, f64::max);
    weights.iter_mut().filter(|weight| **weight < LEAST * largest).for_each(|weight| *weight = 0.0);
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum.max(1e-12)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
    const HOUR_US: i64 = 3_600_000_000;

    /// Steps an hour ahead.
    fn near(event: bool) -> Group {
        Group::of(HOUR_US, When::of_flag(event))
    }

    fn recent(quiet: f64, during: f64, event_days: i64) -> Recent {
        let mut recent = Recent::default();
        (0..100).for_each(|_| recent.add(near(false), quiet, 1.0, 0));
        (0..event_days).for_each(|day| recent.add(near(true), during, 1.0, (day + 1) * DAY_US));
        recent
    }

    #[test]
    fn the_better_family_counts_more_and_within_events_the_better_there() {
        let parts = [Part::new(recent(0.1, 0.3, 20), 1.0, &[]), Part::new(recent(0.12, 0.2, 20), 1.0, &[])];
        let (quiet, during) = (weights(&parts, near(false)), weights(&parts, near(true)));
        assert!(quiet[0] > quiet[1] && during[1] > during[0], "{quiet:?} {during:?}");
        assert!((quiet.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        // One day with events changes little.
        let parts = [Part::new(recent(0.1, 0.3, 1), 1.0, &[]), Part::new(recent(0.12, 0.2, 1), 1.0, &[])];
        let [first, second] = weights(&parts, near(true))[..] else { panic!("two parts") };
        assert!(first > second, "{first} {second}");
        let hopeless = [Part::new(recent(0.1, 0.1, 9), 1.0, &[]), Part::new(recent(0.3, 0.3, 9), 1.0, &[])];
        assert_eq!(weights(&hopeless, near(false)), [1.0, 0.0]);
        // What counts is how each did as far ahead.
        let mut late = recent(0.1, 0.1, 0);
        late.add(Group::of(30 * HOUR_US, When::Quiet), 0.3, 1.0, 0);
        let mut early = recent(0.3, 0.3, 0);
        early.add(Group::of(30 * HOUR_US, When::Quiet), 0.1, 1.0, 0);
        let parts = [Part::new(late, 1.0, &[]), Part::new(early, 1.0, &[])];
        assert_eq!(weights(&parts, near(false)), [1.0, 0.0]);
        assert_eq!(weights(&parts, Group::of(30 * HOUR_US, When::Quiet)), [0.0, 1.0]);
        let unknown = [Part::new(Recent::default(), 1.0, &[]), Part::new(Recent::default(), 0.5, &[])];
        assert_eq!(weights(&unknown, near(false)), [2.0 / 3.0, 1.0 / 3.0]);
    }

    #[test]
    fn quantiles_are_averaged_and_move_with_the_anchor() {
        let part = |values: [f32; 6]| Part::new(recent(0.1, 0.1, 1), 1.0, &values);
        let parts = [part([90.0, 100.0, 110.0, 90.0, 100.0, 110.0]), part([80.0, 100.0, 130.0, 80.0, 100.0, 130.0])];
        let mut blend = Blend::default();
        let over = |blend: &Blend, base: f64, now: i64| {
            blend.over(&[base, base], &[When::Quiet; 2], (now, HOUR_US), &LEVELS, &Stretch([1.0; GROUPS]))
        };
        assert!(over(&blend, log(100.0), 0).is_none());
        blend.join((0, HOUR_US), &parts, &[log(100.0); 2], &[When::Quiet; 2], &LEVELS);
        let values = over(&blend, log(100.0), 0).expect("joined");
        // Geometric means of 91 and 81, of 111 and 131 (the log scale adds one).
        for (value, expected) in values.iter().zip([84.85, 100.0, 119.6]) {
            assert!((value - expected).abs() < 0.1, "{values:?}");
        }
        // Families that are apart are less certain together than each alone.
        let mut apart = Blend::default();
        let parts = [part([90.0, 100.0, 110.0, 90.0, 100.0, 110.0]), part([108.0, 120.0, 132.0, 108.0, 120.0, 132.0])];
        apart.join((0, HOUR_US), &parts, &[log(100.0); 2], &[When::Quiet; 2], &LEVELS);
        let wide = over(&apart, log(100.0), 0).expect("joined");
        let expected = 0.1_f64.hypot(1.2816 * 0.0905);
        assert!((f64::from(wide[2] / wide[1]).ln() - expected).abs() < 0.01, "{wide:?}");
        let doubled = over(&blend, log(200.0), HOUR_US).expect("joined");
        assert!((doubled[1] - 200.0).abs() < 0.1, "{doubled:?}");
    }

    #[test]
    fn intervals_widen_until_four_of_five_values_are_within() {
        let mut stretch = Stretch::default();
        for turn in 0..120_000 {
            // Values are spread evenly from -1 to 1 around 10; the interval starts too narrow.
            let actual = 10.0 + f64::from(turn * 7919 % 2_001) / 1_000.0 - 1.0;
            let half = 0.6 * stretch.of(near(false));
            #[expect(clippy::cast_possible_truncation, reason = "a test")]
            stretch.adapt(near(false), &LEVELS, &[(10.0 - half) as f32, 10.0, (10.0 + half) as f32], actual);
        }
        assert!((0.6 * stretch.of(near(false)) - 0.8).abs() < 0.05, "{stretch:?}");
        assert!((stretch.of(near(true)) - FIRST_STRETCH).abs() < 1e-9);
    }
}
