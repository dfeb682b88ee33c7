//! What every family of models does, and the families there are.

use serde::{Deserialize, Serialize};

use crate::event::KnownEvent;
use crate::mstl::Mstl;
use crate::ridge::{Memory, Ridge};
use crate::seasonal_naive::SeasonalNaive;
use crate::{History, ModelError};

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
    /// MSTL decomposition with ETS trend, of hourly means.
    AugursMstlEts,
}

/// A fitted model of any family.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Fitted {
    Ridge(Ridge),
    SeasonalNaive(SeasonalNaive),
    Mstl(Mstl),
}

impl Family {
    /// Every family, the first champion first.
    pub const ALL: [Family; 4] = [Family::RidgeEvents, Family::RidgeLong, Family::SeasonalNaive, Family::AugursMstlEts];

    /// The name in records and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RidgeEvents => "ridge-events",
            Self::RidgeLong => "ridge-long",
            Self::SeasonalNaive => "seasonal-naive",
            Self::AugursMstlEts => "augurs-mstl-ets",
        }
    }

    /// Fits a model of this family.
    ///
    /// # Errors
    /// When the history is too short or has nothing but gaps.
    pub(crate) fn fit(self, history: &History, events: &[&KnownEvent]) -> Result<Fitted, ModelError> {
        Ok(match self {
            Self::RidgeEvents => Fitted::Ridge(Ridge::fit(history, events, Memory::Short)?),
            Self::RidgeLong => Fitted::Ridge(Ridge::fit(history, events, Memory::Long)?),
            Self::SeasonalNaive => Fitted::SeasonalNaive(SeasonalNaive::fit(history)?),
            Self::AugursMstlEts => Fitted::Mstl(Mstl::fit(history)?),
        })
    }
}

impl Fitted {
    pub(crate) fn model(&self) -> &dyn Model {
        match self {
            Self::Ridge(model) => model,
            Self::SeasonalNaive(model) => model,
            Self::Mstl(model) => model,
        }
    }
}
