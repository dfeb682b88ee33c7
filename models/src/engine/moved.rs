//! Models that were learned elsewhere: what an engine has learned can be taken to another environment, where it forecasts
//! from the first day on. It may drive nothing there before its loss has been measured, and beside that at home.

use serde::{Deserialize, Serialize};

use super::{Engine, ForecastSet, Verdict};
use crate::champion::{MaturedScore, Track};
use crate::ensemble::Blend;
use crate::event::EventBook;
use crate::family::Family;
use crate::history::History;
use crate::score::Sums;

const DAY_US: i64 = 86_400_000_000;
/// The level is that of a day.
pub(super) const FROM_US: i64 = DAY_US;
/// Hours of loss that must have been measured.
const MEASURED_HOURS: u64 = 24;
/// A loss of this many times that at home is too much.
const MOST: f64 = 1.5;

/// Where models come from, and how they do here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Moved {
    from: String,
    home_wql: f64,
    here: Sums,
    hours: u64,
}

/// The loss of a model here beside that at home.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Where it was learned.
    pub from: String,
    /// Weighted quantile loss at home, of late; NaN when none was measured.
    pub home_wql: f64,
    /// Weighted quantile loss here; NaN before any was measured.
    pub here_wql: f64,
    /// Hours that it was measured over here.
    pub hours: u64,
    /// Why it may not drive anything yet; empty when it may.
    pub held_back: String,
}

impl Moved {
    pub(super) fn add(&mut self, score: &MaturedScore) {
        self.hours += 1;
        self.here.merge(&Sums {
            steps: score.steps,
            pinball: score.pinball,
            abs_error: score.abs_error,
            actual: score.actual,
            in_80: score.in_80,
            in_95: score.in_95,
        });
    }

    fn gap(&self) -> Gap {
        let (home_wql, here_wql) = (self.home_wql, self.here.wql());
        let ratio = here_wql / home_wql;
        let held_back = if self.hours < MEASURED_HOURS {
            format!("it was measured here for {} of {MEASURED_HOURS} hours", self.hours)
        } else if ratio <= MOST {
            String::new()
        } else {
            format!("its loss here is {ratio:.2} times that at home, more than {MOST}")
        };
        Gap { from: self.from.clone(), home_wql, here_wql, hours: self.hours, held_back }
    }

    /// Tells what a forecast rests on, and holds it back unless it was measured and found good.
    pub(super) fn mark(&self, set: &mut ForecastSet) {
        let gap = self.gap();
        set.basis = format!("moved from {}", gap.from);
        set.verdict = Verdict::Suspect;
        let ratio = gap.here_wql / gap.home_wql;
        set.verdict_reason = format!("the model was moved from {}", gap.from);
        if ratio.is_finite() {
            let hours = gap.hours;
            set.verdict_reason += &format!(": its loss here is {ratio:.2} times that at home, over {hours} hours");
        }
        set.held_back = gap.held_back;
    }
}

impl Engine {
    /// What was learned, to be taken elsewhere under the name `from`: the families that are served and the residuals that
    /// their intervals come from, without history, training rows and signals. There it is told of steps and signals as
    /// any engine is, and stands on models of its own once there is history enough.
    #[must_use]
    pub fn artefact(&self, from: &str) -> Self {
        self.learned(from, true)
    }

    /// The same, without the trees that it shares with others.
    #[must_use]
    pub fn artefact_beside_trees(&self, from: &str) -> Self {
        self.learned(from, false)
    }

    fn learned(&self, from: &str, is_alone: bool) -> Self {
        let served = |family: Family| family == Family::Ensemble || family.prior().is_some();
        let tracks = self.tracks.iter().filter(|track| served(track.family));
        let home = self.tracks.iter().find(|track| track.family == Family::Ensemble);
        let home_wql = home.and_then(|track| track.recent.wql()).unwrap_or(f64::NAN);
        Self {
            config: self.config.clone(),
            history: History::new(self.config.step_us, self.config.history_steps),
            book: EventBook::default(),
            tracks: tracks.map(|track| track.without_training(is_alone)).collect(),
            blend: Blend::default(),
            last: None,
            is_fixed: self.is_fixed,
            seen_steps: 0,
            outcomes: 0,
            surprise: 0.0,
            moved: Some(Moved { from: from.to_owned(), home_wql, here: Sums::default(), hours: 0 }),
            sharing: None,
        }
    }

    /// How models from elsewhere do here; none of models of its own.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        self.moved.as_ref().map(Moved::gap)
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &crate::EngineConfig {
        &self.config
    }

    /// There is history enough for models of its own: those from elsewhere go.
    pub(super) fn stand_alone(&mut self) {
        if self.moved.take().is_some() {
            self.tracks = Track::all(&self.config);
            self.blend = Blend::default();
        }
    }
}

#[cfg(test)]
mod tests;
