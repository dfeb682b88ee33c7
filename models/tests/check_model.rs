//! What every family of models must do, alone in an engine: the same checks for each.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::f64::consts::TAU;

use headroom_models::{Engine, EngineConfig, Family, ForecastSet, KnownEvent, Note};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const STEP_US: i64 = 900_000_000;
const DAY: i64 = 96;
const HISTORY: i64 = 20 * DAY;

fn config() -> EngineConfig {
    EngineConfig { step_us: STEP_US, horizon_steps: 96, ..EngineConfig::default() }
}

fn engine(family: Family) -> Engine {
    Engine::of_family(config(), family).expect("legal settings")
}

/// A daily rhythm with noise of 5 %.
fn rhythm(seed: u64, scale: f64) -> Vec<f64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let value = |step: i64| {
        let phase = (step % DAY) as f64 / DAY as f64 * TAU;
        scale * (2_000.0 + 1_000.0 * phase.sin()) * (1.0 + random.random_range(-0.05..0.05))
    };
    (0..HISTORY).map(value).collect()
}

fn forecasts(engine: &mut Engine, first: i64, values: &[f64]) -> Vec<ForecastSet> {
    let mut made = Vec::new();
    for (step, value) in (first..).zip(values) {
        let notes = engine.observe(step * STEP_US, *value);
        let ignored = notes.iter().find(|note| matches!(note, Note::Ignored(_)));
        assert!(ignored.is_none(), "step {step}: {ignored:?}");
        made.extend(engine.forecast().ok());
    }
    made
}

fn medians(set: &ForecastSet) -> Vec<f64> {
    let at = set.levels.iter().position(|level| (level - 0.5).abs() < 1e-9).expect("a median");
    set.values.chunks_exact(set.levels.len()).map(|values| f64::from(values[at])).collect()
}

fn event(announced_day: i64, day: i64) -> KnownEvent {
    let starts_at_us = (day * DAY + 60) * STEP_US;
    KnownEvent {
        id: "launch".to_owned(),
        revision: 1,
        kind: "launch".to_owned(),
        name: String::new(),
        channel: String::new(),
        weight: 1.0,
        audience_size: None,
        announced_at_us: announced_day * DAY * STEP_US,
        starts_at_us,
        ends_at_us: starts_at_us + 8 * STEP_US,
        cancelled: false,
    }
}

/// Quantiles are finite, not negative, ascend, and stand for the whole horizon.
fn is_sound(name: &str, set: &ForecastSet) {
    assert_eq!(set.values.len(), config().horizon_steps * set.levels.len(), "{name}");
    for values in set.values.chunks_exact(set.levels.len()) {
        assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "{name}: {values:?}");
        assert!(values.is_sorted(), "{name}: {values:?}");
    }
}

#[test]
fn forecasts_are_sound_on_difficult_series() {
    let series: [(&str, fn(i64) -> f64); 6] = [
        ("zeros", |_| 0.0),
        ("constant", |_| 5.0),
        ("gaps", |step| if step % 3 == 0 { f64::NAN } else { 10.0 }),
        ("a day's gap", |step| if (9 * DAY..10 * DAY).contains(&step) { f64::NAN } else { 10.0 }),
        ("spikes", |step| if step % 97 == 0 { 1e9 } else { 1.0 }),
        ("a step up", |step| if step < 11 * DAY { 10.0 } else { 1_000.0 }),
    ];
    for family in Family::ALL {
        for (name, value) in series {
            let values: Vec<f64> = (0..HISTORY).map(value).collect();
            let made = forecasts(&mut engine(family), 0, &values);
            assert!(!made.is_empty(), "{} on {name}", family.name());
            made.iter().for_each(|set| is_sound(&format!("{} on {name}", family.name()), set));
            if name == "constant" {
                let worst =
                    medians(&made[made.len() - 1]).into_iter().fold(0.0, |worst: f64, m| worst.max((m - 5.0).abs()));
                assert!(worst < 0.05, "{} is {worst} off a constant of 5", family.name());
            }
        }
    }
}

