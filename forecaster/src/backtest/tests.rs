use headroom_models::KnownEvent;

use super::*;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

fn config() -> EngineConfig {
    EngineConfig { horizon_steps: 24, ..EngineConfig::default() }
}

fn sale(day: i64) -> KnownEvent {
    let starts_at_us = day * DAY_US + 15 * HOUR_US;
    KnownEvent {
        id: format!("sale-{day}"),
        revision: 1,
        kind: "sale".to_owned(),
        name: String::new(),
        channel: String::new(),
        weight: 1.0,
        audience_size: None,
        announced_at_us: starts_at_us - 5 * HOUR_US,
        starts_at_us,
        ends_at_us: starts_at_us + 3 * HOUR_US,
        cancelled: false,
    }
}

/// Hours of a daily wave that doubles during the sales, with one gap.
fn values(days: i64, sales: &[KnownEvent]) -> Vec<f64> {
    let value = |hour: i64| {
        let turn = std::f64::consts::TAU * f64::from(i32::try_from(hour % 24).expect("small")) / 24.0;
        let lift = sales.iter().any(|sale| (sale.starts_at_us..sale.ends_at_us).contains(&(hour * HOUR_US)));
        let load = (100.0 + 40.0 * turn.sin()) * if lift { 2.0 } else { 1.0 };
        if hour == 200 { f64::NAN } else { load }
    };
    (0..days * 24).map(value).collect()
}

#[test]
fn every_origin_is_seen_and_every_model_is_scored() {
    let sales: Vec<KnownEvent> = (0..28).step_by(2).map(sale).collect();
    let values = values(28, &sales);
    let series = Series::uncorrected(0, HOUR_US, &values);
    let mut origins = Vec::new();
    let mut forecasts = 0;
    let config = EngineConfig { with_benchmark: true, ..config() };
    let scores = rolling(series, &sales, &config, 20 * DAY_US, None, |origin_us, forecast| {
        origins.push(origin_us);
        forecasts += i32::from(forecast.is_ok_and(|set| set.origin_us == origin_us && set.values.len() == 240));
    });
    let scores = scores.expect("legal");
    let expected: Vec<i64> = (1..=28 * 24).filter(|hour| *hour != 201).map(|hour| hour * HOUR_US).collect();
    assert_eq!(origins, expected, "a gap makes no forecast");
    assert!(forecasts > 20 * 24, "{forecasts}");
    let models: Vec<&str> = scores.iter().map(|score| score.model.as_str()).collect();
    let families = Family::ALL.map(Family::name);
    assert_eq!(models, [&[SERVED], families.as_slice()].concat());
    for score in &scores {
        let all = [
            score.wql,
            score.event_wql,
            score.wape,
            score.event_wape,
            score.mase,
            score.coverage_80,
            score.event_coverage_95,
        ];
        assert!(all.iter().all(|score| score.is_some_and(|score| score >= 0.0)), "{score:?}");
    }
    let event_wape = |family: Family| {
        scores.iter().find(|score| score.model == family.name()).and_then(|score| score.event_wape).expect("scored")
    };
    assert!(
        event_wape(Family::Ensemble) < event_wape(Family::SeasonalNaive),
        "who knows of the sales is better during sales: {scores:?}"
    );
}

#[test]
fn what_cannot_be_run_is_refused_and_a_short_history_has_no_scores() {
    let values = values(3, &[]);
    let series = Series::uncorrected(0, HOUR_US, &values);
    let odd = Series { start_us: 1, ..series };
    assert!(rolling(odd, &[], &config(), 0, None, |_, _| ()).is_err());
    let illegal = EngineConfig { levels: Vec::new(), ..config() };
    assert!(rolling(series, &[], &illegal, 0, None, |_, _| ()).is_err());
    let mut abstentions = 0;
    let scores = rolling(series, &[], &config(), 0, None, |_, forecast| abstentions += i32::from(forecast.is_err()));
    assert_eq!(abstentions, 72);
    assert_eq!(scores.expect("legal")[0], ModelScores { model: SERVED.to_owned(), ..ModelScores::default() });
}

#[test]
fn several_workloads_share_trees_as_they_do_when_they_run() {
    let sales: Vec<KnownEvent> = (0..20).step_by(2).map(sale).collect();
    let one = values(20, &sales);
    let other: Vec<f64> = values(20, &[]).iter().map(|value| 7.0 * value).collect();
    let config = EngineConfig { step_us: HOUR_US, ..config() };
    let names = ["one", "other"].map(|name| WorkloadId::try_new(name).expect("legal"));
    let series = [&one, &other].map(|values| Series::uncorrected(0, HOUR_US, values));
    let told = [sales.as_slice(), &[]];
    let all: Vec<_> = names.iter().zip(series).zip(told).map(|((name, series), told)| (name, series, told)).collect();
    let trees = shared_trees(&all, &config).expect("legal");
    // As the service goes on: window by window of both.
    let mut running = Shared::default();
    let mut engines =
        names.each_ref().map(|name| Engine::try_new(config.clone()).expect("legal").sharing_trees(name.as_str()));
    engines.iter_mut().zip(told).for_each(|(engine, told)| told.iter().for_each(|sale| engine.signal(sale.clone())));
    let mut live = [Vec::new(), Vec::new()];
    for (start_us, step) in (0..).map(|step| step * HOUR_US).zip(0..one.len()) {
        for ((engine, values), live) in engines.iter_mut().zip([&one, &other]).zip(&mut live) {
            if !values[step].is_nan() {
                running.observe(engine, start_us, values[step]);
                live.extend(engine.forecast().ok());
            }
        }
    }
    for (((series, told), live), name) in series.iter().zip(told).zip(&live).zip(&names) {
        let mut made = Vec::new();
        rolling(*series, told, &config, 0, Some((&trees, name)), |_, set| made.extend(set.ok().cloned()))
            .expect("legal");
        assert_eq!(live.len(), made.len());
        let values = |sets: &[ForecastSet]| sets.iter().flat_map(|set| set.values.clone()).collect::<Vec<f32>>();
        let (live, made) = (values(live), values(&made));
        let apart: f32 = live.iter().zip(&made).map(|(live, made)| (live - made).abs()).sum();
        assert!(apart < 1e-3 * live.iter().sum::<f32>(), "a backtest is what runs: {apart}");
        let alone = rolling(*series, told, &config, 17 * DAY_US, None, |_, _| ()).expect("legal");
        let shared = rolling(*series, told, &config, 17 * DAY_US, Some((&trees, name)), |_, _| ()).expect("legal");
        let loss = |scores: &[ModelScores]| scores.iter().find(|one| one.model == "boosted").and_then(|one| one.wql);
        assert!(loss(&shared).is_some() && loss(&shared) != loss(&alone), "{:?} {:?}", loss(&shared), loss(&alone));
    }
}
