use super::*;
use crate::testing::{DAY, STEP_US};
use crate::{EngineConfig, Note};

/// A daily wave; `wild` turns it upside down and shakes it.
fn load(step: i64, wild: bool) -> f64 {
    let phase = (step % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
    let noise = (step * 7919 % 101) as f64 / 50.0 - 1.0;
    if wild {
        (200.0 - 150.0 * phase.sin()) * (1.0 + 0.4 * noise)
    } else {
        (200.0 + 100.0 * phase.sin()) * (1.0 + 0.05 * noise)
    }
}

fn at_home() -> Engine {
    let config = EngineConfig { step_us: STEP_US, horizon_steps: 96, ..EngineConfig::default() };
    let mut engine = Engine::try_new(config).expect("legal");
    for step in 0..14 * DAY {
        engine.observe(step * STEP_US, load(step, false));
        engine.forecast().ok();
    }
    engine
}

/// What the moved model forecasts day by day, in another year.
fn elsewhere(engine: &mut Engine, days: std::ops::Range<i64>, wild: bool) -> Vec<Option<ForecastSet>> {
    let mut made = Vec::new();
    for step in days.start * DAY..days.end * DAY {
        engine.observe((step + 365 * DAY) * STEP_US, 7.0 * load(step, wild));
        let forecast = engine.forecast().ok();
        if step % DAY == DAY - 1 {
            made.push(forecast);
        }
    }
    made
}

#[test]
fn a_moved_model_is_measured_before_it_may_drive() {
    let home = at_home();
    assert!(home.gap().is_none());
    let mut engine = home.artefact("home");
    let made = elsewhere(&mut engine, 0..4, false);
    let first = made[0].as_ref().expect("from a day on");
    assert!(first.basis == "moved from home" && first.held_back.contains("0 of 24 hours"), "{}", first.held_back);
    let last = made[3].as_ref().expect("made");
    assert!(last.held_back.is_empty() && last.verdict == Verdict::Suspect, "{}", last.held_back);
    assert!(last.verdict_reason.contains("times that at home"), "{}", last.verdict_reason);
    let gap = engine.gap().expect("moved");
    // The same rhythm, seven times as high; at home the loss of the first days counts too.
    assert!((0.4..1.4).contains(&(gap.here_wql / gap.home_wql)), "{gap:?}");
    // A week on, it has models of its own.
    let made = elsewhere(&mut engine, 4..9, false);
    assert!(engine.gap().is_none() && made[4].as_ref().is_some_and(|set| set.basis.is_empty()));
}

#[test]
fn a_model_that_does_not_fit_here_is_held_back_with_its_gap() {
    let mut engine = at_home().artefact("home");
    let made = elsewhere(&mut engine, 0..5, true);
    let last = made[4].as_ref().expect("made");
    assert!(last.held_back.contains("times that at home, more than 1.5"), "{}", last.held_back);
    let gap = engine.gap().expect("moved");
    assert!(gap.here_wql > 1.5 * gap.home_wql && gap.hours >= MEASURED_HOURS, "{gap:?}");
}

#[test]
fn an_artefact_is_small_and_comes_back_equal() {
    let home = at_home();
    let (whole, part) =
        (postcard::to_stdvec(&home).expect("writes"), postcard::to_stdvec(&home.artefact("h")).expect("writes"));
    assert!(part.len() * 2 < whole.len(), "{} of {}", part.len(), whole.len());
    let mut one = home.artefact("h");
    let mut other: Engine = postcard::from_bytes(&part).expect("reads");
    assert!(elsewhere(&mut one, 0..2, false) == elsewhere(&mut other, 0..2, false));
    assert!(matches!(one.observe(0, 1.0).as_slice(), [Note::Ignored(_)]));
}
