//! Boosted quantiles on top of a ridge: trees learn what the ridge misses, from lags, the calendar, event signals and the
//! ridge's own parts.
//!
//! Every row of the training set is what a forecast would have seen: an origin, a ridge that was fitted before it, the
//! signals known at it, and the value that came. So the trees learn from out-of-sample errors, and nothing looks ahead.
//! The target is the distance from the ridge's path without events, on the log scale.

mod examples;
mod frame;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::boost::{Boosted, Matrix, Settings};
use crate::calibration::Centres;
use crate::event::{EventBook, KnownEvent};
use crate::ridge::{Memory, Ridge};
use crate::scales::median;
use crate::{History, ModelError};
use examples::Examples;
use frame::Frame;

const FAMILY: &str = "boosted";
const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// No row before this much history.
const FIRST_DAYS: i64 = 7;
/// A history that is read at once is gone through in this many parts, each with a ridge of its own.
const PARTS: i64 = 40;
/// Trees are grown anew after this part of the history's length.
const TRAININGS: i64 = 50;
/// A ridge of years is worth its time from this much history on.
const LONG_FROM_DAYS: i64 = 90;
/// Origins that a training set aims at.
const ORIGINS: i64 = 250;
/// Hours between origins; none divides a day, so that all times of day are among them.
const STRIDES: [i64; 16] = [5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 67];
/// Steps that are looked at of one origin, when it has more than a few.
const STEPS: usize = 48;
const FEW_STEPS: usize = 64;
const MIN_ROWS: usize = 500;
const BINS: usize = 127;
/// The usual width is no less than this, on the log scale.
const MIN_WIDTH: f64 = 0.01;
/// Widths are no further from the usual one of a path than this factor: the trees see few rows at the edges.
const WIDTH_RANGE: f64 = 1.6;
/// So far outside of its range, as a part of it, a column makes a row unlike all that were seen.
const FAR_OUTSIDE: f64 = 0.5;
/// The levels that are fitted: the centre, and the width of the interval of 80 %.
const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
/// The rows of signals look back this far for what was on at the lags.
const EVENTS_BACK_US: i64 = 30 * DAY_US;

/// Ridges that were fitted at one time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Base {
    at_us: i64,
    short: Ridge,
    long: Option<Ridge>,
}

/// The family's state: its training set grows with the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Learned {
    horizon_steps: usize,
    step_us: i64,
    stride: i64,
    bases: VecDeque<Base>,
    examples: Examples,
    /// Every step before has given its rows.
    done_us: i64,
    /// When the trees were grown.
    trained_us: i64,
    model: Option<Boosted>,
    /// Of the columns that tell of the load, as the trees have seen them.
    ranges: Vec<(f32, f32)>,
}

impl Learned {
    /// A first fit, or the next one of `previous`, at the end of the history.
    pub(crate) fn fit(
        history: &History,
        book: &EventBook,
        horizon_steps: usize,
        (short, long): (Ridge, Option<Ridge>),
        previous: Option<&Learned>,
    ) -> Result<Self, ModelError> {
        let mut learned = match previous {
            Some(previous) if previous.horizon_steps == horizon_steps => previous.clone(),
            Some(_) | None => Self::begun(history, book, horizon_steps)?,
        };
        let now_us = history.end_us();
        let part_us = ((now_us - learned.done_us) / PARTS).max(DAY_US);
        while learned.done_us < now_us - part_us {
            let to_us = learned.done_us + part_us;
            learned.learn_until(history, book, to_us);
            learned.stand_on(Base::fit(history, book, to_us)?);
        }
        learned.learn_until(history, book, now_us);
        learned.stand_on(Base { at_us: now_us, short, long });
        let due_us = ((now_us - history.start_us()) / TRAININGS).max(DAY_US);
        if now_us.saturating_sub(learned.trained_us) >= due_us {
            learned.train(history)?;
            learned.trained_us = now_us;
        }
        Ok(learned)
    }

