//! The outlook: hourly quantiles for two weeks, coherent with the forecast by fine steps.
//!
//! A second engine of families that cost little learns from hourly means. Its first hours, as far as the fine forecast
//! reaches, are not its own: they are the fine forecast's temporal aggregate (bottom-up in a temporal hierarchy:
//! Athanasopoulos, Hyndman, Kourentzes and Petropoulos, 2017), the mean of each quantile over the hour's steps. So the
//! medians of an hour and of its steps agree exactly. For the other quantiles it is the distribution of the mean when all
//! steps of an hour are off together (comonotonic): the widest that there can be, never too narrow for steps that err
//! apart. Where the fine forecast ends, the hourly one is shifted to it, and the shift fades: there is no jump.

use serde::{Deserialize, Serialize};

use crate::engine::{Abstention, Engine, ForecastSet, Note, Verdict};
use crate::scales::{log, unlog};
use crate::score::at_level;
use crate::{EngineConfig, KnownEvent, ModelError};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// Hours that are learned from at the most: a year and a day.
const HISTORY_HOURS: usize = 24 * 366;
/// The shift at the joint is the mean of so many hours before it.
const JOINT_HOURS: usize = 3;
/// What is left of the shift after an hour: half after a day.
const SHIFT_LEFT_PER_HOUR: f64 = 0.971_5;
/// Begins the names of models and families of an outlook.
const PREFIX: &str = "hourly";

/// The hourly engine of one workload, and the hour that has not closed yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outlook {
    engine: Engine,
    /// Fine steps of an hour.
    steps: u32,
    fine_us: i64,
    hour: Hour,
}

/// Values of the steps of one hour.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Hour {
    start_us: i64,
    sum: f64,
    values: u32,
}

impl Outlook {
    /// An outlook over `hours` beside an engine with these settings. None when there is nothing that it could add: steps
    /// that do not make up an hour, or a forecast that reaches as far by itself.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn try_new(fine: &EngineConfig, hours: usize) -> Result<Option<Self>, ModelError> {
        let own_hours = i64::try_from(fine.horizon_steps).unwrap_or(i64::MAX).saturating_mul(fine.step_us) / HOUR_US;
        if HOUR_US % fine.step_us.max(1) != 0 || i64::try_from(hours).unwrap_or(i64::MAX) <= own_hours {
            return Ok(None);
        }
        let needed = usize::try_from(fine.min_history_us / HOUR_US).unwrap_or(usize::MAX).saturating_add(1);
        let engine = Engine::light(EngineConfig {
            step_us: HOUR_US,
            horizon_steps: hours,
            history_steps: HISTORY_HOURS.max(needed),
            refit_after_us: fine.refit_after_us.max(DAY_US),
            ..fine.clone()
        })?;
        let steps = u32::try_from(HOUR_US / fine.step_us.max(1)).unwrap_or(1);
        Ok(Some(Self { engine, steps, fine_us: fine.step_us, hour: Hour::default() }))
    }

    /// Takes in a revision of an event signal.
    pub fn signal(&mut self, event: KnownEvent) {
        self.engine.signal(event);
    }

    /// Takes in the closed fine step that starts at `start_us`, after those before it. An hour of which half the steps or
    /// more have no value is a gap.
    pub fn observe(&mut self, start_us: i64, value: f64) -> Vec<Note> {
        let hour_us = start_us.div_euclid(HOUR_US) * HOUR_US;
        let mut notes = Vec::new();
        if hour_us > self.hour.start_us {
            notes.extend(self.close());
            self.hour = Hour { start_us: hour_us, sum: 0.0, values: 0 };
        }
        if hour_us == self.hour.start_us && value.is_finite() && value >= 0.0 {
            self.hour.sum += value;
            self.hour.values += 1;
        }
        if start_us + self.fine_us == hour_us + HOUR_US {
            notes.extend(self.close());
        }
        notes
    }

    /// Hands the hour to the engine, once.
    fn close(&mut self) -> Vec<Note> {
        let Hour { start_us, sum, values } = std::mem::take(&mut self.hour);
        self.hour.start_us = start_us;
        if values == 0 {
            return Vec::new();
        }
        let mean = if 2 * values > self.steps { sum / f64::from(values) } else { f64::NAN };
        let notes = self.engine.observe(start_us, mean).into_iter();
        let kept = notes.filter_map(|note| match note {
            Note::Refitted(mut card) => {
                card.family = format!("{PREFIX}-{}", card.family);
                card.version = format!("{PREFIX}-{}", card.version);
                if !card.parent.is_empty() {
                    card.parent = format!("{PREFIX}-{}", card.parent);
                }
                Some(Note::Refitted(card))
            }
            Note::Ignored(_) => Some(note),
            Note::Scored(_) | Note::Promoted { .. } => None,
        });
        kept.collect()
    }

    /// The outlook from the end of the last closed hour. `fine` is the forecast by fine steps from the same moment, or why
    /// there is none: then every hour is the hourly engine's own, and the outlook is suspect.
    ///
    /// # Errors
    /// An abstention, with its reason.
    pub fn forecast(&mut self, fine: Result<&ForecastSet, &Abstention>) -> Result<ForecastSet, Abstention> {
        let mut set = self.forecast_alone()?;
        let fits = |fine: &&ForecastSet| {
            fine.origin_us == set.origin_us && fine.levels == set.levels && fine.step_us == self.fine_us
        };
        match fine {
            Ok(fine) if fits(&fine) => {
                let steps = usize::try_from(self.steps).unwrap_or(1);
                join(&mut set, fine, steps);
                set.held_back.clone_from(&fine.held_back);
                set.basis.clone_from(&fine.basis);
                trust(&mut set, fine.verdict, &fine.verdict_reason);
                let new = fine.unlike.iter().filter(|one| !set.unlike.contains(one)).cloned().collect::<Vec<_>>();
                set.unlike.extend(new);
            }
            Ok(_) => trust(&mut set, Verdict::Suspect, "it does not rest on the forecast by fine steps"),
            Err(Abstention { reason }) => {
                trust(&mut set, Verdict::Suspect, &format!("there is no forecast by fine steps: {reason}"));
            }
        }
        Ok(set)
    }

    /// The hourly engine's own, from the end of the last closed hour.
    ///
    /// # Errors
    /// An abstention, with its reason.
    pub fn forecast_alone(&mut self) -> Result<ForecastSet, Abstention> {
        let mut set = self.engine.forecast()?;
        set.model_version = format!("{PREFIX}-{}", set.model_version);
        Ok(set)
    }

    /// How far off each hour usually is: see [`Engine::deviations`].
    #[must_use]
    pub fn deviations(&self, levels: &[f64], values: &[f32], event_steps: &[bool]) -> Vec<f64> {
        self.engine.deviations(levels, values, event_steps)
    }

    /// Start and mean of the last closed hour; no mean for a gap.
    #[must_use]
    pub fn last_hour(&self) -> Option<(i64, Option<f64>)> {
        self.engine.last_step()
    }
}

