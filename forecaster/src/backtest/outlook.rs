//! A history as if outlooks had been made: scored on hourly means, by how far ahead.

use headroom_models::score::Sums;
use headroom_models::{Abstention, Engine, EngineConfig, KnownEvent, ModelError, Outlook};

use super::{HOUR_US, Series};

/// Hours ahead that are scored together: up to so many.
const BOUNDS: [usize; 4] = [24, 72, 168, 336];
const WEEK_HOURS: usize = 168;

/// How good outlooks were, some hours ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutlookScores {
    /// From so many hours ahead on.
    pub from_hours: usize,
    /// Up to so many.
    pub to_hours: usize,
    /// The outlook.
    pub outlook: Sums,
    /// The hourly engine alone, not joined with the forecast by fine steps.
    pub alone: Sums,
    /// The newest whole week before the origin, repeated.
    pub naive: Sums,
}

/// Runs an engine and its outlook over a series by fine steps, and scores the outlooks made every so many hours from
/// `score_from_us` on.
///
/// # Errors
/// When a setting is out of range, or an outlook could add nothing to the forecast.
pub fn outlook(
    series: Series<'_>,
    events: &[KnownEvent],
    config: &EngineConfig,
    every_hours: i64,
    score_from_us: i64,
) -> Result<Vec<OutlookScores>, ModelError> {
    let config = EngineConfig { step_us: series.step_us, ..config.clone() };
    let mut fine = Engine::try_new(config.clone())?;
    let made = Outlook::try_new(&config, BOUNDS.into_iter().max().unwrap_or_default())?;
    let mut outlook = made.ok_or_else(|| ModelError::Setting {
        setting: "step",
        problem: "must divide an hour, and the horizon be below 14 days".to_owned(),
    })?;
    for event in events {
        fine.signal(event.clone());
        outlook.signal(event.clone());
    }
    let mut alone = outlook.clone();
    let hours = hourly(series);
    let first_hour = series.start_us.div_euclid(HOUR_US);
    let mut scores: Vec<OutlookScores> = [0].into_iter().chain(BOUNDS).zip(BOUNDS).map(empty).collect();
    for (start_us, value) in (0..).map(|step: i64| series.start_us + step * series.step_us).zip(series.values) {
        if value.is_nan() {
            continue;
        }
        fine.observe(start_us, *value);
        outlook.observe(start_us, *value);
        alone.observe(start_us, *value);
        let origin_us = start_us + series.step_us;
        if origin_us.rem_euclid(HOUR_US) != 0 {
            continue;
        }
        // Each hour, as the service does: what is learned of errors comes from these.
        let made = outlook.forecast(fine.forecast().as_ref());
        let by_itself = alone.forecast(Err(&Abstention { reason: String::new() }));
        let is_scored = origin_us >= score_from_us && origin_us.div_euclid(HOUR_US) % every_hours.max(1) == 0;
        let (Ok(made), Ok(by_itself), true) = (made, by_itself, is_scored) else { continue };
        let next = usize::try_from(origin_us.div_euclid(HOUR_US) - first_hour).unwrap_or(usize::MAX);
        for score in &mut scores {
            for ahead in score.from_hours..score.to_hours {
                let Some(actual) = hours.get(next + ahead).copied().filter(|actual| !actual.is_nan()) else { continue };
                let row = |set: &headroom_models::ForecastSet| {
                    let levels = set.levels.len();
                    set.values.get(ahead * levels..(ahead + 1) * levels).map(<[f32]>::to_vec).unwrap_or_default()
                };
                score.outlook.add(&made.levels, &row(&made), actual);
                score.alone.add(&by_itself.levels, &row(&by_itself), actual);
                let before = (next + ahead).checked_sub((ahead / WEEK_HOURS + 1) * WEEK_HOURS);
                let naive = before.and_then(|before| hours.get(before)).copied().filter(|naive| !naive.is_nan());
                #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
                score.naive.add(&[0.5], &[naive.unwrap_or_default() as f32], actual);
            }
        }
    }
    Ok(scores)
}

fn empty((from_hours, to_hours): (usize, usize)) -> OutlookScores {
    OutlookScores { from_hours, to_hours, ..OutlookScores::default() }
}

/// Means of the whole hours from the first on; NaN where a step has no value.
fn hourly(series: Series<'_>) -> Vec<f64> {
    let steps = usize::try_from(HOUR_US / series.step_us.max(1)).unwrap_or(1).max(1);
    let before = usize::try_from(series.start_us.rem_euclid(HOUR_US) / series.step_us.max(1)).unwrap_or(0);
    let mut values = vec![f64::NAN; before];
    values.extend(series.values);
    #[expect(clippy::cast_precision_loss, reason = "steps of an hour")]
    let mean = |hour: &[f64]| hour.iter().sum::<f64>() / hour.len() as f64;
    values.chunks_exact(steps).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlooks_are_scored_by_how_far_ahead() {
        let steps = 40 * 96;
        let value = |step: i64| {
            let turn = |period: i64| (step % period) as f64 / period as f64 * std::f64::consts::TAU;
            let noise = 1.0 + 0.1 * ((step * 7919 % 101) as f64 / 50.0 - 1.0);
            (200.0 + 80.0 * turn(96).sin() + 40.0 * turn(7 * 96).sin()) * noise
        };
        let values: Vec<f64> = (0..steps).map(value).collect();
        let series = Series::uncorrected(0, HOUR_US / 4, &values);
        let config = EngineConfig { horizon_steps: 96, ..EngineConfig::default() };
        let scores = outlook(series, &[], &config, 24, 21 * 24 * HOUR_US).expect("runs");
        let counted: Vec<u64> = scores.iter().map(|score| score.outlook.steps).collect();
        assert_eq!(counted.first(), Some(&(19 * 24)), "{counted:?}");
        for score in &scores {
            // The mean step is off by half of the noise's tenth.
            assert!(score.outlook.wape() < 0.05 && score.alone.wape() < 0.05, "{score:?}");
            assert!(score.outlook.coverage_80() > 0.6, "{score:?}");
        }
        // The week before repeats the load but for the noise, which hourly means have less of.
        let far = scores.last().expect("four");
        assert!(far.naive.steps == far.outlook.steps && far.naive.wape() < 0.03, "{far:?}");
    }
}
