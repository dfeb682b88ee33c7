use super::*;
use crate::EngineConfig;

const HOUR_US: i64 = 3_600_000_000;
const STEP_US: i64 = HOUR_US / 4;
const DAY: i64 = 96;

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
