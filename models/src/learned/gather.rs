//! Gathering rows: a walk through the origins of a history, with the ridges of their times.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::frame::{self, Frame};
use super::rows::Row;
use super::{Base, DAY_US, HOUR_US};
use crate::event::EventBook;
use crate::{History, ModelError};

/// No row before this much history.
const FIRST_DAYS: i64 = 7;
/// A history that is read at once is gone through in this many parts, each with a ridge of its own.
const PARTS: i64 = 40;
/// Origins that a training set aims at.
const ORIGINS: i64 = 800;
/// Hours between origins; none divides a day, so that all times of day are among them.
const STRIDES: [i64; 16] = [5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 67];
/// Steps that are looked at of one origin, when it has more than a few.
const STEPS: usize = 48;
const FEW_STEPS: usize = 64;
/// The rows of signals look back this far for what was on at the lags.
const EVENTS_BACK_US: i64 = 30 * DAY_US;

/// How far a history has been gone through.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Gatherer {
    horizon_steps: usize,
    step_us: i64,
    stride: i64,
    /// Times at which a ridge is fitted, and those that were needed.
    bases: VecDeque<(i64, Option<Base>)>,
    /// Every step before has given its rows.
    done_us: i64,
    /// Of the workload, so that those who share trees are thinned apart.
    workload: u64,
}

impl Gatherer {
    pub(crate) fn new(history: &History, horizon_steps: usize, workload: u64) -> Self {
        let (from_us, step_us) = (history.start_us(), history.step_us());
        let done_us = from_us + (FIRST_DAYS * DAY_US).max(30 * step_us);
        let hours = (history.end_us() - done_us) / HOUR_US / ORIGINS;
        let stride = STRIDES.into_iter().find(|stride| *stride >= hours).unwrap_or(71);
        Self { horizon_steps, step_us, stride, bases: VecDeque::from([(done_us, None)]), done_us, workload }
    }

    pub(super) fn is_of(&self, horizon_steps: usize) -> bool {
        self.horizon_steps == horizon_steps
    }

    pub(super) fn stride(&self) -> i64 {
        self.stride
    }

    /// The rows of the steps that have come since the last time, of origins that `is_wanted` by their key. `newest` are
    /// ridges that were fitted at the end of the history, when there are any.
    pub(crate) fn gather(
        &mut self,
        history: &History,
        book: &EventBook,
        is_wanted: impl Fn(u64) -> bool,
        newest: Option<Base>,
    ) -> Result<Vec<Row>, ModelError> {
        let now_us = history.end_us();
        let part_us = ((now_us - self.done_us) / PARTS).max(DAY_US);
        let mut rows = Vec::new();
        while self.done_us < now_us - part_us {
            let to_us = self.done_us + part_us;
            self.rows_until(history, book, &is_wanted, to_us, &mut rows)?;
            self.stand_on(to_us, None);
        }
        self.rows_until(history, book, &is_wanted, now_us, &mut rows)?;
        // Most workloads of many have no origin that is wanted before the next ridge.
        let soon = (0..).map(|k: i64| self.first_origin(now_us) + k * self.every_us());
        let is_needed = soon.take_while(|origin_us| *origin_us < now_us + DAY_US.max(self.step_us));
        let is_needed = is_needed.map(|origin_us| self.key(origin_us)).any(&is_wanted);
        self.stand_on(now_us, newest.filter(|_| is_needed));
        Ok(rows)
    }

    fn every_us(&self) -> i64 {
        if self.step_us >= DAY_US { self.step_us } else { self.stride * HOUR_US }
    }

    fn first_origin(&self, from_us: i64) -> i64 {
        from_us + (-from_us).rem_euclid(self.every_us())
    }

    fn horizon_us(&self) -> i64 {
        self.step_us * i64::try_from(self.horizon_steps).unwrap_or(0)
    }

    fn key(&self, origin_us: i64) -> u64 {
        mixed(self.workload ^ mixed(origin_us.unsigned_abs()))
    }

    fn rows_until(
        &mut self,
        history: &History,
        book: &EventBook,
        is_wanted: impl Fn(u64) -> bool,
        to_us: i64,
        rows: &mut Vec<Row>,
    ) -> Result<(), ModelError> {
        let first_us = self.bases.front().map_or(self.done_us, |(at_us, _)| *at_us);
        let mut origin_us = self.first_origin(first_us.max(self.done_us - self.horizon_us()));
        while origin_us < to_us {
            if is_wanted(self.key(origin_us)) {
                self.rows_of(history, book, origin_us, to_us, rows)?;
            }
            origin_us += self.every_us();
        }
        self.done_us = to_us;
        Ok(())
    }

    /// The rows of one origin up to `to_us`.
    fn rows_of(
        &mut self,
        history: &History,
        book: &EventBook,
        origin_us: i64,
        to_us: i64,
        rows: &mut Vec<Row>,
    ) -> Result<(), ModelError> {
        let (key, step_us) = (self.key(origin_us), self.step_us);
        let (horizon_us, turn) = (self.horizon_us(), origin_us / self.every_us());
        let Some((at_us, base)) = self.bases.iter_mut().rev().find(|(at_us, _)| *at_us <= origin_us) else {
            return Ok(());
        };
        let base = match base {
            Some(base) => base,
            None => base.insert(Base::fit(history, book, *at_us)?),
        };
        let seen = history.until(origin_us, frame::BACK_US);
        let events = book.known(origin_us, origin_us - EVENTS_BACK_US, origin_us + horizon_us);
        let frame = Frame::new(&seen, &events, &base.short, base.long.as_ref());
        for step in sampled(self.horizon_steps, turn) {
            let at_us = origin_us + step_us * i64::try_from(step).unwrap_or(0);
            if (self.done_us..to_us).contains(&at_us)
                && let Some(value) = history.at(at_us)
            {
                rows.push(Row::new(key, at_us, &frame, step, value));
            }
        }
        Ok(())
    }

    /// Ridges for the origins from now on; those that no row needs any more go.
    fn stand_on(&mut self, at_us: i64, base: Option<Base>) {
        let oldest_us = at_us - self.horizon_us();
        while self.bases.get(1).is_some_and(|(next_us, _)| *next_us <= oldest_us) {
            self.bases.pop_front();
        }
        self.bases.push_back((at_us, base));
    }
}

/// The finalizer of splitmix64 (Steele and others, 2014): every bit of the input moves half of those of the output.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// The steps that are looked at: all of a short horizon, or some, other ones for each origin.
fn sampled(steps: usize, turn: i64) -> impl Iterator<Item = usize> {
    let every = if steps <= FEW_STEPS { 1 } else { steps.div_ceil(STEPS) };
    let first = usize::try_from(turn.rem_euclid(i64::try_from(every).unwrap_or(1))).unwrap_or(0);
    (first..steps).step_by(every)
}
