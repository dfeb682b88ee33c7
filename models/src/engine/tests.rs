use super::*;
use crate::testing::{self, DAY, STEP_US};

fn config() -> EngineConfig {
    EngineConfig { step_us: STEP_US, horizon_steps: 96, ..EngineConfig::default() }
}

fn event(id: &str, day: i64, announced_day: i64) -> KnownEvent {
    let announced_at_us = announced_day * DAY * STEP_US;
    KnownEvent { announced_at_us, ..testing::event(id, "match", day * DAY + 72, 1.0) }
}

/// A daily rhythm, noise of 5 %, and load three times as high during each event.
fn load(step: i64, events: &[KnownEvent]) -> f64 {
    let phase = (step % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
    let noise = 1.0 + 0.05 * ((step * 7919 % 101) as f64 / 50.0 - 1.0);
    let start_us = step * STEP_US;
    let acts = events.iter().any(|event| start_us >= event.starts_at_us && start_us < event.ends_at_us);
    (200.0 + 100.0 * phase.sin()) * noise * if acts { 3.0 } else { 1.0 }
}

fn run(engine: &mut Engine, steps: std::ops::Range<i64>, value: impl Fn(i64) -> f64) -> Vec<ForecastSet> {
    let mut made = Vec::new();
    for step in steps {
        engine.observe(step * STEP_US, value(step));
        made.extend(engine.forecast().ok());
    }
    made
}

fn median(set: &ForecastSet, step: usize) -> f64 {
    let levels = set.levels.len();
    crate::score::at_level(&set.levels, &set.values[step * levels..(step + 1) * levels], 0.5)
}

#[test]
fn it_learns_what_events_do_and_forecasts_the_next() {
    let events: Vec<_> = [8, 10, 12, 14, 16].map(|day| event(&format!("m{day}"), day, 0)).into();
    let mut engine = Engine::try_new(config()).expect("legal");
    events.iter().for_each(|event| engine.signal(event.clone()));
    let made = run(&mut engine, 0..16 * DAY, |step| load(step, &events));
    let last = made.last().expect("a forecast");
    assert_eq!(last.signals, [("m16".to_owned(), 1)]);
    let quiet = median(last, 40) / load(16 * DAY + 40, &events);
    let during = median(last, 75) / load(16 * DAY + 75, &events);
    assert!((quiet - 1.0).abs() < 0.15, "quiet: {quiet}");
    assert!((during - 1.0).abs() < 0.3, "during the event: {during}");
    assert!(last.event_steps[75] && !last.event_steps[40]);
}

#[test]
fn quantiles_ascend_and_cover() {
    let mut engine = Engine::try_new(config()).expect("legal");
    let made = run(&mut engine, 0..21 * DAY, |step| load(step, &[]));
    let mut sums = crate::score::Sums::default();
    for set in &made {
        for values in set.values.chunks_exact(set.levels.len()) {
            assert!(values.is_sorted() && values.iter().all(|value| value.is_finite() && *value >= 0.0));
        }
        let step = set.origin_us / STEP_US;
        for ahead in [0, 11, 47] {
            let at = usize::try_from(ahead).expect("small") * set.levels.len();
            sums.add(&set.levels, &set.values[at..at + set.levels.len()], load(step + ahead, &[]));
        }
    }
    assert!((0.7..0.95).contains(&sums.coverage_80()), "{}", sums.coverage_80());
    assert!(sums.wape() < 0.08, "{}", sums.wape());
}

#[test]
fn no_model_looks_ahead() {
    let told: Vec<_> = [8, 10].map(|day| event(&format!("m{day}"), day, 0)).into();
    let mut late = told.clone();
    late.push(event("late", 13, 12));
    let mut plain = Engine::try_new(config()).expect("legal");
    let mut other = plain.clone();
    told.iter().for_each(|event| plain.signal(event.clone()));
    late.iter().for_each(|event| other.signal(event.clone()));
    let before = run(&mut plain, 0..12 * DAY - 1, |step| load(step, &told));
    let same = run(&mut other, 0..12 * DAY - 1, |step| load(step, &told)) == before;
    assert!(same, "an event announced later changed a forecast");
    // From its announcement on it counts.
    let after = run(&mut other, 12 * DAY - 1..12 * DAY + 90, |step| load(step, &told));
    assert!(after.last().expect("a forecast").signals.contains(&("late".to_owned(), 1)));
}

#[test]
fn a_snapshot_goes_on_with_the_same_forecasts() {
    let events = [event("m9", 9, 0)];
    let mut engine = Engine::try_new(config()).expect("legal");
    engine.signal(events[0].clone());
    run(&mut engine, 0..10 * DAY, |step| if step % 50 == 0 { f64::NAN } else { load(step, &events) });
    let bytes = postcard::to_stdvec(&engine).expect("serialises");
    let mut restored: Engine = postcard::from_bytes(&bytes).expect("comes back");
    let expected = run(&mut engine, 10 * DAY..11 * DAY, |step| load(step, &events));
    assert!(!expected.is_empty());
    assert!(run(&mut restored, 10 * DAY..11 * DAY, |step| load(step, &events)) == expected, "forecasts differ");
}

#[test]
fn difficult_series_never_break_it() {
    for (name, value) in [
        ("zeros", (|_| 0.0) as fn(i64) -> f64),
        ("constant", |_| 5.0),
        ("gaps", |step| if step % 3 == 0 { f64::NAN } else { 10.0 }),
        ("spikes", |step| if step % 97 == 0 { 1e9 } else { 1.0 }),
        ("negative", |step| if step % 5 == 0 { -1.0 } else { 3.0 }),
    ] {
        let mut engine = Engine::try_new(config()).expect("legal");
        let made = run(&mut engine, 0..9 * DAY, value);
        assert!(made.iter().all(|set| set.values.iter().all(|value| value.is_finite() && *value >= 0.0)), "{name}");
        assert!(!made.is_empty(), "{name}");
    }
    let mut engine = Engine::try_new(config()).expect("legal");
    run(&mut engine, 0..8 * DAY, |step| load(step, &[]));
    run(&mut engine, 8 * DAY..8 * DAY + 12, |_| f64::NAN);
    assert!(engine.forecast().expect_err("gaps").reason.contains("gaps"));
    assert!(matches!(engine.observe(0, 1.0).as_slice(), [Note::Ignored(_)]));
}

#[test]
fn it_abstains_first_then_fits_and_refits() {
    let mut engine = Engine::try_new(EngineConfig { with_benchmark: true, ..config() }).expect("legal");
    let mut reasons = Vec::new();
    for step in 0..9 * DAY {
        for note in engine.observe(step * STEP_US, load(step, &[])) {
            if let Note::Refitted(card) = note {
                reasons.push((card.family, card.reason));
            }
        }
        assert_eq!(engine.forecast().is_err(), step < 7 * DAY - 1, "step {step}");
    }
    let count = |family: &str, reason: &str| reasons.iter().filter(|r| r.0 == family && r.1 == reason).count();
    assert_eq!((count("ridge-events", "first"), count("ridge-events", "age")), (1, 8));
    assert_eq!((count("seasonal-naive", "first"), count("augurs-mstl-ets", "first")), (1, 1));
}
