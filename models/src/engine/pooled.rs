//! A workload without history of its own: the week of the others, each by its own mean, at the level of the few steps seen.

use serde::{Deserialize, Serialize};

use super::{Engine, ForecastSet, Verdict};
use crate::calibration::normal_quantile;
use crate::scales::{log, median, unlog};

const HOUR_US: i64 = 3_600_000_000;
const WEEK_HOURS: i64 = 168;
/// The last weeks of a history make its profile.
const WEEKS: i64 = 4;
/// Steps that the level needs at the least: an hour of five minutes.
const MIN_STEPS: usize = 12;
/// No spread is smaller, on the log scale: one other workload proves little.
const LEAST_SPREAD: f64 = 0.2;

/// The course of a week: for each hour the distance of the load from its mean on the log scale, and its spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    centres: Vec<f64>,
    spreads: Vec<f64>,
    workloads: usize,
}

impl Profile {
    /// The profile of many workloads: the medians of theirs, and as spread how far they are apart and within.
    #[must_use]
    pub fn pooled(profiles: &[Profile]) -> Option<Profile> {
        if profiles.is_empty() {
            return None;
        }
        let (mut centres, mut spreads) = (Vec::new(), Vec::new());
        for hour in 0..usize::try_from(WEEK_HOURS).ok()? {
            let of: Vec<f64> = profiles.iter().filter_map(|profile| profile.centres.get(hour).copied()).collect();
            let centre = median(of.clone());
            let apart = 1.4826 * median(of.iter().map(|one| (one - centre).abs()).collect());
            let within = median(profiles.iter().filter_map(|profile| profile.spreads.get(hour).copied()).collect());
            centres.push(centre);
            spreads.push(apart.hypot(within).max(LEAST_SPREAD));
        }
        Some(Profile { centres, spreads, workloads: profiles.len() })
    }

    fn at(&self, start_us: i64) -> Option<(f64, f64)> {
        let hour = usize::try_from(start_us.div_euclid(HOUR_US).rem_euclid(WEEK_HOURS)).ok()?;
        Some((*self.centres.get(hour)?, *self.spreads.get(hour)?))
    }
}

impl Engine {
    /// The week of this workload, when it has history enough for models of its own.
    #[must_use]
    pub fn profile(&self) -> Option<Profile> {
        if self.moved.is_some() || self.length_us() < self.config.min_history_us {
            return None;
        }
        let hours = usize::try_from(WEEK_HOURS).ok()?;
        let mut by_hour: Vec<Vec<f64>> = vec![Vec::new(); hours];
        let steps = usize::try_from(WEEKS * WEEK_HOURS * HOUR_US / self.config.step_us).ok()?;
        for (start_us, value) in self.history.last(steps) {
            let hour = usize::try_from(start_us.div_euclid(HOUR_US).rem_euclid(WEEK_HOURS)).unwrap_or(0);
            if let (Some(value), Some(kept)) = (value, by_hour.get_mut(hour)) {
                kept.push(log(value));
            }
        }
        let all: Vec<f64> = by_hour.iter().map(|hour| median(hour.clone())).collect();
        #[expect(clippy::cast_precision_loss, reason = "hours of a week")]
        let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        let spread =
            |(logs, centre): (&Vec<f64>, &f64)| 1.4826 * median(logs.iter().map(|one| (one - centre).abs()).collect());
        let spreads = by_hour.iter().zip(&all).map(spread).collect();
        Some(Profile { centres: all.into_iter().map(|centre| centre - mean).collect(), spreads, workloads: 1 })
    }

    /// A forecast by the week of other workloads, at the level of the steps seen so far; none before an hour of them. It
    /// knows nothing of signals and may drive nothing.
    #[must_use]
    pub fn forecast_pooled(&self, pool: &Profile) -> Option<ForecastSet> {
        let (origin_us, step_us) = (self.history.end_us(), self.config.step_us);
        let seen: Vec<f64> = self
            .history
            .last(self.history.len())
            .filter_map(|(start_us, value)| Some(log(value?) - pool.at(start_us)?.0))
            .collect();
        if seen.len() < MIN_STEPS {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let hours = (seen.len() as f64 * step_us as f64 / HOUR_US as f64).max(1.0);
        let level = median(seen);
        let starts = (0..).take(self.config.horizon_steps).map(|k: i64| origin_us + k * step_us);
        let mut values = Vec::with_capacity(self.config.horizon_steps * self.config.levels.len());
        for (centre, spread) in starts.filter_map(|start_us| pool.at(start_us)) {
            // A level from few hours is itself unsure.
            let spread = spread * (1.0 + 1.0 / hours).sqrt();
            for at in &self.config.levels {
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
                let value = unlog(level + centre + spread * normal_quantile(*at)) as f32;
                values.push(value);
            }
        }
        let needed = self.config.min_history_us / HOUR_US;
        Some(ForecastSet {
            origin_us,
            step_us,
            levels: self.config.levels.clone(),
            values,
            event_steps: vec![false; self.config.horizon_steps],
            model_version: String::new(),
            signals: Vec::new(),
            verdict: Verdict::Suspect,
            verdict_reason: String::new(),
            unlike: Vec::new(),
            basis: format!("pooled over {} workloads", pool.workloads),
            held_back: format!("less than {needed} hours of history"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineConfig;

    const STEP_US: i64 = HOUR_US / 4;

    /// A workload of that size: twice the load on working days from 8 to 18.
    fn engine(size: f64, hours: i64) -> Engine {
        let config = EngineConfig { step_us: STEP_US, horizon_steps: 96, ..EngineConfig::default() };
        let mut engine = Engine::try_new(config).expect("legal");
        for step in 0..hours * 4 {
            engine.history.push(step * STEP_US, load(size, step));
        }
        engine
    }

    fn load(size: f64, step: i64) -> f64 {
        let (hour, day) = (step / 4 % 24, step / 96 % 7);
        let busy = day < 5 && (8..18).contains(&hour);
        size * if busy { 2.0 } else { 1.0 } * (1.0 + 0.05 * ((step * 7919 % 101) as f64 / 50.0 - 1.0))
    }

    #[test]
    fn a_new_workload_has_the_week_of_the_others_at_its_own_level() {
        let others: Vec<Profile> =
            [100.0, 500.0, 20.0].iter().filter_map(|size| engine(*size, 700).profile()).collect();
        let pool = Profile::pooled(&others).expect("three");
        // Six hours of a night, 30 times the second of them: it has seen no working hour.
        let young = engine(3_000.0, 6);
        assert!(young.profile().is_none());
        let set = young.forecast_pooled(&pool).expect("made");
        assert_eq!((set.basis.as_str(), set.values.len()), ("pooled over 3 workloads", 96 * set.levels.len()));
        assert!(set.held_back.contains("168 hours"));
        let median = |step: usize| {
            let row = &set.values[step * set.levels.len()..(step + 1) * set.levels.len()];
            assert!(row.is_sorted());
            crate::score::at_level(&set.levels, row, 0.5)
        };
        // At seven and at ten o'clock.
        assert!(
            (median(4) / 3_000.0 - 1.0).abs() < 0.1 && (median(16) / 6_000.0 - 1.0).abs() < 0.1,
            "{} {}",
            median(4),
            median(16)
        );
        assert!(engine(10.0, 2).forecast_pooled(&pool).is_none(), "less than an hour of steps");
        assert!(Profile::pooled(&[]).is_none());
    }
}
