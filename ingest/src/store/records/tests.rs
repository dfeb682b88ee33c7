use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{
    ActionRecord, ActionState, Approval, AudienceQuality, Model, Outcome, Plan, Signal, SignalKind, SignalStatus,
    StageMove, Switch, Term,
};
use headroom_proto::{EventTime, signal};
use serde_json::{Value, json};

use super::*;

const AT_US: i64 = 897_490_800_123_456;

fn received(table: Table, name: &str, value: impl Into<Bytes>) -> Received {
    Received {
        topic: table.topic().expect("a topic"),
        partition: 0,
        offset: 7,
        key: None,
        value: value.into(),
        headers: vec![(headers::MESSAGE.to_owned(), Bytes::copy_from_slice(name.as_bytes()))],
        time: Some(EventTime::from_micros(AT_US)),
    }
}

/// The one row of a record, as JSON without nulls.
fn stored(table: Table, name: &str, message: &impl Message) -> Value {
    as_json(&rows(table, &received(table, name, message.encode_to_vec())).expect(name))
}

fn as_json(batch: &RecordBatch) -> Value {
    let mut out = LineDelimitedWriter::new(Vec::new());
    out.write(batch).expect("writes");
    out.finish().expect("ends");
    serde_json::from_slice(&out.into_inner()).expect("one line")
}

#[test]
fn a_plan_comes_back() {
    let plan = Plan {
        plan_id: "p1".to_owned(),
        workload: "shop".to_owned(),
        decided_at_us: AT_US,
        step_us: 300_000_000,
        units: vec![3, 4],
        lead_time_us: 900_000_000,
        quantile: 0.75,
        signal_ids: vec!["match-12".to_owned()],
        ..Plan::default()
    };
    let row = stored(Table::Plans, "Plan", &plan);
    let expected = json!({
        "date": "1998-06-10", "plan_id": "p1", "workload": "shop", "decided_at": "1998-06-10T15:00:00.123456Z",
        "step_s": 300.0, "units": [3, 4], "units_before": 0, "units_now": 0, "quantile": 0.75,
        "cost_per_unit_hour": 0.0, "cost_per_violation_minute": 0.0, "lead_time_s": 900.0,
        "signal_ids": ["match-12"], "observed_load": 0.0, "expected_peak": 0.0,
    });
    assert_eq!(row, expected);
}

#[test]
fn moves_and_switches_share_a_table() {
    let action = ActionRecord {
        action_id: "a1".to_owned(),
        workload: "shop".to_owned(),
        sequence: 3,
        state: ActionState::RolledBack.into(),
        previous_state: ActionState::Holding.into(),
        at_us: AT_US,
        undo_units: 2,
        ..ActionRecord::default()
    };
    let row = stored(Table::Actions, "ActionRecord", &action);
    for (column, value) in [
        ("state", json!("rolled_back")),
        ("previous_state", json!("holding")),
        ("sequence", json!(3)),
        ("undo_units", json!(2)),
        ("decided_at", Value::Null),
    ] {
        assert_eq!(row.get(column).unwrap_or(&Value::Null), &value, "{column}");
    }
    let switch = Switch { paused: true, actor: "ops".to_owned(), at_us: AT_US, ..Switch::default() };
    let row = stored(Table::Actions, "Switch", &switch);
    let expected =
        json!({"date": "1998-06-10", "state": "paused", "at": "1998-06-10T15:00:00.123456Z", "actor": "ops"});
    assert_eq!(row, expected);
    let approval = Approval {
        action_id: "a1".to_owned(),
        workload: "shop".to_owned(),
        actor: "ann".to_owned(),
        plan_hash: "h1".to_owned(),
        at_us: AT_US,
        ..Approval::default()
    };
    let row = stored(Table::Actions, "Approval", &approval);
    assert_eq!((row.get("state"), row.get("plan_hash")), (Some(&json!("approval")), Some(&json!("h1"))));
    let moved = StageMove {
        workload: "shop".to_owned(),
        kind: "raise".to_owned(),
        from: "automate".to_owned(),
        to: "recommend".to_owned(),
        reason: "a stale model".to_owned(),
        at_us: AT_US,
        ..StageMove::default()
    };
    let row = stored(Table::Actions, "StageMove", &moved);
    let reason = json!("raise, automate -> recommend: a stale model");
    assert_eq!(
        (row.get("state"), row.get("reason"), row.get("stage")),
        (Some(&json!("stage")), Some(&reason), Some(&json!("recommend")))
    );
    let row = stored(Table::Actions, "Term", &Term { term: 3, holder: "a".to_owned(), at_us: AT_US });
    assert_eq!((row.get("state"), row.get("reason")), (Some(&json!("term")), Some(&json!("term 3"))));
}

