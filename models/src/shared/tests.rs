use super::*;
use crate::testing::{self, DAY, STEP_US};
use crate::{EngineConfig, KnownEvent};

fn config() -> EngineConfig {
    EngineConfig { step_us: STEP_US, horizon_steps: 96, ..EngineConfig::default() }
}

fn engine(workload: &str) -> Engine {
    Engine::try_new(config()).expect("legal").sharing_trees(workload)
}

/// A daily wave that ends in a plateau, which harmonics miss, with noise of 5 %.
fn load(size: f64, step: i64) -> f64 {
    let phase = (step % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
    let noise = 1.0 + 0.05 * ((step * 7919 % 101) as f64 / 50.0 - 1.0);
    size * (2.0 + phase.sin()) * noise * if step % DAY > 80 { 1.4 } else { 1.0 }
}

/// What the trees say: the workload, the origin and the quantiles.
type Said = (usize, i64, Vec<f32>);

/// Steps of several workloads in turn: (workload, step, value).
fn run(shared: &mut Shared, engines: &mut [Engine], steps: &[(usize, i64, f64)]) -> Vec<Said> {
    let mut said = Vec::new();
    engines.iter_mut().for_each(Engine::keep_last_forecasts);
    for (of, step, value) in steps {
        let engine = &mut engines[*of];
        shared.observe(engine, step * STEP_US, *value);
        let Ok(set) = engine.forecast() else { continue };
        let boosted = engine.last_forecasts().filter(|(family, _)| *family == "boosted");
        said.extend(boosted.map(|(_, values)| (*of, set.origin_us, values.to_vec())));
    }
    said
}

fn in_turn(days: i64) -> Vec<(usize, i64, f64)> {
    (0..days * DAY).flat_map(|step| [(0, step, load(100.0, step)), (1, step, load(900.0, step))]).collect()
}

#[test]
fn alone_a_workload_borrows_the_trees_it_would_have_grown() {
    let mut own = Engine::try_new(config()).expect("legal");
    let (mut shared, mut borrower) = (Shared::default(), engine("a"));
    let mut compared = 0;
    for step in 0..20 * DAY {
        own.observe(step * STEP_US, load(100.0, step));
        shared.observe(&mut borrower, step * STEP_US, load(100.0, step));
        if (step + 1) % DAY == 0 && step > 13 * DAY {
            assert!(own.trees().is_some() && own.trees() == borrower.trees(), "{step}");
            compared += 1;
        }
    }
    assert_eq!((compared, own.trees().map(|trees| trees.workloads)), (7, Some(1)));
}

#[test]
fn rows_of_all_grow_one_set_of_trees() {
    let mut shared = Shared::default();
    let mut engines = [engine("a"), engine("b")];
    run(&mut shared, &mut engines, &in_turn(16));
    let newest = shared.versions.back().expect("grown");
    assert!(newest.workloads == 2 && newest.rows > shared.rows / 2, "{} of {}", newest.rows, shared.rows);
    // Neither holds trees or rows: together they are smaller than one that has its own.
    let size = |engine: &Engine| postcard::to_stdvec(engine).expect("writes").len();
    let mut own = Engine::try_new(config()).expect("legal");
    for step in 0..16 * DAY {
        own.observe(step * STEP_US, load(100.0, step));
        own.forecast().ok();
    }
    assert!(4 * size(&engines[0]) < size(&own), "{} {}", size(&engines[0]), size(&own));
}

#[test]
fn no_forecast_rests_on_what_came_after_its_origin_at_another_workload() {
    let lead = 2 * DAY;
    // The first workload's windows are read two days before the other's.
    let forecasts = |changed_from: i64| {
        let first = |step: i64| load(100.0, step) * if step >= changed_from { 9.0 } else { 1.0 };
        let steps = (0..21 * DAY).flat_map(|step| {
            let behind = (step >= lead).then(|| (1, step - lead, load(900.0, step - lead)));
            [Some((0, step, first(step))), behind].into_iter().flatten()
        });
        let made = run(&mut Shared::default(), &mut [engine("a"), engine("b")], &steps.collect::<Vec<_>>());
        made.into_iter().filter(|(of, ..)| *of == 1).collect::<Vec<_>>()
    };
    let (plain, changed) = (forecasts(i64::MAX), forecasts(16 * DAY));
    let same = plain.iter().take_while(|(_, origin_us, _)| *origin_us <= 16 * DAY * STEP_US).count();
    assert!(same > 24 && plain[..same] == changed[..same], "a later load of another workload was used");
    // From then on it is: the trees are of both.
    assert!(plain[same..] != changed[same..]);
}

#[test]
fn what_is_kept_is_bounded_and_does_not_depend_on_the_order() {
    let rows = |workload: u64| -> Vec<Row> {
        (0..40_000_u64).map(|at| Row::of_key((workload * 40_000 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect()
    };
    let after = |order: &[u64]| {
        let mut shared = Shared::default();
        for workload in order {
            shared.add(&config(), (0, 1 + i64::try_from(*workload).expect("small")), *workload, rows(*workload));
        }
        shared
    };
    let shared = after(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(shared.rows <= MAX_ROWS && shared.rows > MAX_ROWS / 3, "{}", shared.rows);
    assert_eq!(shared.batches.len(), 8);
    let keys = |shared: &Shared| -> Vec<Vec<u64>> {
        shared.batches.iter().map(|batch| batch.rows.iter().map(Row::key).collect()).collect()
    };
    assert!(keys(&shared) == keys(&after(&[7, 2, 0, 5, 1, 3, 6, 4])));
}

#[test]
fn a_snapshot_goes_on_with_the_same_forecasts() {
    let (mut shared, mut engines) = (Shared::default(), [engine("a"), engine("b")]);
    let steps = in_turn(17);
    let (before, after) = steps.split_at(steps.len() - 300);
    run(&mut shared, &mut engines, before);
    let bytes = postcard::to_stdvec(&(&shared, &engines[0], &engines[1])).expect("writes");
    let (mut again, one, two): (Shared, Engine, Engine) = postcard::from_bytes(&bytes).expect("reads");
    let expected = run(&mut shared, &mut engines, after);
    assert!(expected.len() > 70 && run(&mut again, &mut [one, two], after) == expected);
    // Taken elsewhere, an engine has the trees with it.
    let artefact = postcard::to_stdvec(&engines[0].artefact("home")).expect("writes");
    let beside = postcard::to_stdvec(&engines[0].artefact_beside_trees("home")).expect("writes");
    let trees = postcard::to_stdvec(&shared.artefact()).expect("writes");
    assert!(beside.len() + trees.len() / 2 < artefact.len() && artefact.len() < beside.len() + trees.len() + 100);
}

/// A sale of two hours at 18:00, told a week before.
fn sale(day: i64) -> KnownEvent {
    let announced_at_us = (day - 7) * DAY * STEP_US;
    KnownEvent { announced_at_us, ..testing::event(&format!("sale-{day}"), "sale", day * DAY + 72, 1.0) }
}

#[test]
fn a_first_event_is_forecast_by_what_such_events_did_elsewhere() {
    let (days, first) = (24, 23);
    let during = |step: i64, day: i64| (day * DAY + 72..day * DAY + 80).contains(&step);
    // Four workloads have had a sale every third day, with five times the load; the last one has its first.
    let forecasts = |others: u64| -> (Vec<f32>, Vec<String>) {
        let mut shared = Shared::default();
        let mut engines: Vec<Engine> = (0..=others).map(|place| engine(&format!("w{place}"))).collect();
        for (place, engine) in engines.iter_mut().enumerate() {
            let is_last = place == usize::try_from(others).expect("small");
            let days: Vec<i64> = if is_last { vec![first] } else { (8..days).step_by(3).collect() };
            days.into_iter().for_each(|day| engine.signal(sale(day)));
        }
        for step in 0..first * DAY + 60 {
            for (place, engine) in (0_u32..).zip(&mut engines) {
                let sold = u64::from(place) < others && (8..days).step_by(3).any(|day| during(step, day));
                let value = load(100.0 * f64::from(place + 1), step) * if sold { 5.0 } else { 1.0 };
                shared.observe(engine, step * STEP_US, value);
            }
            // Residuals of all hours are wanted.
            if (step + 1) % 4 == 0 {
                engines.iter_mut().for_each(|engine| drop(engine.forecast()));
            }
        }
        let last = engines.last_mut().expect("one");
        let set = last.forecast().expect("a forecast");
        let step = usize::try_from(72 - 60 + 4).expect("small");
        let row = set.values.iter().skip(step * set.levels.len()).take(set.levels.len());
        (row.copied().collect(), set.unlike)
    };
    let quiet = load(500.0, first * DAY + 76);
    let median = |row: &[f32]| f64::from(row[4]) / quiet;
    let ((alone, guess), (together, told)) = (forecasts(0), forecasts(4));
    assert!(guess.iter().any(|reason| reason.ends_with("no sale of its length has been seen")), "{guess:?}");
    assert!(told.iter().any(|reason| reason.contains("taken from 4 other workloads")), "{told:?}");
    let quiet_alone = load(100.0, first * DAY + 76);
    assert!(f64::from(alone[4]) / quiet_alone < 2.5, "{alone:?}");
    assert!((3.0..6.5).contains(&median(&together)), "{together:?} over {quiet}");
}
