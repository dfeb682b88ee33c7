//! The online engine of one workload: told of closed steps and event signals, it forecasts, scores itself, and fits
//! itself anew. The same object runs live, in replays and in backtests.

use serde::{Deserialize, Serialize};

use crate::calibration::Group;
use crate::champion::{MaturedScore, Path, Track, usable};
use crate::ensemble::{Blend, Part};
use crate::event::{EventBook, When};
use crate::family::Family;
use crate::score::at_level;
use crate::{EngineConfig, History, KnownEvent, ModelError};

mod lift;
mod moved;
mod pooled;
mod promotion;
mod refit;
mod sharing;
mod unlike;

pub use lift::{Lift, LiftOf, LiftRange, PastLift, SignalLift};
pub use moved::{Gap, Moved};
pub use pooled::Profile;
use sharing::Sharing;
pub(crate) use sharing::is_wanted;

const HOUR_US: i64 = 3_600_000_000;
/// Gaps among the last dozen steps above which no forecast is made.
const MAX_RECENT_GAPS: usize = 6;
/// Times `accuracy_factor` at which a forecast is stale rather than suspect.
const STALE_FACTOR: f64 = 3.0;

/// What an engine has to say of an observation.
#[derive(Clone, Debug)]
pub enum Note {
    /// A model was fitted.
    Refitted(ModelCard),
    /// Forecasts have matured: the score of one hour.
    Scored(MaturedScore),
    /// A challenger has become champion.
    Promoted {
        /// Version of the champion before.
        from: String,
        /// Version of the champion now.
        to: String,
        /// By what numbers.
        reason: String,
    },
    /// The observation was not used, and why.
    Ignored(String),
}

/// A fitted model and where it came from.
#[derive(Clone, Debug)]
pub struct ModelCard {
    /// `<family>-<end of training, seconds since the Unix epoch>-<hash of the parameters>`.
    pub version: String,
    /// The family.
    pub family: String,
    /// When it was fitted, in microseconds.
    pub trained_at_us: i64,
    /// First step of the training set.
    pub train_from_us: i64,
    /// End of the last step of the training set.
    pub train_to_us: i64,
    /// Steps with values in the training set.
    pub steps: u64,
    /// Event signals in the training set.
    pub signals: u64,
    /// Outcomes that had come back by then.
    pub outcomes: u64,
    /// What was learned.
    pub parameters: serde_json::Value,
    /// The version before; empty for the first.
    pub parent: String,
    /// `first`, `age` or `accuracy`.
    pub reason: String,
    /// Is its family the champion?
    pub champion: bool,
}

/// How far a forecast can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// As good as usual.
    Fresh,
    /// Worse than usual of late, or from an old model.
    Suspect,
    /// Much worse than usual.
    Stale,
}

/// A forecast.
#[derive(Clone, Debug, PartialEq)]
pub struct ForecastSet {
    /// End of the last step that was seen.
    pub origin_us: i64,
    /// Length of a step.
    pub step_us: i64,
    /// Levels of the quantiles, ascending.
    pub levels: Vec<f64>,
    /// `values[step * levels + level]`.
    pub values: Vec<f32>,
    /// For each step: is an event expected to act on it?
    pub event_steps: Vec<bool>,
    /// The champion's version.
    pub model_version: String,
    /// Signals that act within the horizon, with their revisions.
    pub signals: Vec<(String, u64)>,
    /// How far it can be trusted.
    pub verdict: Verdict,
    /// Why not fresh; empty when fresh.
    pub verdict_reason: String,
    /// In what it is unlike what the models have seen: its quantiles are wider for it, and it is suspect.
    pub unlike: Vec<String>,
    /// What it was made from, such as `pooled over 5 workloads`; empty for models of the workload's own.
    pub basis: String,
    /// Why nothing may be done by it yet; empty when it may drive.
    pub held_back: String,
}

/// Why there is no forecast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abstention {
    /// In words.
    pub reason: String,
}

