//! What a forecast sees at its origin, as the columns that the trees split on.

use crate::History;
use crate::event::KnownEvent;
use crate::ridge::{Ridge, Standing};
use crate::scales::log;

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// History that is looked at: four weeks before a step of a long horizon, and a few days for gaps.
pub(super) const BACK_US: i64 = 45 * DAY_US;
/// Columns of a row: what an origin tells, and behind it what the workload is like.
pub(super) const COLUMNS: usize = OF_ORIGIN + OF_WORKLOAD;
pub(super) const OF_ORIGIN: usize = 25;
const OF_WORKLOAD: usize = 4;
/// Those that tell of the load: beyond the range that was seen, trees only guess.
pub(super) const OF_LOAD: std::ops::Range<usize> = 4..16;
/// How long before its start and behind its end a signal is told of.
const NEAR_US: i64 = 48 * HOUR_US;
/// A mean year of the Gregorian calendar.
const YEAR_US: i64 = 31_556_952_000_000;

/// One origin: the history ends there.
pub(super) struct Frame<'a> {
    history: &'a History,
    events: &'a [&'a KnownEvent],
    /// The ridge that is the base.
    ridge: Standing<'a>,
    knows_years: bool,
    /// The short ridge, when the base is the long one.
    short: Option<Standing<'a>>,
    level_day: f64,
    level_week: f64,
    last_hour: f64,
    workload: [f64; OF_WORKLOAD],
}

impl<'a> Frame<'a> {
    pub(super) fn new(
        history: &'a History,
        events: &'a [&'a KnownEvent],
        short: &'a Ridge,
        long: Option<&'a Ridge>,
    ) -> Self {
        let ridge = long.unwrap_or(short);
        let step_us = history.step_us();
        let mean = |length_us: i64| mean(history, usize::try_from(length_us / step_us).unwrap_or(1).max(1), 0);
        let per_day = usize::try_from(DAY_US / step_us).unwrap_or(1).max(1);
        let hour = usize::try_from(HOUR_US / step_us).unwrap_or(1).max(1);
        Self {
            history,
            events,
            ridge: ridge.standing(history, events),
            knows_years: ridge.knows_years(),
            short: long.map(|_| short.standing(history, events)),
            level_day: mean(DAY_US),
            level_week: mean(7 * DAY_US),
            last_hour: self::mean(history, hour, 0) - self::mean(history, hour, per_day),
            workload: of_workload(history, per_day),
        }
    }

    /// The base's forecast of one step, on the log scale, and the step's columns.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "hours and days")]
    pub(super) fn row(&self, step: usize) -> (f64, [f32; COLUMNS]) {
        let (origin_us, step_us) = (self.history.end_us(), self.history.step_us());
        let at_us = origin_us + step_us * i64::try_from(step).unwrap_or(0);
        let mut seasons = Vec::new();
        // Without what events do, so that a first event does not look like a fall of everything else.
        let (quiet, response) = self.ridge.at(step, &mut seasons);
        let base = quiet + response;
        let day_of_week = at_us.div_euclid(DAY_US).rem_euclid(7) as f64;
        let hours = |us: i64| us as f64 / HOUR_US as f64;
        let back_to = |period_us: i64| at_us - period_us * ((at_us - origin_us).div_euclid(period_us) + 1);
        let lag = |lag_us: i64| {
            self.history.at(lag_us).map_or(f64::NAN, |value| log(value) - self.ridge.response_at(lag_us) - quiet)
        };
        let (day_us, week_us) = (back_to(DAY_US), back_to(7 * DAY_US));
        let weeks: Vec<f64> = (0..4).map(|k| lag(week_us - k * 7 * DAY_US)).filter(|lag| lag.is_finite()).collect();
        let of_year = if self.knows_years { at_us.rem_euclid(YEAR_US) as f64 / DAY_US as f64 } else { f64::NAN };
        let short = self.short.as_ref().map_or(f64::NAN, |short| {
            let (without, response) = short.at(step, &mut seasons);
            without + response - base
        });
        let numbers = [
            hours(at_us - origin_us),
            hours(at_us.rem_euclid(DAY_US)),
            day_of_week,
            of_year,
            lag(day_us),
            lag(day_us - DAY_US),
            lag(week_us),
            weeks.iter().sum::<f64>() / weeks.len() as f64,
            self.level_day - quiet,
            self.level_week - quiet,
            self.last_hour,
            response,
            short,
            self.level_day - self.level_week,
            self.ridge.response_at(day_us),
            self.ridge.response_at(week_us),
        ];
        let signals = self.of_signals(at_us, at_us + step_us);
        let mut row = [f32::NAN; COLUMNS];
        for (cell, number) in row.iter_mut().zip(numbers.iter().chain(&signals).chain(&self.workload)) {
            *cell = *number as f32;
        }
        (base, row)
    }

    /// Of the signal that is nearest to the step, and how many are on.
    #[expect(clippy::cast_precision_loss, reason = "hours, and counts of signals")]
    fn of_signals(&self, from_us: i64, to_us: i64) -> [f64; 9] {
        let hours = |us: i64| us as f64 / HOUR_US as f64;
        let distance = |event: &KnownEvent| (event.starts_at_us - to_us).max(from_us - event.ends_at_us).max(0);
        let near = self.events.iter().filter(|event| distance(event) < NEAR_US);
        let active = self.events.iter().filter(|event| distance(event) == 0).count() as f64;
        let to_come =
            self.events.iter().map(|event| event.starts_at_us - from_us).filter(|us| (0..NEAR_US).contains(us));
        let next = to_come.min().map_or(f64::NAN, hours);
        let since = self.events.iter().map(|event| from_us - event.ends_at_us).filter(|us| (0..NEAR_US).contains(us));
        let since = since.min().map_or(f64::NAN, hours);
        let Some(nearest) = near.min_by_key(|event| (distance(event), -event.starts_at_us)) else {
            return [active, next, since, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN];
        };
        [
            active,
            next,
            since,
            hours(from_us - nearest.starts_at_us),
            hours(nearest.ends_at_us - from_us),
            hours(nearest.ends_at_us - nearest.starts_at_us),
            nearest.weight,
            nearest.audience_size.map_or(f64::NAN, f64::ln_1p),
            kind_number(&nearest.kind),
        ]
    }
}

