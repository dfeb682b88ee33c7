//! Fitting anew, when models are old or off.

use super::{Engine, HOUR_US, ModelCard, Note};
use crate::champion::Track;
use crate::ensemble::Shares;
use crate::family::{Family, Training};

/// A fit that failed is tried again after this long.
const RETRY_US: i64 = HOUR_US;
/// Mean log surprise of outcomes that calls for a new fit: half as much again.
const SURPRISE_LIMIT: f64 = 0.405;

impl Engine {
    pub(super) fn refit(&mut self, notes: &mut Vec<Note>) {
        let now_us = self.history.end_us();
        let surprised = self.surprise.abs() > SURPRISE_LIMIT;
        let members = self.tracks.iter().filter(|track| track.fitted.is_some());
        let shares = Shares::of(
            members.filter_map(|track| Some((track.family.name(), track.recent.clone(), track.family.prior()?))),
        );
        let is_worse = self.tracks.first().and_then(Track::worsening).is_some_and(|w| w > self.config.accuracy_factor);
        let elsewhere = self.elsewhere();
        for place in 0..self.tracks.len() {
            let is_boosted = self.tracks.get(place).is_some_and(|track| track.family == Family::Boosted);
            let base = if is_boosted { self.base() } else { None };
            let Some(track) = self.tracks.get_mut(place) else { continue };
            if now_us - self.history.start_us() < track.family.min_history_us(self.config.step_us) {
                continue;
            }
            let is_champion = place == 0;
            let age_us = now_us.saturating_sub(track.fitted_at_us);
            let limit_us = track.family.refit_after_us(self.config.refit_after_us, self.config.step_us);
            let reason = if track.fitted.is_none() && age_us >= RETRY_US {
                "first"
            } else if age_us >= limit_us {
                "age"
            } else if age_us >= HOUR_US && (is_worse || surprised) && track.family.follows_load() {
                "accuracy"
            } else {
                continue;
            };
            let training = Training {
                history: &self.history,
                book: &self.book,
                horizon_steps: self.config.horizon_steps,
                shares: &shares,
                base: base.as_ref(),
                borrows_trees: self.sharing.is_some(),
                elsewhere: &elsewhere,
            };
            let events = self.book.known(now_us, self.history.start_us(), now_us);
            track.fitted_at_us = now_us;
            match track.family.fit(&training, track.fitted.as_ref()) {
                Ok(fitted) => {
                    let parameters = fitted.parameters();
                    let version = version_of(track.family, now_us, &parameters);
                    let steps = self.history.len() - self.history.gaps(self.history.len());
                    notes.push(Note::Refitted(ModelCard {
                        family: track.family.name().to_owned(),
                        trained_at_us: now_us,
                        train_from_us: self.history.start_us(),
                        train_to_us: now_us,
                        steps: u64::try_from(steps).unwrap_or(0),
                        signals: u64::try_from(events.len()).unwrap_or(0),
                        outcomes: self.outcomes,
                        parameters,
                        parent: std::mem::replace(&mut track.version, version.clone()),
                        version,
                        reason: reason.to_owned(),
                        champion: is_champion,
                    }));
                    track.fitted = Some(fitted);
                }
                Err(error) => notes.push(Note::Ignored(error.to_string())),
            }
        }
        if surprised {
            self.surprise = 0.0;
        }
    }
}

/// FNV-1a over the parameters, so that the same training gives the same version.
fn version_of(family: Family, trained_at_us: i64, parameters: &serde_json::Value) -> String {
    let mut hash = 0x811c_9dc5_u32;
    for byte in parameters.to_string().bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    format!("{}-{}-{hash:08x}", family.name(), trained_at_us / 1_000_000)
}
