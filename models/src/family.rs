//! What every family of models does, and the families there are.

use serde::{Deserialize, Serialize};

use crate::calibration::Centres;
use crate::ensemble::Shares;
use crate::event::{EventBook, KnownEvent, Responses};
use crate::learned::{Base, Learned};
use crate::mstl::Mstl;
use crate::ridge::{Memory, Ridge};
use crate::seasonal_naive::SeasonalNaive;
use crate::{History, ModelError};

const DAY_US: i64 = 86_400_000_000;
/// Signals that are announced for so far ahead have a response, if only the guess.
const EVENTS_AHEAD_US: i64 = 400 * DAY_US;

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
    /// A weighted mean of the ridges and the boosted quantiles.
    Ensemble,
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
    Ensemble(Shares),
}

impl Family {
    /// Every family, the first champion first; then the one that the ensemble's path is kept relative to.
    pub const ALL: [Family; 6] = [
        Family::Ensemble,
        Family::RidgeEvents,
        Family::RidgeLong,
        Family::Boosted,
        Family::SeasonalNaive,
        Family::AugursMstlEts,
    ];

    /// The name in records and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ensemble => "ensemble",
            Self::RidgeEvents => "ridge-events",
            Self::RidgeLong => "ridge-long",
            Self::SeasonalNaive => "seasonal-naive",
            Self::Boosted => "boosted",
            Self::AugursMstlEts => "augurs-mstl-ets",
        }
    }

    /// Weight in the ensemble while nothing has matured; none for those that are measured beside it.
    pub(crate) fn prior(self) -> Option<f64> {
        match self {
            Self::RidgeEvents | Self::RidgeLong => Some(1.0),
            Self::Boosted => Some(0.5),
            Self::Ensemble | Self::AugursMstlEts | Self::SeasonalNaive => None,
        }
    }

    /// Is it scored beside the others, and never served?
    pub(crate) fn is_benchmark(self) -> bool {
        self == Self::AugursMstlEts
    }

    /// Is it fitted anew as soon as the forecasts are off?
    pub(crate) fn follows_load(self) -> bool {
        matches!(self, Self::RidgeEvents | Self::Ensemble)
    }

    /// No fit before this much history; the engine's own minimum counts as well.
    #[must_use]
    pub fn min_history_us(self, step_us: i64) -> i64 {
        match self {
            Self::Boosted => (14 * DAY_US).max(75 * step_us),
            Self::Ensemble | Self::RidgeEvents | Self::RidgeLong | Self::SeasonalNaive | Self::AugursMstlEts => 0,
        }
    }

    /// How old a model may be: the short ridge follows the load, the others take a day, and the benchmark a week of
    /// daily steps.
    pub(crate) fn refit_after_us(self, configured_us: i64, step_us: i64) -> i64 {
        match self {
            Self::Ensemble | Self::RidgeEvents => configured_us,
            Self::SeasonalNaive | Self::RidgeLong | Self::Boosted => configured_us.max(DAY_US),
            Self::AugursMstlEts => configured_us.max(DAY_US).max(7 * step_us),
        }
    }

    /// Fits a model of this family, or goes on from the one before.
    ///
    /// # Errors
    /// When the history is too short or has nothing but gaps.
    pub(crate) fn fit(self, training: &Training<'_>, previous: Option<&Fitted>) -> Result<Fitted, ModelError> {
        let Training { history, book, horizon_steps, shares, base, borrows_trees, elsewhere } = *training;
        let now_us = history.end_us();
        // Only what a fit can rest on, or what it will be asked for, needs a column.
        let known = || book.known(now_us, history.start_us(), now_us + EVENTS_AHEAD_US);
        Ok(match (self, previous) {
            (Self::Ensemble, _) => Fitted::Ensemble(shares.clone()),
            (Self::RidgeEvents, _) => Fitted::Ridge(Ridge::fit(history, &known(), Memory::Short, elsewhere)?),
            (Self::RidgeLong, _) => Fitted::Ridge(Ridge::fit(history, &known(), Memory::Long, elsewhere)?),
            (Self::SeasonalNaive, _) => Fitted::SeasonalNaive(SeasonalNaive::fit(history)?),
            (Self::AugursMstlEts, _) => Fitted::Mstl(Mstl::fit(history, horizon_steps)?),
            (Self::Boosted, previous) => {
                let previous = previous.and_then(|fitted| match fitted {
                    Fitted::Learned(learned) => Some(&**learned),
                    Fitted::Ridge(_) | Fitted::SeasonalNaive(_) | Fitted::Mstl(_) | Fitted::Ensemble(_) => None,
                });
                let Some(base) = base.cloned() else {
                    return Err(ModelError::Fit { family: "boosted", problem: "no ridge to learn on".to_owned() });
                };
                Fitted::Learned(Box::new(if borrows_trees {
                    Learned::borrowing(base, previous)
                } else {
                    Learned::fit(history, book, horizon_steps, base, previous)?
                }))
            }
        })
    }
}

/// What a model is fitted on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training<'a> {
    pub(crate) history: &'a History,
    pub(crate) book: &'a EventBook,
    pub(crate) horizon_steps: usize,
    /// What each family counts for by now.
    pub(crate) shares: &'a Shares,
    /// The newest ridges, which trees correct.
    pub(crate) base: Option<&'a Base>,
    /// Are trees lent, rather than grown?
    pub(crate) borrows_trees: bool,
    /// What events do at other workloads.
    pub(crate) elsewhere: &'a Responses,
}

impl Fitted {
    /// Medians and widths behind the end of the history.
    pub(crate) fn predict(&self, history: &History, events: &[&KnownEvent], steps: usize) -> Centres {
        match self {
            Self::Ridge(model) => Centres::even(model.predict(history, events, steps)),
            Self::SeasonalNaive(model) => Centres::even(model.predict(history, events, steps)),
            Self::Mstl(model) => Centres::even(model.predict(history, events, steps)),
            Self::Learned(model) => model.predict(history, events, steps),
            // Its path comes from those of the others.
            Self::Ensemble(_) => Centres::default(),
        }
    }

    /// What a forecast needs of it; borrowed trees with it when it is to be alone.
    pub(crate) fn without_training(&self, is_alone: bool) -> Self {
        match self {
            Self::Learned(model) => Self::Learned(Box::new(model.without_training(is_alone))),
            Self::Ridge(_) | Self::SeasonalNaive(_) | Self::Mstl(_) | Self::Ensemble(_) => self.clone(),
        }
    }

    /// Parameters for the record.
    pub(crate) fn parameters(&self) -> serde_json::Value {
        match self {
            Self::Ridge(model) => model.parameters(),
            Self::SeasonalNaive(model) => model.parameters(),
            Self::Mstl(model) => model.parameters(),
            Self::Learned(model) => model.parameters(),
            Self::Ensemble(shares) => shares.parameters(),
        }
    }
}
