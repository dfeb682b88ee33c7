//! One family in an engine: its fitted model, what it has forecast, and how it did. The champion is served; the
//! challengers forecast beside it, less often, and are scored on the same steps.

mod waiting;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::calibration::{Calibration, Centres, Group};
use crate::ensemble::{Recent, Stretch};
use crate::event::{EventBook, When};
use crate::family::{Family, Fitted};
use crate::history::make_room;
use crate::scales::log;
use crate::score::Sums;
use crate::{EngineConfig, History};
use waiting::{Step, Waiting};

const HOUR_US: i64 = 3_600_000_000;
/// Forecasts that reach further than this wait for long: of those only origins of full quarters of a day are kept.
const FAR_US: i64 = 96 * HOUR_US;
const FAR_EVERY_US: i64 = 6 * HOUR_US;
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
    waiting: Waiting,
    hour: Sums,
    hour_us: i64,
    /// Absolute error and actual, summed by hour, newest last.
    losses: VecDeque<(f32, f32)>,
    pub(crate) recent: Recent,
    /// Of who bets on it as a challenger.
    pub(crate) wealth: f64,
}

/// A path of a track: medians on the log scale, where their steps are, and quantiles.
pub(crate) struct Path {
    pub(crate) medians: Vec<f64>,
    pub(crate) when: Vec<When>,
    pub(crate) values: Vec<f32>,
}

impl Track {
    /// Of every family that takes part.
    pub(crate) fn all(config: &EngineConfig) -> Vec<Self> {
        let families = Family::ALL.iter().filter(|family| config.with_benchmark || !family.is_benchmark());
        families.map(|family| Self::new(*family, config)).collect()
    }

    pub(crate) fn new(family: Family, config: &EngineConfig) -> Self {
        // The ensemble's quantiles come from those of the others.
        let levels = if family == Family::Ensemble { &[] } else { config.levels.as_slice() };
        Self {
            family,
            fitted: None,
            fitted_at_us: i64::MIN,
            version: String::new(),
            calibration: Calibration::new(levels),
            stretch: Stretch::default(),
            waiting: Waiting::default(),
            hour: Sums::default(),
            hour_us: 0,
            losses: VecDeque::new(),
            recent: Recent::default(),
            wealth: 1.0,
        }
    }

    /// The same without the rows it was trained on and the forecasts that wait for their values.
    pub(crate) fn without_training(&self, is_alone: bool) -> Self {
        let fitted = self.fitted.as_ref().map(|fitted| fitted.without_training(is_alone));
        Self {
            family: self.family,
            fitted,
            version: self.version.clone(),
            calibration: self.calibration.without_offsets(),
            waiting: Waiting::default(),
            losses: VecDeque::new(),
            hour: Sums::default(),
            recent: self.recent.clone(),
            // Where it goes, the time may be earlier.
            hour_us: 0,
            ..*self
        }
    }

    /// Forecasts the horizon behind the end of the history, with the events known then; nothing as long as it is not fitted
    /// or waits for trees.
    pub(crate) fn forecast(&mut self, history: &History, book: &EventBook, config: &EngineConfig) -> Option<Path> {
        let fitted = self.fitted.as_ref()?;
        let (origin_us, steps) = (history.end_us(), config.horizon_steps);
        let until_us = origin_us + config.step_us * i64::try_from(steps).ok()?;
        let events = book.known(origin_us, origin_us - EVENTS_BACK_US, until_us);
        let centres = fitted.predict(history, &events, steps);
        if centres.medians.is_empty() {
            return None;
        }
        let near = book.near(origin_us, origin_us, until_us);
        let when = |k: i64| When::of(&near, origin_us + k * config.step_us, config.step_us);
        Some(self.settle(origin_us, centres, (0..).take(steps).map(when).collect(), config))
    }

    /// From a path to quantiles, which are kept until they mature.
    fn settle(&mut self, origin_us: i64, centres: Centres, when: Vec<When>, config: &EngineConfig) -> Path {
        let values = self.calibration.quantiles(&centres, &when, config.step_us);
        self.keep(origin_us, &centres, &when, &values, config);
        Path { medians: centres.medians, when, values }
    }

    /// A path whose quantiles are known, kept until they mature.
    pub(crate) fn take(&mut self, origin_us: i64, path: Path, config: &EngineConfig) -> Path {
        let centres = Centres::even(path.medians);
        self.keep(origin_us, &centres, &path.when, &path.values, config);
        Path { medians: centres.medians, ..path }
    }

    fn keep(&mut self, origin_us: i64, centres: &Centres, when: &[When], values: &[f32], config: &EngineConfig) {
        let reach_us = config.step_us.saturating_mul(i64::try_from(config.horizon_steps).unwrap_or(i64::MAX));
        if reach_us > FAR_US && origin_us.rem_euclid(FAR_EVERY_US) != 0 {
            return;
        }
        let levels = config.levels.len();
        for step in waiting::steps(origin_us, config.step_us) {
            let centre = centres.medians.get(step).zip(centres.widths.get(step));
            let (Some((median_log, width)), Some(when)) = (centre, when.get(step)) else { continue };
            let quantiles = values.get(step * levels..(step + 1) * levels).unwrap_or_default();
            let ahead_us = config.step_us * i64::try_from(step).unwrap_or(0);
            let step = Step { median_log: *median_log, width: *width, when: *when, quantiles };
            self.waiting.add(origin_us, ahead_us, step);
        }
    }

    /// Scores what was forecast for the step that starts at `start_us`; at the turn of an hour gives its score.
    pub(crate) fn mature(&mut self, start_us: i64, actual: Option<f64>, levels: &[f64]) -> Option<MaturedScore> {
        let hour_us = start_us.div_euclid(HOUR_US) * HOUR_US;
        let closed = if hour_us > self.hour_us { self.close_hour(hour_us) } else { None };
        for due in self.waiting.due(start_us) {
            let Some(actual) = actual else { continue };
            let before = self.hour.pinball;
            self.hour.add(levels, &due.quantiles, actual);
            let group = Group::of(due.due_us - due.origin_us, due.when);
            self.recent.add(group, self.hour.pinball - before, actual, start_us);
            if self.family == Family::Ensemble {
                // Its quantiles come from those of the others.
                self.stretch.adapt(group, levels, &due.quantiles, actual);
                continue;
            }
            self.calibration.adapt(group, &due.quantiles, actual);
            // Origins within an hour tell the same.
            if due.origin_us.rem_euclid(HOUR_US) == 0 {
                self.calibration.keep(group, due.due_us, (due.median_log, due.width), actual);
            }
        }
        closed
    }

    fn close_hour(&mut self, hour_us: i64) -> Option<MaturedScore> {
        let sums = std::mem::take(&mut self.hour);
        self.hour_us = hour_us;
        self.recent.fade();
        if sums.steps == 0 {
            return None;
        }
        if self.losses.len() >= LOSS_HOURS {
            self.losses.pop_front();
        }
        make_room(&mut self.losses);
        #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
        self.losses.push_back((sums.abs_error as f32, sums.actual as f32));
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
            .fold((0.0, 0.0), |sums, loss| (sums.0 + f64::from(loss.0), sums.1 + f64::from(loss.1)));
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