    fn begun(history: &History, book: &EventBook, horizon_steps: usize) -> Result<Self, ModelError> {
        let (from_us, step_us) = (history.start_us(), history.step_us());
        let done_us = from_us + (FIRST_DAYS * DAY_US).max(30 * step_us);
        let hours = (history.end_us() - done_us) / HOUR_US / ORIGINS;
        let stride = STRIDES.into_iter().find(|stride| *stride >= hours).unwrap_or(71);
        let base = Base::fit(history, book, done_us)?;
        Ok(Self {
            horizon_steps,
            step_us,
            stride,
            bases: VecDeque::from([base]),
            examples: Examples::default(),
            done_us,
            trained_us: i64::MIN,
            model: None,
            ranges: Vec::new(),
        })
    }

    /// Adds the rows of the steps up to `to_us`.
    fn learn_until(&mut self, history: &History, book: &EventBook, to_us: i64) {
        let step_us = history.step_us();
        let horizon_us = step_us * i64::try_from(self.horizon_steps).unwrap_or(0);
        let every_us = if step_us >= DAY_US { step_us } else { self.stride * HOUR_US };
        let first_us = self.bases.front().map_or(self.done_us, |base| base.at_us);
        let earliest = first_us.max(self.done_us - horizon_us);
        let mut origin_us = earliest + (-earliest).rem_euclid(every_us);
        while origin_us < to_us {
            let base = self.bases.iter().rev().find(|base| base.at_us <= origin_us);
            if let Some(base) = base {
                let seen = history.until(origin_us, frame::BACK_US);
                let events = book.known(origin_us, origin_us - EVENTS_BACK_US, origin_us + horizon_us);
                let frame = Frame::new(&seen, &events, &base.short, base.long.as_ref(), self.horizon_steps);
                let steps = sampled(self.horizon_steps, origin_us / every_us);
                for (step, at_us) in steps.map(|step| (step, origin_us + step_us * i64::try_from(step).unwrap_or(0))) {
                    if (self.done_us..to_us).contains(&at_us)
                        && let Some(value) = history.at(at_us)
                    {
                        self.examples.push(at_us, &frame, step, value);
                    }
                }
            }
            origin_us += every_us;
        }
        self.done_us = to_us;
    }

    /// Ridges for the origins from now on; those that no row needs any more go.
    fn stand_on(&mut self, base: Base) {
        let horizon_us = self.step_us * i64::try_from(self.horizon_steps).unwrap_or(0);
        while self.bases.get(1).is_some_and(|next| next.at_us <= base.at_us - horizon_us) {
            self.bases.pop_front();
        }
        self.bases.push_back(base);
    }

    fn train(&mut self, history: &History) -> Result<(), ModelError> {
        let rows = self.examples.len();
        if rows < MIN_ROWS {
            let problem = format!("{rows} rows are too few to learn from");
            return Err(ModelError::Fit { family: FAMILY, problem });
        }
        let settings = Settings {
            rounds: 90,
            leaves: 16,
            learning_rate: 0.08,
            min_rows: 20,
            l2: 1.0,
            row_share: 0.8,
            feature_share: 0.8,
            seed: 1,
        };
        let matrix = Matrix::try_new(self.examples.columns(), BINS)?;
        let weights = self.examples.weights(history);
        self.ranges = self.examples.ranges();
        self.model = Some(Boosted::fit(&matrix, self.examples.targets(), Some(&weights), &LEVELS, &settings)?);
        Ok(())
    }

