//! Boosted quantiles on top of a ridge: trees learn what the ridge misses, from lags, the calendar, event signals and the
//! ridge's own parts.
//!
//! Every row of the training set is what a forecast would have seen: an origin, a ridge that was fitted before it, the
//! signals known at it, and the value that came. So the trees learn from out-of-sample errors, and nothing looks ahead.
//! The target is the distance from the ridge's path, on the log scale.
//!
//! An engine alone grows trees of its own. Engines that share trees (`crate::shared`) give their rows away and borrow.

mod frame;
mod gather;
mod rows;
mod trees;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use gather::Gatherer;
pub(crate) use rows::Row;
pub(crate) use trees::Trees;

use crate::calibration::Centres;
use crate::event::{EventBook, KnownEvent, Responses};
use crate::ridge::{Memory, Ridge};
use crate::{History, ModelError};
use frame::Frame;

const FAMILY: &str = "boosted";
const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// A ridge of years is worth its time from this much history on.
const LONG_FROM_DAYS: i64 = 90;
/// Rows of one's own; beyond, the oldest tenth goes.
const MAX_ROWS: usize = 60_000;

/// Ridges that were fitted at one time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Base {
    pub(crate) short: Ridge,
    pub(crate) long: Option<Ridge>,
}

/// The family's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// What the trees correct: never older than a day.
    base: Base,
    own: Option<Own>,
    /// Borrowed; not part of the state.
    #[serde(skip)]
    lent: Option<Arc<Trees>>,
}

/// Trees of its own, and the rows they grow from, which grow with the history.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Own {
    trees: Trees,
    training: Option<(Gatherer, Vec<Row>)>,
}

impl Learned {
    /// A first fit, or the next one of `previous`, at the end of the history, with trees of its own.
    pub(crate) fn fit(
        history: &History,
        book: &EventBook,
        horizon_steps: usize,
        base: Base,
        previous: Option<&Learned>,
    ) -> Result<Self, ModelError> {
        let previous = previous.and_then(|previous| previous.own.as_ref());
        let training =
            previous.and_then(|own| own.training.clone()).filter(|(gatherer, _)| gatherer.is_of(horizon_steps));
        let (mut gatherer, mut rows) =
            training.unwrap_or_else(|| (Gatherer::new(history, horizon_steps, 0), Vec::new()));
        rows.extend(gatherer.gather(history, book, |_| true, Some(base.clone()))?);
        while rows.len() > MAX_ROWS {
            rows.drain(..MAX_ROWS / 10);
        }
        let (now_us, length_us) = (history.end_us(), history.end_us() - history.start_us());
        let trees = match previous.map(|own| &own.trees) {
            Some(trees) if !Trees::is_due(trees.grown_us, now_us, length_us) => trees.clone(),
            _ => Trees::grow(&rows.iter().collect::<Vec<_>>(), 1, now_us, length_us)?,
        };
        let own = Some(Own { trees, training: Some((gatherer, rows)) });
        Ok(Self { base, own, lent: None })
    }

    /// On these ridges, with borrowed trees; those of `previous` until others are lent.
    pub(crate) fn borrowing(base: Base, previous: Option<&Learned>) -> Self {
        Self { base, own: None, lent: previous.and_then(|previous| previous.lent.clone()) }
    }

    /// Borrows these trees from now on, unless it has its own.
    pub(crate) fn lend(&mut self, trees: Option<Arc<Trees>>) {
        self.lent = trees;
    }

    /// Its own, or those that it borrows.
    pub(crate) fn trees(&self) -> Option<&Trees> {
        self.own.as_ref().map(|own| &own.trees).or(self.lent.as_deref())
    }

    /// The path; empty without trees.
    pub(crate) fn predict(&self, history: &History, events: &[&KnownEvent], steps: usize) -> Centres {
        let Some(trees) = self.trees() else { return Centres::default() };
        trees.centres(&Frame::new(history, events, &self.base.short, self.base.long.as_ref()), steps)
    }

    /// The trees and the ridges they stand on, without the rows they were grown from; borrowed trees become its own,
    /// unless they stay apart.
    pub(crate) fn without_training(&self, is_alone: bool) -> Self {
        let own = self.trees().filter(|_| is_alone || self.own.is_some());
        let own = own.map(|trees| Own { trees: trees.clone(), training: None });
        Self { base: self.base.clone(), own, lent: None }
    }

    pub(crate) fn parameters(&self) -> serde_json::Value {
        let stride = self.own.as_ref().and_then(|own| own.training.as_ref()).map(|(gatherer, _)| gatherer.stride());
        serde_json::json!({
            "trees": self.trees().map(Trees::parameters), "hours_between_origins": stride,
            "long_base": self.base.long.is_some(), "shared": self.own.is_none(),
        })
    }
}

impl Base {
    /// As it would have been fitted at `at_us`.
    fn fit(history: &History, book: &EventBook, at_us: i64) -> Result<Self, ModelError> {
        let seen = history.until(at_us, i64::MAX);
        let events = book.known(at_us, seen.start_us(), at_us + 15 * DAY_US);
        // What was known elsewhere by then is not kept.
        let elsewhere = Responses::default();
        let short = Ridge::fit(&seen, &events, Memory::Short, &elsewhere)?;
        let is_long = at_us - seen.start_us() >= LONG_FROM_DAYS * DAY_US;
        let long = if is_long { Some(Ridge::fit(&seen, &events, Memory::Long, &elsewhere)?) } else { None };
        Ok(Self { short, long })
    }
}