#[test]
fn a_rhythm_is_learned() {
    for family in Family::ALL {
        let values = rhythm(1, 1.0);
        let made = forecasts(&mut engine(family), 0, &values);
        let last = medians(&made[made.len() - 1]);
        let error: f64 = last.iter().zip(&rhythm(1, 1.0)[..]).map(|(m, v)| (m - v).abs()).sum();
        let load: f64 = values[..last.len()].iter().sum();
        // Noise alone makes 2.5 %, two noisy days 3.3 %, and an hour's mean in place of a quarter's a little more.
        assert!(error / load < 0.05, "{}: {:.3}", family.name(), error / load);
    }
}

#[test]
fn the_same_input_gives_the_same_forecasts() {
    for family in Family::ALL {
        let values = rhythm(2, 1.0);
        let first = forecasts(&mut engine(family), 0, &values);
        assert!(first == forecasts(&mut engine(family), 0, &values), "{}", family.name());
    }
}

#[test]
fn the_future_moves_no_forecast() {
    for family in Family::ALL {
        let values = rhythm(3, 1.0);
        let until = usize::try_from(17 * DAY).expect("small") - 1;
        let mut other = engine(family);
        // Announced at the end of the span: known to no origin within it.
        other.signal(event(17, 18));
        let told = forecasts(&mut other, 0, &values[..until]);
        assert!(told == forecasts(&mut engine(family), 0, &values[..until]), "{}: an announcement", family.name());
        let mut changed = values.clone();
        changed[until..].iter_mut().for_each(|value| *value *= 9.0);
        let whole = forecasts(&mut engine(family), 0, &changed);
        assert!(whole[..told.len()] == told, "{}: later loads", family.name());
    }
}

#[test]
fn forecasts_scale_with_the_load() {
    for family in Family::ALL {
        let (small, large) = (rhythm(4, 1.0), rhythm(4, 8.0));
        let (small, large) = (forecasts(&mut engine(family), 0, &small), forecasts(&mut engine(family), 0, &large));
        assert_eq!(small.len(), large.len());
        for (small, large) in medians(&small[small.len() - 1]).into_iter().zip(medians(&large[large.len() - 1])) {
            // Equal but for ln(1 + x) at 1,000, and the penalties that are not scaled; trees jump at the edges of bins.
            let tolerance = if matches!(family, Family::Boosted | Family::Ensemble) { 0.02 } else { 0.005 };
            assert!((large / small / 8.0 - 1.0).abs() < tolerance, "{}: {small} and {large}", family.name());
        }
    }
}

#[test]
fn a_short_history_makes_it_abstain() {
    for family in Family::ALL {
        let mut engine = engine(family);
        let values = rhythm(5, 1.0);
        let first = (7 * DAY).max(family.min_history_us(STEP_US) / STEP_US);
        let enough = usize::try_from(first).expect("small");
        assert!(forecasts(&mut engine, 0, &values[..enough - 1]).is_empty(), "{}", family.name());
        assert!(engine.forecast().expect_err("too short").reason.contains("hours of history"), "{}", family.name());
        assert_eq!(forecasts(&mut engine, first - 1, &values[enough - 1..enough]).len(), 1, "{}", family.name());
    }
}

#[test]
fn a_snapshot_comes_back_equal() {
    for family in Family::ALL {
        let values = rhythm(6, 1.0);
        let half = values.len() / 4 * 3;
        let mut engine = engine(family);
        engine.signal(event(1, 18));
        forecasts(&mut engine, 0, &values[..half]);
        let bytes = postcard::to_stdvec(&engine).expect("serialises");
        let mut restored: Engine = postcard::from_bytes(&bytes).expect("comes back");
        assert_eq!(postcard::to_stdvec(&restored).expect("serialises"), bytes, "{}", family.name());
        let first = i64::try_from(half).expect("small");
        let (one, other) =
            (forecasts(&mut engine, first, &values[half..]), forecasts(&mut restored, first, &values[half..]));
        assert!(!one.is_empty() && one == other, "{}", family.name());
    }
}
