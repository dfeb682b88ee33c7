//! One family in an engine: its fitted model, what it has forecast, and how it did. The champion is served; the
//! challengers forecast beside it, less often, and are scored on the same steps.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::calibration::{Calibration, Centres, Group};
use crate::ensemble::{Recent, Stretch};
use crate::event::EventBook;
use crate::family::{Family, Fitted};
use crate::scales::log;
use crate::score::Sums;
use crate::{EngineConfig, History};

const MIN_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MIN_US;
/// Forecasts from origins this far apart are kept until they mature: neighbours tell the same.
const KEPT_EVERY_US: i64 = 15 * MIN_US;
/// How far ahead of their origin, at the most two in each of the calibration's groups but the last.
const KEPT_AHEAD_US: [i64; 19] = [
    0,
    10 * MIN_US,
    20 * MIN_US,
    45 * MIN_US,
    90 * MIN_US,
    150 * MIN_US,
    4 * HOUR_US,
    6 * HOUR_US,
    10 * HOUR_US,
    16 * HOUR_US,
    24 * HOUR_US - 1,
    30 * HOUR_US,
    36 * HOUR_US,
    47 * HOUR_US,
    3 * 24 * HOUR_US,
    5 * 24 * HOUR_US,
    7 * 24 * HOUR_US,
    10 * 24 * HOUR_US,
    13 * 24 * HOUR_US,
];
/// Signals of the last days tell what was on at the lags.
const EVENTS_BACK_US: i64 = 30 * 24 * HOUR_US;
/// Hours of losses that are kept.
const LOSS_HOURS: usize = 24 * 15;

/// Scores of one family over the forecasts that have matured in one hour of event time.
#[derive(Clone, Debug, PartialEq)]
pub struct MaturedScore {
    /// The family.
    pub model: String,
    /// Steps scored.
    pub steps: u64,
    /// Mean pinball loss over the deciles, summed.
    pub pinball: f64,
    /// |median - actual|, summed.
    pub abs_error: f64,
    /// Actuals, summed.
    pub actual: f64,
    /// Steps within [.1, .9].
    pub in_80: u64,
    /// Steps within [.025, .975].
    pub in_95: u64,
}

/// A forecast for one step, kept until the step has closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    due_us: i64,
    ahead_us: i64,
    event: bool,
    median_log: f64,
    width: f64,
    quantiles: Vec<f32>,
}

/// A family at work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Track {
    pub(crate) family: Family,
    pub(crate) fitted: Option<Fitted>,
    pub(crate) fitted_at_us: i64,
    pub(crate) version: String,
    calibration: Calibration,
    /// Of the ensemble, whose quantiles come from those of the others.
    pub(crate) stretch: Stretch,
    kept: VecDeque<Kept>,
    hour: Sums,
    hour_us: i64,
    /// Absolute error and actual, summed by hour, newest last.
    losses: VecDeque<(f64, f64)>,
    pub(crate) recent: Recent,
}

/// A path of a track: medians on the log scale, their steps' flags, and quantiles.
pub(crate) struct Path {
    pub(crate) medians: Vec<f64>,
    pub(crate) event_steps: Vec<bool>,
    pub(crate) values: Vec<f32>,
}

impl Track {
    pub(crate) fn new(family: Family, config: &EngineConfig) -> Self {
        Self {
            family,
            fitted: None,
            fitted_at_us: i64::MIN,
            version: String::new(),
            calibration: Calibration::new(&config.levels),
            stretch: Stretch::default(),
            kept: VecDeque::new(),
            hour: Sums::default(),
            hour_us: 0,
            losses: VecDeque::new(),
            recent: Recent::default(),
        }
    }

    /// The same without the rows it was trained on and the forecasts that wait for their values.
    pub(crate) fn without_training(&self) -> Self {
        let fitted = self.fitted.as_ref().map(Fitted::without_training);
        Self {
            family: self.family,
            fitted,
            version: self.version.clone(),
            calibration: self.calibration.clone(),
            kept: VecDeque::new(),
            losses: VecDeque::new(),
            hour: Sums::default(),
            recent: self.recent.clone(),
            // Where it goes, the time may be earlier.
            hour_us: 0,
            ..*self
        }
    }

    /// Forecasts the horizon behind the end of the history, with the events known then.
    pub(crate) fn forecast(&mut self, history: &History, book: &EventBook, config: &EngineConfig) -> Option<Path> {
        let fitted = self.fitted.as_ref()?;
        let (origin_us, steps) = (history.end_us(), config.horizon_steps);
        let until_us = origin_us + config.step_us * i64::try_from(steps).ok()?;
        let events = book.known(origin_us, origin_us - EVENTS_BACK_US, until_us);
        let centres = fitted.predict(history, &events, steps);
        let flag = |k: i64| events.iter().any(|event| event.flags(origin_us + k * config.step_us, config.step_us));
        let event_steps: Vec<bool> = (0..).take(steps).map(flag).collect();
        Some(self.settle(origin_us, centres, event_steps, config))
    }

