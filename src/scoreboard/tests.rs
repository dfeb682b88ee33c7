use super::*;

const STEP_US: i64 = 300_000_000;
const STEPS: usize = 3 * 288;
const SCORED: usize = 2 * 288;

/// A quiet load with an hour of five times as much on the last day.
fn loads() -> Vec<f64> {
    (0..STEPS).map(|step| if (700..712).contains(&step) { 350.0 } else { 70.0 }).collect()
}

fn planner() -> PlannerConfig {
    PlannerConfig {
        unit_capacity: 20.0,
        lead_time: Span::from_mins(15),
        dwell: Span::from_mins(10),
        ..PlannerConfig::default()
    }
}

/// Perfect forecasts, the upper level twice as high as the lower.
fn forecasts(loads: &[f64]) -> Forecasts {
    let mut forecasts = Forecasts::new(STEP_US, vec![0.5, 0.99]);
    for origin in SCORED..STEPS {
        let ahead = origin..origin + Forecasts::steps_needed(&planner(), Span::from_micros(STEP_US));
        #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
        let quantiles =
            ahead.map(|step| loads.get(step).copied().unwrap_or(70.0) as f32).flat_map(|load| [load, 2.0 * load]);
        forecasts.add(i64::try_from(origin).expect("small") * STEP_US, quantiles.collect(), Verdict::Fresh);
    }
    forecasts
}

fn board(forecasts: &Forecasts, planner: &PlannerConfig) -> Vec<Row> {
    let loads = loads();
    let course = Course { start_us: 0, step_us: STEP_US, loads: &loads, scored_from: SCORED };
    rows(&[compete(course, forecasts, planner)])
}

fn row<'a>(rows: &'a [Row], policy: &str) -> &'a Row {
    rows.iter().find(|row| row.policy == policy).unwrap_or_else(|| panic!("no {policy} in {rows:#?}"))
}

#[test]
fn the_whole_frontier_is_shown_and_ordered_as_it_must_be() {
    let rows = board(&forecasts(&loads()), &planner());
    let names: Vec<&str> = rows.iter().map(|row| row.policy.as_str()).collect();
    assert_eq!(
        names,
        [
            "static peak (hindsight)",
            "reactive",
            "reactive x1.5",
            "reactive x2",
            "max(seasonal forecast, reactive)",
            "headroom p50",
            "headroom p75 (cost-optimal)",
            "headroom p90",
            "headroom p95",
            "headroom p99",
            "oracle",
        ]
    );
    // The peak is seen 5 minutes after it begins, and the units come 15 minutes later.
    assert!((row(&rows, "reactive").violation_minutes - 20.0).abs() < 1e-9, "{rows:#?}");
    for spared in ["oracle", "headroom p50", "headroom p99"] {
        assert!(row(&rows, spared).violation_minutes.abs() < 1e-9, "{spared}: {rows:#?}");
    }
    assert!((row(&rows, "oracle").cost_vs_oracle - 1.0).abs() < 1e-12);
    assert!(row(&rows, "headroom p99").unit_hours > row(&rows, "headroom p50").unit_hours);
    assert!(row(&rows, "static peak (hindsight)").unit_hours > row(&rows, "headroom p99").unit_hours);
}

#[test]
fn the_quantile_of_the_costs_takes_its_place() {
    let planner = PlannerConfig { quantile: Some(0.8), ..planner() };
    let rows = board(&forecasts(&loads()), &planner);
    assert!(row(&rows, "headroom p80 (cost-optimal)").unit_hours >= row(&rows, "headroom p75").unit_hours);
}

#[test]
fn without_forecasts_headroom_is_the_reactive_guard() {
    let rows = board(&Forecasts::new(STEP_US, vec![0.5]), &planner());
    let (blind, reactive) = (row(&rows, "headroom p90"), row(&rows, "reactive"));
    assert_eq!((blind.violation_minutes, blind.unit_hours), (reactive.violation_minutes, reactive.unit_hours));
}

#[test]
fn an_old_forecast_is_cut_to_what_is_still_ahead_and_then_dropped() {
    let mut forecasts = Forecasts::new(STEP_US, vec![0.5]);
    forecasts.add(0, vec![1.0, 2.0, 3.0], Verdict::Fresh);
    assert_eq!(forecasts.at(2 * STEP_US).expect("still of use").values, [3.0]);
    assert!(forecasts.at(7 * STEP_US).is_none());
    forecasts.add(STEP_US, Vec::new(), Verdict::Abstain);
    assert_eq!(forecasts.at(2 * STEP_US).expect("an abstention").verdict, Verdict::Abstain);
}

#[test]
fn workloads_add_up() {
    let loads = loads();
    let course = Course { start_us: 0, step_us: STEP_US, loads: &loads, scored_from: SCORED };
    let one = compete(course, &forecasts(&loads), &planner());
    let (single, double) = (rows(std::slice::from_ref(&one)), rows(&[one.clone(), one]));
    for (single, double) in single.iter().zip(&double) {
        assert!((2.0 * single.unit_hours - double.unit_hours).abs() < 1e-6);
        assert!((single.cost_vs_oracle - double.cost_vs_oracle).abs() < 1e-9);
    }
}