/// Takes the first hours from the fine forecast, and shifts the others to them.
fn join(set: &mut ForecastSet, fine: &ForecastSet, steps: usize) {
    let levels = set.levels.len();
    let aggregate = hourly(&fine.values, levels, steps);
    let hours = aggregate.len() / levels.max(1);
    // The same for every quantile: intervals further ahead stay those that were learned from as far ahead.
    let shift = shift(&set.values, &aggregate, &set.levels);
    let mut left = 1.0;
    for row in set.values.chunks_exact_mut(levels.max(1)).skip(hours) {
        left *= SHIFT_LEFT_PER_HOUR;
        let mut floor = 0.0_f32;
        for value in row.iter_mut() {
            #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
            let shifted = unlog(log(f64::from(*value)) + shift * left) as f32;
            floor = floor.max(shifted);
            *value = floor;
        }
    }
    set.values.iter_mut().zip(&aggregate).for_each(|(own, of_steps)| *own = *of_steps);
    let flags = fine.event_steps.chunks_exact(steps).map(|hour| hour.contains(&true));
    set.event_steps.iter_mut().zip(flags).for_each(|(own, of_steps)| *own = of_steps);
}

/// The mean of each quantile over the steps of an hour, for the whole hours.
fn hourly(values: &[f32], levels: usize, steps: usize) -> Vec<f32> {
    let mut means = Vec::with_capacity(values.len() / steps.max(1));
    for hour in values.chunks_exact((levels * steps).max(1)) {
        for level in 0..levels {
            let sum: f64 = hour.iter().skip(level).step_by(levels).copied().map(f64::from).sum();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "seven digits are plenty"
            )]
            means.push((sum / steps as f64) as f32);
        }
    }
    means
}

/// How far, on the log scale, the medians of the aggregate's last hours are above those of the hourly forecast.
#[expect(clippy::cast_precision_loss, reason = "a few hours")]
fn shift(own: &[f32], aggregate: &[f32], levels: &[f64]) -> f64 {
    let width = levels.len();
    let hours = aggregate.len() / width.max(1);
    let last = hours.saturating_sub(JOINT_HOURS)..hours;
    let at = |values: &[f32], hour: usize| {
        log(at_level(levels, values.get(hour * width..(hour + 1) * width).unwrap_or_default(), 0.5))
    };
    let count = last.len().max(1) as f64;
    last.map(|hour| at(aggregate, hour) - at(own, hour)).sum::<f64>() / count
}

/// The worse of two verdicts counts, with both reasons.
fn trust(set: &mut ForecastSet, other: Verdict, reason: &str) {
    let rank = |verdict: Verdict| match verdict {
        Verdict::Fresh => 0,
        Verdict::Suspect => 1,
        Verdict::Stale => 2,
    };
    if rank(other) > rank(set.verdict) {
        set.verdict = other;
    }
    if !reason.is_empty() && !set.verdict_reason.contains(reason) {
        let before = std::mem::take(&mut set.verdict_reason);
        set.verdict_reason = if before.is_empty() { reason.to_owned() } else { format!("{before}; {reason}") };
    }
}

#[cfg(test)]
mod tests;
