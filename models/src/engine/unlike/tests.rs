use super::*;
use crate::EngineConfig;
use crate::testing::{self, DAY, STEP_US};

/// At 12 o'clock of a day.
fn event(id: &str, kind: &str, day: i64, weight: f64) -> KnownEvent {
    testing::event(id, kind, day * DAY + 48, weight)
}

fn load(step: i64) -> f64 {
    let phase = (step % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
    (200.0 + 100.0 * phase.sin()) * (1.0 + 0.05 * ((step * 7919 % 101) as f64 / 50.0 - 1.0))
}

/// Ten days, of which the last hour is `times` as high.
fn forecast(events: &[KnownEvent], times: f64) -> ForecastSet {
    let config = EngineConfig { step_us: STEP_US, horizon_steps: 96, ..EngineConfig::default() };
    let mut engine = Engine::try_new(config).expect("legal");
    events.iter().for_each(|event| engine.signal(event.clone()));
    for step in 0..10 * DAY {
        let is_last_hour = step >= 10 * DAY - 4;
        engine.observe(step * STEP_US, load(step) * if is_last_hour { times } else { 1.0 });
    }
    engine.forecast().expect("enough history")
}

/// Width of the interval of 80 % at a step, as a ratio.
fn width(set: &ForecastSet, step: usize) -> f64 {
    let row = &set.values[step * set.levels.len()..(step + 1) * set.levels.len()];
    at_level(&set.levels, row, 0.9) / at_level(&set.levels, row, 0.1)
}

#[test]
fn a_load_beyond_all_that_was_seen_is_marked_and_less_sure() {
    let usual = forecast(&[], 1.0);
    assert!(usual.unlike.is_empty() && usual.verdict == Verdict::Fresh, "{}", usual.verdict_reason);
    for (times, word) in [(6.0, "above"), (0.05, "below")] {
        let set = forecast(&[], times);
        assert!(set.verdict == Verdict::Suspect && set.verdict_reason.contains(word), "{}", set.verdict_reason);
        assert!(width(&set, 40).ln() > 1.2 * width(&usual, 40).ln(), "{} {}", width(&set, 40), width(&usual, 40));
        assert!(set.values.chunks_exact(set.levels.len()).all(|row| row.is_sorted()));
    }
}

#[test]
fn a_signal_unlike_those_seen_is_marked_where_it_acts() {
    let past = [event("a", "sale", 4, 1.0), event("b", "sale", 7, 1.0)];
    let with = |coming: KnownEvent| forecast(&[past[0].clone(), past[1].clone(), coming], 1.0);
    let usual = with(event("next", "sale", 10, 1.2));
    assert!(usual.unlike.is_empty(), "{:?}", usual.unlike);
    let long = KnownEvent {
        ends_at_us: event("next", "sale", 10, 1.0).ends_at_us + 4 * HOUR_US,
        ..event("next", "sale", 10, 1.0)
    };
    let by_push = KnownEvent { channel: "push".to_owned(), ..event("next", "sale", 10, 1.0) };
    for (coming, word) in [
        (by_push, "no sale by push"),
        (event("next", "sale", 10, 5.0), "weight"),
        (event("next", "launch", 10, 1.0), "no launch"),
        (long, "twice as long"),
    ] {
        let set = with(coming);
        assert!(set.unlike.len() == 1 && set.unlike[0].contains(word), "{word}: {:?}", set.unlike);
        assert_eq!(set.verdict, Verdict::Suspect);
    }
    let heavy = with(event("next", "sale", 10, 5.0));
    // Noon is within the event, six in the morning is not.
    assert!(width(&heavy, 50).ln() > 1.15 * width(&usual, 50).ln());
    assert!((width(&heavy, 10).ln() / width(&usual, 10).ln() - 1.0).abs() < 0.05);
}
