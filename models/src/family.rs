//! What every family of models does, and the families there are.

use serde::{Deserialize, Serialize};

use crate::calibration::Centres;
use crate::event::{EventBook, KnownEvent};
use crate::learned::Learned;
use crate::mstl::Mstl;
use crate::ridge::{Memory, Ridge};
use crate::seasonal_naive::SeasonalNaive;
use crate::{History, ModelError};

const DAY_US: i64 = 86_400_000_000;
/// Fits of the slower families within a length of history.
const REFITS: i64 = 60;
const EVENTS_AHEAD_US: i64 = 15 * DAY_US;

/// A fitted model of one series.
pub trait Model {
    /// The family's name.
    fn name(&self) -> &'static str;

    /// The median of each of `steps` steps behind the end of `history`, on the log scale. `events` are those known at
    /// that moment.
    fn predict(&self, history: &History, events: &[&KnownEvent], steps: usize) -> Vec<f64>;

    /// Parameters for the record.
    fn parameters(&self) -> serde_json::Value;
}

/// The families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Multiplicative ridge with event response.
    RidgeEvents,
    /// The same with a memory of years.
    RidgeLong,
    /// The value of a week before, or of a day before.
    SeasonalNaive,
    /// Boosted quantiles on top of a ridge.
    Boosted,
    /// MSTL decomposition with ETS trend, of hourly means.
    AugursMstlEts,
}

/// A fitted model of any family.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Fitted {
    Ridge(Ridge),
    SeasonalNaive(SeasonalNaive),
    Mstl(Mstl),
    Learned(Box<Learned>),
}

impl Family {
    /// Every family, the first champion first.
    pub const ALL: [Family; 5] =
        [Family::RidgeEvents, Family::RidgeLong, Family::Boosted, Family::SeasonalNaive, Family::AugursMstlEts];

    /// The name in records and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RidgeEvents => "ridge-events",
            Self::RidgeLong => "ridge-long",
            Self::SeasonalNaive => "seasonal-naive",
            Self::Boosted => "boosted",
            Self::AugursMstlEts => "augurs-mstl-ets",
        }
    }

    /// How old a model may be: the short ridge follows the load, the others take their time, longer with more history.
    pub(crate) fn refit_after_us(self, configured_us: i64, history_us: i64) -> i64 {
        if self == Self::RidgeEvents { configured_us } else { configured_us.max(DAY_US).max(history_us / REFITS) }
    }

    /// Fits a model of this family, or goes on from the one before.
    ///
    /// # Errors
    /// When the history is too short or has nothing but gaps.
    pub(crate) fn fit(self, training: &Training<'_>, previous: Option<&Fitted>) -> Result<Fitted, ModelError> {
        let Training { history, book, horizon_steps } = *training;
        let now_us = history.end_us();
        // Only what a fit can rest on, or what it will be asked for, needs a column.
        let known = || book.known(now_us, history.start_us(), now_us + EVENTS_AHEAD_US);
        Ok(match (self, previous) {
            (Self::RidgeEvents, _) => Fitted::Ridge(Ridge::fit(history, &known(), Memory::Short)?),
            (Self::RidgeLong, _) => Fitted::Ridge(Ridge::fit(history, &known(), Memory::Long)?),
            (Self::SeasonalNaive, _) => Fitted::SeasonalNaive(SeasonalNaive::fit(history)?),
            (Self::AugursMstlEts, _) => Fitted::Mstl(Mstl::fit(history)?),
            (Self::Boosted, Some(Fitted::Learned(previous))) => {
                Fitted::Learned(Box::new(Learned::fit(history, book, horizon_steps, Some(previous))?))
            }
            (Self::Boosted, _) => Fitted::Learned(Box::new(Learned::fit(history, book, horizon_steps, None)?)),
        })
    }
}

/// What a model is fitted on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training<'a> {
    pub(crate) history: &'a History,
    pub(crate) book: &'a EventBook,
    pub(crate) horizon_steps: usize,
}

impl Fitted {
    /// Medians and widths behind the end of the history.
    pub(crate) fn predict(&self, history: &History, events: &[&KnownEvent], steps: usize) -> Centres {
        let even = |medians: Vec<f64>| Centres { widths: vec![1.0; medians.len()], medians };
        match self {
            Self::Ridge(model) => even(model.predict(history, events, steps)),
            Self::SeasonalNaive(model) => even(model.predict(history, events, steps)),
            Self::Mstl(model) => even(model.predict(history, events, steps)),
            Self::Learned(model) => model.predict(history, events, steps),
        }
    }

    /// Parameters for the record.
    pub(crate) fn parameters(&self) -> serde_json::Value {
        match self {
            Self::Ridge(model) => model.parameters(),
            Self::SeasonalNaive(model) => model.parameters(),
            Self::Mstl(model) => model.parameters(),
            Self::Learned(model) => model.parameters(),
        }
    }
}
