//! A group of series as if it had been forecast and reconciled all along, scored beside the forecasts before that.

use headroom_models::reconcile::{Rows, reconcile};
use headroom_models::score::Sums;
use headroom_models::{Engine, EngineConfig, ForecastSet, KnownEvent, ModelError};

use super::Series;

/// How good forecasts of members and of their sum were, each by itself and reconciled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupScores {
    /// The members', all together.
    pub members: Sums,
    /// The same, reconciled.
    pub members_reconciled: Sums,
    /// The group's own.
    pub group: Sums,
    /// The same, reconciled.
    pub group_reconciled: Sums,
    /// The group's with medians that are the sum of the members', before.
    pub added_up: Sums,
    /// Furthest that the median of the group was from the sum of the members', as a share, after.
    pub furthest: f64,
}

/// Runs an engine over each series and one over their sum, and scores the forecasts of the origins from `score_from_us` on.
/// The series must begin together; the sum is known where all of them are.
///
/// # Errors
/// When a setting is out of range, or the series do not fit each other.
pub fn groups(
    members: &[Series<'_>],
    events: &[KnownEvent],
    config: &EngineConfig,
    score_from_us: i64,
) -> Result<GroupScores, ModelError> {
    let Some(first) = members.first() else { return Ok(GroupScores::default()) };
    if members.iter().any(|series| (series.start_us, series.step_us) != (first.start_us, first.step_us)) {
        let problem = "the series must begin together, with one step".to_owned();
        return Err(ModelError::Setting { setting: "series", problem });
    }
    let config = EngineConfig { step_us: first.step_us, ..config.clone() };
    let mut engine = Engine::try_new(config)?;
    events.iter().for_each(|event| engine.signal(event.clone()));
    let mut engines = vec![engine; members.len() + 1];
    let steps = members.iter().map(|series| series.values.len()).min().unwrap_or(0);
    let value = |member: usize, step: usize| {
        let of = |series: &Series<'_>| series.values.get(step).copied().unwrap_or(f64::NAN);
        members.get(member).map_or_else(|| members.iter().map(of).sum(), of)
    };
    let mut scores = GroupScores::default();
    for step in 0..steps {
        let start_us = first.start_us + first.step_us * i64::try_from(step).unwrap_or(i64::MAX);
        for (place, engine) in engines.iter_mut().enumerate() {
            engine.observe(start_us, value(place, step));
        }
        let made: Option<Vec<(ForecastSet, Vec<f64>)>> = engines
            .iter_mut()
            .map(|engine| {
                let set = engine.forecast().ok()?;
                let deviations = engine.deviations(&set.levels, &set.values, &set.event_steps);
                Some((set, deviations))
            })
            .collect();
        if let Some(made) = made.filter(|_| start_us + first.step_us >= score_from_us) {
            scores.add(made, |member, ahead| value(member, step + 1 + ahead));
        }
    }
    Ok(scores)
}

impl GroupScores {
    /// The forecasts of one origin, the group's last; `came` gives the value of a series so many steps ahead.
    fn add(&mut self, mut made: Vec<(ForecastSet, Vec<f64>)>, came: impl Fn(usize, usize) -> f64) {
        let members = made.len().saturating_sub(1);
        let score = |sums: &mut Sums, set: &ForecastSet, place: usize| {
            for (ahead, row) in set.values.chunks_exact(set.levels.len().max(1)).enumerate() {
                let actual = came(place, ahead);
                if !actual.is_nan() {
                    sums.add(&set.levels, row, actual);
                }
            }
        };
        for (place, (set, _)) in made.iter().enumerate() {
            score(if place < members { &mut self.members } else { &mut self.group }, set, place);
        }
        // Without what is known of errors, the medians are added up.
        let mut added = made.iter().map(|(set, _)| (set.clone(), Vec::new())).collect::<Vec<_>>();
        reconciled(&mut added);
        added.last().iter().for_each(|(set, _)| score(&mut self.added_up, set, members));
        reconciled(&mut made);
        for (place, (set, _)) in made.iter().enumerate() {
            let sums = if place < members { &mut self.members_reconciled } else { &mut self.group_reconciled };
            score(sums, set, place);
        }
        self.furthest = self.furthest.max(furthest(&made));
    }
}

fn reconciled(made: &mut [(ForecastSet, Vec<f64>)]) {
    let mut rows: Vec<Rows<'_>> = made
        .iter_mut()
        .map(|(set, deviations)| Rows { levels: &set.levels, values: &mut set.values, deviations })
        .collect();
    if let Some(group) = rows.pop() {
        reconcile(group, &mut rows);
    }
}

/// How far the group's medians are from the sum of the members'.
fn furthest(made: &[(ForecastSet, Vec<f64>)]) -> f64 {
    let Some(((group, _), members)) = made.split_last() else { return 0.0 };
    let levels = group.levels.len().max(1);
    let median = |set: &ForecastSet, step: usize| {
        let row = set.values.get(step * levels..(step + 1) * levels).unwrap_or_default();
        headroom_models::score::at_level(&set.levels, row, 0.5)
    };
    let off = |step: usize| {
        let sum: f64 = members.iter().map(|(set, _)| median(set, step)).sum();
        (median(group, step) - sum).abs() / sum.max(1e-9)
    };
    (0..group.values.len() / levels).map(off).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    #[test]
    fn reconciled_forecasts_add_up_and_are_no_worse() {
        // Parts of a whole that is smoother than they are: what one has more, the other has less.
        let steps = 24 * 24;
        let whole = |step: i64| 500.0 + 200.0 * (step as f64 / 24.0 * std::f64::consts::TAU).sin();
        let part = |step: i64| 0.4 + 0.15 * ((step * 7919 % 101) as f64 / 50.0 - 1.0);
        let one: Vec<f64> = (0..steps).map(|step| whole(step) * part(step)).collect();
        let other: Vec<f64> = (0..steps).map(|step| whole(step) * (1.0 - part(step))).collect();
        let series = [&one, &other].map(|values| Series::uncorrected(0, HOUR_US, values));
        let config = EngineConfig { horizon_steps: 12, ..EngineConfig::default() };
        let scores = groups(&series, &[], &config, 16 * 24 * HOUR_US).expect("runs");
        assert!(scores.members.steps > 2_000, "{scores:?}");
        assert!(scores.furthest < 1e-5, "{scores:?}");
        assert!(scores.group_reconciled.wql() < scores.added_up.wql(), "{scores:?}");
        assert!(scores.members_reconciled.wql() < 1.02 * scores.members.wql(), "{scores:?}");
        let late = Series { start_us: HOUR_US, ..series[0] };
        assert!(groups(&[series[0], late], &[], &config, 0).is_err());
    }
}