#[test]
fn outcomes_and_models_come_back() {
    let outcome = Outcome {
        action_id: "a1".to_owned(),
        workload: "shop".to_owned(),
        measured_to_us: AT_US,
        observed_peak: 81.5,
        judgement: "good".to_owned(),
        ..Outcome::default()
    };
    let row = stored(Table::Outcomes, "Outcome", &outcome);
    assert_eq!((row.get("observed_peak"), row.get("judgement")), (Some(&json!(81.5)), Some(&json!("good"))));
    let model = Model {
        model_version: "m2".to_owned(),
        workload: "shop".to_owned(),
        train_steps: u64::MAX,
        table_versions: [("windows".to_owned(), 12)].into(),
        scores: [("wql".to_owned(), 0.1), ("wape".to_owned(), 0.2)].into(),
        champion: true,
        ..Model::default()
    };
    let row = stored(Table::Models, "Model", &model);
    assert_eq!(row.get("scores"), Some(&json!({"wape": 0.2, "wql": 0.1})));
    assert_eq!(row.get("table_versions"), Some(&json!({"windows": 12})));
    assert_eq!((row.get("train_steps"), row.get("parent")), (Some(&json!(i64::MAX)), None));
}

#[test]
fn signals_come_as_cloud_events() {
    let announced = Signal {
        signal_id: "match-12".to_owned(),
        revision: 2,
        kind: SignalKind::Match.into(),
        status: SignalStatus::Announced.into(),
        starts_at_us: AT_US,
        ends_at_us: AT_US + 1,
        announced_at_us: AT_US - 1,
        audience_size: Some(80_000),
        audience_quality: AudienceQuality::Estimate.into(),
        weight: 1.5,
        workloads: vec!["shop-*".to_owned()],
        ..Signal::default()
    };
    let event = signal::to_event(&announced, "/test").expect("an event");
    let value = serde_json::to_vec(&event).expect("encodes");
    let row = as_json(&rows(Table::Signals, &received(Table::Signals, "", value)).expect("a signal"));
    for (column, value) in [
        ("kind", json!("match")),
        ("status", json!("announced")),
        ("audience_size", json!(80_000)),
        ("audience_quality", json!("estimate")),
        ("workloads", json!(["shop-*"])),
        ("starts_at", json!("1998-06-10T15:00:00.123456Z")),
    ] {
        assert_eq!(row.get(column), Some(&value), "{column}");
    }
}

#[test]
fn what_is_no_record_says_why() {
    let plan = Plan { plan_id: "p1".to_owned(), workload: "shop".to_owned(), ..Plan::default() };
    for (part, record) in [
        ("is `Plan`, expected `Outcome`", received(Table::Outcomes, "Plan", plan.encode_to_vec())),
        ("Plan: ", received(Table::Plans, "Plan", &b"\xff\xff\xff"[..])),
        ("no plan_id", received(Table::Plans, "Plan", Bytes::new())),
        ("state 0 is unknown", received(Table::Actions, "ActionRecord", Bytes::new())),
        ("not a CloudEvent", received(Table::Signals, "", &b"{}"[..])),
        ("no header", Received { headers: Vec::new(), ..received(Table::Plans, "", Bytes::new()) }),
    ] {
        let table = Table::of_topic(record.topic).expect("a table");
        let reason = rows(table, &record).expect_err(part);
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert!(Table::of_topic(Topic::Late).is_none());
}