    /// The path; its widths are those of the interval of 80 %, relative to the usual one.
    pub(crate) fn predict(&self, history: &History, events: &[&KnownEvent], steps: usize) -> Centres {
        let (Some(base), Some(model)) = (self.bases.back(), &self.model) else { return Default::default() };
        let frame = Frame::new(history, events, &base.short, base.long.as_ref(), steps);
        let mut row = Vec::with_capacity(frame::COLUMNS);
        let mut out = [0.0_f32; LEVELS.len()];
        let (mut medians, mut widths) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
        for step in 0..steps {
            row.clear();
            frame.push_row(step, &mut row);
            model.predict(&row, &mut out);
            out.sort_by(f32::total_cmp);
            let [low, middle, high] = out.map(f64::from);
            medians.push(frame.base(step) + trust(&row, &self.ranges) * middle);
            widths.push((high - low) / 2.0);
        }
        let usual = median(widths.clone()).max(MIN_WIDTH);
        // Their shape alone: how wide the interval is on the whole, residuals tell better than few rows do.
        widths.iter_mut().for_each(|width| *width = (*width / usual).clamp(1.0 / WIDTH_RANGE, WIDTH_RANGE));
        Centres { medians, widths }
    }

    /// The trees and the ridges they stand on, without the rows they were grown from.
    pub(crate) fn without_training(&self) -> Self {
        let bases = self.bases.back().cloned().into_iter().collect();
        let (model, ranges) = (self.model.clone(), self.ranges.clone());
        Self { bases, examples: Examples::default(), model, ranges, ..*self }
    }

    pub(crate) fn parameters(&self) -> serde_json::Value {
        let trees = self.model.as_ref().map_or(0, Boosted::trees);
        serde_json::json!({
            "rows": self.examples.len(), "trees": trees, "levels": LEVELS, "hours_between_origins": self.stride,
            "long_base": self.bases.back().is_some_and(|base| base.long.is_some()),
        })
    }
}

impl Base {
    fn fit(history: &History, book: &EventBook, at_us: i64) -> Result<Self, ModelError> {
        let seen = history.until(at_us, i64::MAX);
        let events = book.known(at_us, seen.start_us(), at_us + 15 * DAY_US);
        let short = Ridge::fit(&seen, &events, Memory::Short)?;
        let is_long = at_us - seen.start_us() >= LONG_FROM_DAYS * DAY_US;
        let long = if is_long { Some(Ridge::fit(&seen, &events, Memory::Long)?) } else { None };
        Ok(Self { at_us, short, long })
    }
}

/// The steps that are looked at: all of a short horizon, or some, other ones for each origin.
fn sampled(steps: usize, turn: i64) -> impl Iterator<Item = usize> {
    let every = if steps <= FEW_STEPS { 1 } else { steps.div_ceil(STEPS) };
    let first = usize::try_from(turn.rem_euclid(i64::try_from(every).unwrap_or(1))).unwrap_or(0);
    (first..steps).step_by(every)
}

/// How much of what the trees say is believed: nothing of a row that is far outside of what they have seen.
fn trust(row: &[f32], ranges: &[(f32, f32)]) -> f64 {
    let outside = |(cell, (low, high)): (&f32, &(f32, f32))| {
        let beyond = (cell - high).max(low - cell).max(0.0);
        f64::from(beyond / (high - low).max(1e-6))
    };
    let load = row.get(frame::OF_LOAD).unwrap_or_default();
    let furthest = load.iter().zip(ranges).map(outside).fold(0.0, f64::max);
    (1.0 - furthest / FAR_OUTSIDE).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_not_believed_far_outside_of_what_they_saw() {
        let ranges = vec![(0.0, 2.0); frame::OF_LOAD.len()];
        let trust = |cell: f32| {
            let mut row = vec![1.0; frame::COLUMNS];
            row[frame::OF_LOAD.start] = cell;
            trust(&row, &ranges)
        };
        let cases = [(0.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0), (2.5, 0.5), (-0.5, 0.5), (3.0, 0.0), (-9.0, 0.0)];
        for (cell, expected) in cases {
            assert!((trust(cell) - expected).abs() < 1e-6, "{cell}: {}", trust(cell));
        }
    }
}