    /// From a path to quantiles, which are kept until they mature.
    fn settle(&mut self, origin_us: i64, centres: Centres, event_steps: Vec<bool>, config: &EngineConfig) -> Path {
        let values = self.calibration.quantiles(&centres, &event_steps, config.step_us);
        self.keep(origin_us, &centres, &event_steps, &values, config);
        Path { medians: centres.medians, event_steps, values }
    }

    /// A path whose quantiles are known, kept until they mature.
    pub(crate) fn take(&mut self, origin_us: i64, path: Path, config: &EngineConfig) -> Path {
        let centres = Centres::even(path.medians);
        self.keep(origin_us, &centres, &path.event_steps, &path.values, config);
        Path { medians: centres.medians, ..path }
    }

    fn keep(&mut self, origin_us: i64, centres: &Centres, events: &[bool], values: &[f32], config: &EngineConfig) {
        if origin_us.rem_euclid(KEPT_EVERY_US.max(config.step_us)) != 0 {
            return;
        }
        let levels = config.levels.len();
        let mut before = usize::MAX;
        for ahead_us in KEPT_AHEAD_US {
            let step = usize::try_from(ahead_us / config.step_us).unwrap_or(0);
            let centre = centres.medians.get(step).zip(centres.widths.get(step));
            let (Some((median, width)), Some(event)) = (centre, events.get(step)) else { continue };
            if step == before {
                continue;
            }
            before = step;
            let ahead_us = config.step_us * i64::try_from(step).unwrap_or(0);
            self.kept.push_back(Kept {
                due_us: origin_us + ahead_us,
                ahead_us,
                event: *event,
                median_log: *median,
                width: *width,
                quantiles: values.get(step * levels..(step + 1) * levels).unwrap_or_default().to_vec(),
            });
        }
    }

    /// Scores what was forecast for the step that starts at `start_us`; at the turn of an hour gives its score.
    pub(crate) fn mature(&mut self, start_us: i64, actual: Option<f64>, levels: &[f64]) -> Option<MaturedScore> {
        let hour_us = start_us.div_euclid(HOUR_US) * HOUR_US;
        let closed = if hour_us > self.hour_us { self.close_hour(hour_us) } else { None };
        let mut waiting = VecDeque::with_capacity(self.kept.len());
        for kept in std::mem::take(&mut self.kept) {
            if kept.due_us > start_us {
                waiting.push_back(kept);
            } else if kept.due_us == start_us
                && let Some(actual) = actual
            {
                let before = self.hour.pinball;
                self.hour.add(levels, &kept.quantiles, actual);
                let group = Group::of(kept.ahead_us, kept.event);
                self.recent.add(group, self.hour.pinball - before, actual, start_us);
                self.calibration.adapt(group, &kept.quantiles, actual);
                self.stretch.adapt(group, levels, &kept.quantiles, actual);
                // Origins within an hour tell the same.
                if (kept.due_us - kept.ahead_us).rem_euclid(HOUR_US) == 0 {
                    self.calibration.keep(group, kept.due_us, (kept.median_log, kept.width), actual);
                }
            }
        }
        self.kept = waiting;
        closed
    }

    fn close_hour(&mut self, hour_us: i64) -> Option<MaturedScore> {
        let sums = std::mem::take(&mut self.hour);
        self.hour_us = hour_us;
        self.recent.fade();
        if sums.steps == 0 {
            return None;
        }
        self.losses.push_back((sums.abs_error, sums.actual));
        if self.losses.len() > LOSS_HOURS {
            self.losses.pop_front();
        }
        Some(MaturedScore {
            model: self.family.name().to_owned(),
            steps: sums.steps,
            pinball: sums.pinball,
            abs_error: sums.abs_error,
            actual: sums.actual,
            in_80: sums.in_80,
            in_95: sums.in_95,
        })
    }

    /// Loss of the last `hours`, behind the newest `skip`: absolute error over actual; none when fewer are known.
    pub(crate) fn loss(&self, skip: usize, hours: usize) -> Option<f64> {
        if self.losses.len() < skip + hours {
            return None;
        }
        let (error, actual) = self
            .losses
            .iter()
            .rev()
            .skip(skip)
            .take(hours)
            .fold((0.0, 0.0), |sums, loss| (sums.0 + loss.0, sums.1 + loss.1));
        (actual > 0.0).then(|| error / actual)
    }

    /// How much worse than before the last day was: its loss over that of the time before, up to two weeks.
    pub(crate) fn worsening(&self) -> Option<f64> {
        let before = (self.losses.len().saturating_sub(24)).min(24 * 14);
        if before < 24 * 3 {
            return None;
        }
        Some(self.loss(0, 24)? / self.loss(24, before)?.max(1e-9))
    }
}

/// Is the value usable as a log target?
pub(crate) fn usable(value: f64) -> bool {
    value.is_finite() && log(value).is_finite() && value >= 0.0
}
