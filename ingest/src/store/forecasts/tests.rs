use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, TimestampMicrosecondType};
use headroom_proto::v1::SignalUse;

use super::*;

const STEP_US: i64 = 300_000_000;

fn forecast() -> Forecast {
    Forecast {
        workload: "shop".to_owned(),
        target: "requests_per_s".to_owned(),
        origin_us: 897_490_800_000_000,
        step_us: STEP_US,
        levels: vec![0.025, 0.5, 0.99],
        values: vec![1.0, 2.0, 3.0, 4.0, 5.0, f32::NAN],
        event_steps: vec![false, true],
        model_version: "m1".to_owned(),
        signals: vec![SignalUse { signal_id: "match-12".to_owned(), revision: 2 }],
        verdict: Verdict::Fresh.into(),
        ..Forecast::default()
    }
}

#[test]
fn each_step_is_a_row_and_each_level_a_column() {
    let batch = rows(&forecast()).expect("a forecast");
    let column = |name: &str| batch.column_by_name(name).expect(name).clone();
    assert_eq!(batch.num_rows(), 2);
    assert_eq!(column("q025").as_primitive::<Float32Type>().values(), &[1.0, 4.0]);
    assert_eq!(column("q50").as_primitive::<Float32Type>().values(), &[2.0, 5.0]);
    assert!(column("q99").is_null(1), "not a number is no value");
    let origin = forecast().origin_us;
    assert_eq!(column("at").as_primitive::<TimestampMicrosecondType>().values(), &[origin, origin + STEP_US]);
    let events: Vec<bool> = column("event").as_boolean().iter().flatten().collect();
    assert_eq!(events, [false, true]);
    assert_eq!(column("verdict").as_string::<i32>().value(0), "fresh");
    assert_eq!(column("signals").as_string::<i32>().value(1), "match-12@2");
    assert!(column("feature_version").is_null(0));
}

#[test]
fn an_abstention_keeps_its_reason() {
    let abstains = Forecast {
        values: Vec::new(),
        event_steps: Vec::new(),
        verdict: Verdict::Abstain.into(),
        verdict_reason: "three days of history are missing".to_owned(),
        ..forecast()
    };
    let batch = rows(&abstains).expect("an abstention");
    assert_eq!(batch.num_rows(), 1);
    assert!(batch.column_by_name("q50").expect("q50").is_null(0));
    assert_eq!(batch.column_by_name("verdict_reason").expect("reason").as_string::<i32>().value(0).len(), 33);
    assert_eq!(rows(&Forecast { levels: Vec::new(), ..abstains }).expect("an abstention").num_rows(), 1);
}

#[test]
fn a_forecast_that_cannot_be_is_refused() {
    for (what, broken) in [
        ("verdict", Forecast { verdict: 99, ..forecast() }),
        ("workload", Forecast { workload: String::new(), ..forecast() }),
        ("step", Forecast { step_us: 0, ..forecast() }),
        ("levels", Forecast { levels: vec![0.5, 0.5, 0.9], ..forecast() }),
        ("levels", Forecast { levels: vec![0.0, 0.5, 1.0], ..forecast() }),
        ("6 values", Forecast { levels: vec![0.1, 0.5, 0.8, 0.9], ..forecast() }),
        ("6 values", Forecast { levels: Vec::new(), ..forecast() }),
        ("abstain", Forecast { values: Vec::new(), ..forecast() }),
    ] {
        let reason = rows(&broken).expect_err(what);
        assert!(reason.contains(what), "{what}: {reason}");
    }
}