/// The measured effect of an action on this workload.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeFeedback {
    /// Load that was expected at the most.
    pub expected_peak: f64,
    /// Load that came at the most.
    pub observed_peak: f64,
    /// Share of the measured span that was seen, 0..1.
    pub completeness: f64,
    /// Start of the measured span, in microseconds.
    pub from_us: i64,
    /// End of the measured span, in microseconds.
    pub to_us: i64,
}

/// The engine of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Engine {
    config: EngineConfig,
    history: History,
    book: EventBook,
    /// The champion first.
    tracks: Vec<Track>,
    blend: Blend,
    /// What the families forecast last, when it is wanted; not part of the state.
    #[serde(skip)]
    last: Option<Vec<(Family, Vec<f32>)>>,
    /// No challenger takes the champion's place.
    is_fixed: bool,
    seen_steps: i64,
    outcomes: u64,
    /// Mean log ratio of observed to expected peaks, newest outcomes weighing most.
    surprise: f64,
    /// Of models that were learned elsewhere, as long as there are none of its own.
    moved: Option<Moved>,
    /// With others, when it does not grow trees of its own.
    sharing: Option<Sharing>,
}

impl Engine {
    /// An engine that has seen nothing.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn try_new(config: EngineConfig) -> Result<Self, ModelError> {
        config.check()?;
        Ok(Self {
            history: History::new(config.step_us, config.history_steps),
            book: EventBook::default(),
            tracks: Track::all(&config),
            blend: Blend::default(),
            last: None,
            is_fixed: false,
            seen_steps: 0,
            outcomes: 0,
            surprise: 0.0,
            moved: None,
            sharing: None,
            config,
        })
    }

    /// The same, with one family alone, beside those that it rests on: for comparing families.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn of_family(config: EngineConfig, family: Family) -> Result<Self, ModelError> {
        let mut engine =
            Self::try_new(EngineConfig { with_benchmark: config.with_benchmark || family.is_benchmark(), ..config })?;
        let rests_on: &[Family] = match family {
            Family::Ensemble => &Family::ALL,
            Family::Boosted => &[Family::RidgeEvents, Family::RidgeLong],
            Family::RidgeEvents | Family::RidgeLong | Family::SeasonalNaive | Family::AugursMstlEts => &[],
        };
        engine.tracks.retain(|track| track.family == family || rests_on.contains(&track.family));
        engine.tracks.sort_by_key(|track| track.family != family);
        engine.is_fixed = true;
        Ok(engine)
    }

    /// The same, of the families that cost little: no trees and no decomposition. No family takes another's place.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub(crate) fn light(config: EngineConfig) -> Result<Self, ModelError> {
        let mut engine = Self::try_new(config)?;
        engine.tracks.retain(|track| !matches!(track.family, Family::Boosted | Family::AugursMstlEts));
        engine.is_fixed = true;
        Ok(engine)
    }

    /// Takes in a revision of an event signal. It is used from its announcement on, the highest revision then known.
    pub fn signal(&mut self, event: KnownEvent) {
        self.book.add(event);
    }

    /// Takes in the effect of an action.
    pub fn outcome(&mut self, outcome: OutcomeFeedback) {
        if outcome.completeness < 0.9 || outcome.expected_peak <= 0.0 || outcome.observed_peak <= 0.0 {
            return;
        }
        self.outcomes += 1;
        self.surprise = 0.8 * self.surprise + 0.2 * (outcome.observed_peak / outcome.expected_peak).ln();
    }

    /// Takes in the closed step that starts at `start_us`. Steps that were skipped are gaps, and so is a value that is
    /// negative or not finite.
    pub fn observe(&mut self, start_us: i64, value: f64) -> Vec<Note> {
        let mut notes = Vec::new();
        if start_us.rem_euclid(self.config.step_us) != 0 {
            return vec![Note::Ignored(format!("{start_us} is not the start of a step"))];
        }
        if !self.history.push(start_us, value) {
            return vec![Note::Ignored(format!("{start_us} is not behind the last step"))];
        }
        self.seen_steps += 1;
        let actual = usable(value).then_some(value);
        for track in &mut self.tracks {
            let score = track.mature(start_us, actual, &self.config.levels);
            if let (Some(moved), Some(score), Family::Ensemble) = (&mut self.moved, &score, track.family) {
                moved.add(score);
            }
            notes.extend(score.map(Note::Scored));
        }
        if self.length_us() >= self.config.min_history_us {
            self.stand_alone();
            self.refit(&mut notes);
            self.gather(&mut notes);
            self.promote(&mut notes);
        }
        notes
    }

    /// The champion's forecast from the end of the last step. Challengers forecast too, once an hour.
    ///
    /// # Errors
    /// An abstention, with its reason.
    pub fn forecast(&mut self) -> Result<ForecastSet, Abstention> {
        let abstain = |reason: String| Err(Abstention { reason });
        let served = self.tracks.first().map_or(0, |champion| champion.family.min_history_us(self.config.step_us));
        let needed_us = if self.moved.is_some() { moved::FROM_US } else { served.max(self.config.min_history_us) };
        if self.length_us() < needed_us {
            return abstain(format!("less than {} hours of history", needed_us / HOUR_US));
        }
        let gaps = self.history.gaps(12);
        if gaps > MAX_RECENT_GAPS {
            return abstain(format!("{gaps} of the last 12 steps are gaps"));
        }
        let origin_us = self.history.end_us();
        let (verdict, verdict_reason) = self.verdict();
        let hourly = origin_us.rem_euclid(HOUR_US.max(self.config.step_us)) == 0;
        let Some(family) = self.tracks.first().map(|champion| champion.family) else {
            return abstain("no family of models".to_owned());
        };
        let Some(path) = self.paths(hourly, family) else {
            return abstain(format!("{} could not be fitted", family.name()));
        };
        let until_us = origin_us + self.config.step_us * i64::try_from(self.config.horizon_steps).unwrap_or(0);
        let signals = self.book.known(origin_us, origin_us, until_us);
        let mut set = ForecastSet {
            origin_us,
            step_us: self.config.step_us,
            levels: self.config.levels.clone(),
            values: path.values,
            event_steps: path.when.into_iter().map(|when| when == When::Event).collect(),
            model_version: self.champion().to_owned(),
            signals: signals.into_iter().map(|event| (event.id.clone(), event.revision)).collect(),
            verdict,
            verdict_reason,
            unlike: Vec::new(),
            basis: String::new(),
            held_back: String::new(),
        };
        if let Some(moved) = &self.moved {
            moved.mark(&mut set);
        } else {
            self.mark_unlike(&mut set);
        }
        Ok(set)
    }

    /// Forecasts with the families whose turn it is; gives the path of the one that is served.
    fn paths(&mut self, hourly: bool, served: Family) -> Option<Path> {
        let origin_us = self.history.end_us();
        let has_ensemble = self.tracks.iter().any(|track| track.family == Family::Ensemble);
        let (mut anchor, mut parts, mut path) = (None, Vec::new(), None);
        let mut last = Vec::new();
        for track in self.tracks.iter_mut().filter(|track| track.family != Family::Ensemble) {
            let is_anchor = has_ensemble && track.family == Family::RidgeEvents;
            if !(hourly || is_anchor || track.family == served) {
                continue;
            }
            let Some(made) = track.forecast(&self.history, &self.book, &self.config) else { continue };
            if let Some(prior) = track.family.prior().filter(|_| hourly && has_ensemble) {
                parts.push(Part::new(track.recent.clone(), prior, &made.values));
            }
            if self.last.is_some() {
                last.push((track.family, made.values.clone()));
            }
            if is_anchor {
                anchor = Some((made.medians.clone(), made.when.clone()));
            }
            if track.family == served {
                path = Some(made);
            }
        }
        let ensemble = self.tracks.iter_mut().find(|track| track.family == Family::Ensemble && track.fitted.is_some());
        if let (Some(ensemble), Some((medians, when))) = (ensemble, anchor) {
            let levels = &self.config.levels;
            let now = (origin_us, self.config.step_us);
            if hourly {
                self.blend.join(now, &parts, &medians, &when, levels);
            }
            if let Some(values) = self.blend.over(&medians, &when, now, levels, &ensemble.stretch) {
                let made = ensemble.take(origin_us, Path { medians, when, values }, &self.config);
                if self.last.is_some() {
                    last.push((Family::Ensemble, made.values.clone()));
                }
                if served == Family::Ensemble {
                    path = Some(made);
                }
            }
        }
        self.last = self.last.take().map(|_| last);
        path
    }

    /// From now on the last forecast of every family is kept, for [`Engine::last_forecasts`]: for comparing families.
    pub fn keep_last_forecasts(&mut self) {
        self.last = Some(Vec::new());
    }

    /// The quantiles of every family that took part in the last forecast, by its name: `values[step * levels + level]`.
    /// None unless they are kept.
    pub fn last_forecasts(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        self.last.iter().flatten().map(|(family, values)| (family.name(), values.as_slice()))
    }

    /// How far off each step of a forecast of its own usually is, in the unit of the load: the loss of late, as far ahead,
    /// times the median. It is in proportion to a deviation, and as good for weighing forecasts by. NaN where nothing has
    /// matured from as far ahead.
    #[must_use]
    pub fn deviations(&self, levels: &[f64], values: &[f32], event_steps: &[bool]) -> Vec<f64> {
        let recent = self.tracks.first().map(|champion| &champion.recent);
        let rows = values.chunks_exact(levels.len().max(1)).zip(event_steps).zip(0_i64..);
        rows.map(|((row, event), step)| {
            let group = Group::of(step * self.config.step_us, When::of_flag(*event));
            let loss = recent.and_then(|recent| recent.relative(group)).unwrap_or(f64::NAN);
            loss * at_level(levels, row, 0.5)
        })
        .collect()
    }

    /// Version of the model that is served; empty before the first fit.
    #[must_use]
    pub fn champion(&self) -> &str {
        self.tracks.first().map_or("", |track| track.version.as_str())
    }

    /// End of the last step that was observed.
    #[must_use]
    pub fn origin_us(&self) -> Option<i64> {
        (!self.history.is_empty()).then(|| self.history.end_us())
    }

    /// Start and value of the last step that was observed; no value for a gap.
    pub(crate) fn last_step(&self) -> Option<(i64, Option<f64>)> {
        self.history.last(1).next()
    }

    /// Is a step within an event that was known at `at_us`?
    #[must_use]
    pub fn is_event_step(&self, at_us: i64, start_us: i64) -> bool {
        let step_us = self.config.step_us;
        let known = self.book.known(at_us, start_us, start_us + step_us);
        known.iter().any(|event| event.flags(start_us, step_us))
    }

    fn length_us(&self) -> i64 {
        self.history.end_us() - self.history.start_us()
    }

    fn verdict(&self) -> (Verdict, String) {
        let Some(champion) = self.tracks.first() else { return (Verdict::Stale, "no model".to_owned()) };
        let age_us = self.history.end_us() - champion.fitted_at_us;
        if age_us > 4 * self.config.refit_after_us {
            return (Verdict::Suspect, format!("the model is {} hours old", age_us / HOUR_US));
        }
        let Some(worse) = champion.worsening() else { return (Verdict::Fresh, String::new()) };
        let factor = self.config.accuracy_factor;
        if worse <= factor {
            return (Verdict::Fresh, String::new());
        }
        let reason = format!("the last day's loss is {worse:.1} times that of the weeks before");
        (if worse > STALE_FACTOR * factor { Verdict::Stale } else { Verdict::Suspect }, reason)
    }
}

#[cfg(test)]
mod tests;