/// What the workload is like, from the last week: its mean, how far it swings, how rough it is from step to step, and how
/// well it repeats the day before; all on the log scale, NaN where too little is known.
fn of_workload(history: &History, per_day: usize) -> [f64; OF_WORKLOAD] {
    let days = if per_day > 1 { 7 } else { 28 };
    let logs: Vec<f64> = history.last(days * per_day + per_day).map(|(_, value)| value.map_or(f64::NAN, log)).collect();
    let apart = |steps: usize| {
        let pairs = logs.iter().zip(logs.iter().skip(steps)).map(|(before, after)| (after - before).abs());
        mean_of(pairs)
    };
    let mean = mean_of(logs.iter().copied());
    let swing = mean_of(logs.iter().map(|log| (log - mean).powi(2))).sqrt();
    [mean, swing, apart(1), apart(if per_day > 1 { per_day } else { 7 })]
}

fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.filter(|value| !value.is_nan()).fold((0.0, 0.0), |(s, n), value| (s + value, n + 1.0));
    sum / count
}

/// The kinds of signals, in an order of their own.
fn kind_number(kind: &str) -> f64 {
    match kind {
        "campaign" => 0.0,
        "sale" => 1.0,
        "launch" => 2.0,
        "match" => 3.0,
        "holiday" => 4.0,
        "maintenance" => 5.0,
        _ => 6.0,
    }
}

/// Mean of the logs of `steps` steps, which end `skip` steps before the end; NaN when all are gaps.
fn mean(history: &History, steps: usize, skip: usize) -> f64 {
    let values = history.last(steps + skip).take(steps).filter_map(|(_, value)| value);
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + log(value), count + 1.0));
    sum / count
}
