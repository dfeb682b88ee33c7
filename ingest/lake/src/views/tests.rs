//! Each view over a few rows whose answers can be worked out by hand.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::ReaderBuilder;
use arrow::util::pretty::pretty_format_batches;
use serde_json::{Value, json};

use crate::{Commit, Lake, QueryLimits, Table};

/// Rows of a table, with more columns of numbers; what a row leaves out is null.
fn rows(table: Table, numbers: &[&str], rows: &[Value]) -> RecordBatch {
    let mut fields = table.schema().fields().to_vec();
    fields.extend(numbers.iter().map(|name| Arc::new(Field::new(*name, DataType::Float64, true))));
    let mut decoder = ReaderBuilder::new(Arc::new(Schema::new(fields))).build_decoder().expect("a decoder");
    decoder.serialize(rows).expect("rows that fit");
    decoder.flush().expect("rows").expect("some")
}

async fn filled(tables: Vec<(Table, RecordBatch)>) -> (tempfile::TempDir, Lake) {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    for (table, rows) in tables {
        lake.append(table, vec![rows], Commit::default()).await.expect("commits");
    }
    (folder, lake)
}

/// The answer's lines, without its frame.
async fn asked(lake: &Lake, sql: &str) -> Vec<String> {
    let batches = lake.query(sql, &QueryLimits::default()).await.expect(sql).collect().await.expect(sql);
    let text = pretty_format_batches(&batches).expect("text").to_string();
    let lines = text.lines().skip(3).filter(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ")).collect()
}

fn window(start: &str, revision: i32, load: f64) -> Value {
    let start: chrono::DateTime<chrono::Utc> = start.parse().expect("a time");
    json!({
        "date": start.date_naive().to_string(), "query": "load", "window_size_s": 300, "window_start": start,
        "window_end": start + chrono::Duration::minutes(5), "workload": "shop", "revision": revision, "complete": true,
        "rps": load,
    })
}

fn forecast(at: &str, q10: f64, q50: f64, q90: f64) -> Value {
    json!({
        "date": "2026-03-02", "workload": "shop", "target": "rps", "origin": "2026-03-02T00:00:00Z", "step": 0, "at": at,
        "step_s": 300.0, "event": false, "model_version": "m1", "verdict": "fresh", "q10": q10, "q50": q50, "q90": q90,
    })
}

#[tokio::test]
async fn forecasts_stand_beside_what_came() {
    let windows = [
        window("2026-03-02T00:30:00Z", 0, 90.0),
        window("2026-03-02T00:30:00Z", 1, 100.0),
        window("2026-03-02T00:35:00Z", 0, 250.0),
    ];
    let forecasts =
        [forecast("2026-03-02T00:30:00Z", 80.0, 110.0, 140.0), forecast("2026-03-02T00:35:00Z", 80.0, 120.0, 160.0)];
    let (_folder, lake) = filled(vec![
        (Table::Windows, rows(Table::Windows, &["rps"], &windows)),
        (Table::Forecasts, rows(Table::Forecasts, &["q10", "q50", "q90"], &forecasts)),
    ])
    .await;
    let sql = "SELECT lead_minutes, q50, actual, error, inside_80 FROM forecast_vs_actual ORDER BY at";
    assert_eq!(asked(&lake, sql).await, ["30.0 110.0 100.0 -10.0 true", "35.0 120.0 250.0 130.0 false"]);
}

fn plan(id: &str, at: &str, units_before: i64) -> Value {
    json!({
        "date": "2026-03-02", "plan_id": id, "workload": "shop", "decided_at": at, "step_s": 300.0, "units": [1],
        "units_before": units_before, "units_now": 1, "quantile": 0.75, "cost_per_unit_hour": 2.0,
        "cost_per_violation_minute": 10.0, "lead_time_s": 600.0, "observed_load": 1.0, "expected_peak": 1.0,
        "unit_capacity": 100.0, "violation_utilisation": 0.85,
    })
}

fn action(plan: &str, state: &str, at: &str, units: [i64; 2]) -> Value {
    json!({ "date": "2026-03-02", "action_id": format!("a-{plan}"), "plan_id": plan, "workload": "shop", "state": state,
        "at": at, "stage": "automate", "policy_version": "p1", "units_before": units[0], "units_after": units[1],
        "undo_units": units[0] })
}

/// A lake with five windows of five minutes from ten o'clock.
async fn morning(plans: &[Value], actions: &[Value]) -> (tempfile::TempDir, Lake) {
    let loads = [100.0, 180.0, 300.0, 300.0, 150.0];
    let windows = (0..).zip(loads).map(|(step, load)| window(&format!("2026-03-02T10:{:02}:00Z", 5 * step), 0, load));
    let windows: Vec<Value> = windows.collect();
    let mut tables = vec![
        (Table::Windows, rows(Table::Windows, &["rps"], &windows)),
        (Table::Forecasts, rows(Table::Forecasts, &["q50"], &[forecast("2026-03-02T09:30:00Z", 0.0, 1.0, 0.0)])),
        (Table::Plans, rows(Table::Plans, &[], plans)),
    ];
    if !actions.is_empty() {
        tables.push((Table::Actions, rows(Table::Actions, &[], actions)));
    }
    filled(tables).await
}

const READY: &str =
    "SELECT date_part('minute', at), units, ready, round(utilisation, 6), violated FROM capacity ORDER BY at";

#[tokio::test]
async fn capacity_is_ready_a_lead_time_after_the_command_and_released_at_once() {
    let plans = [
        plan("1", "2026-03-02T10:00:00Z", 2),
        plan("2", "2026-03-02T10:15:00Z", 4),
        plan("3", "2026-03-02T10:16:00Z", 3),
    ];
    let actions = [
        action("1", "applied", "2026-03-02T10:00:00Z", [2, 4]),
        action("2", "applied", "2026-03-02T10:15:00Z", [4, 3]),
        // Never ready: rolled back before.
        action("3", "applied", "2026-03-02T10:16:00Z", [3, 9]),
        action("3", "rolled_back", "2026-03-02T10:18:00Z", [3, 9]),
    ];
    let (_folder, lake) = morning(&plans, &actions).await;
    let expected = ["0 4 2 0.5 false", "5 4 2 0.9 true", "10 4 4 0.75 false", "15 3 3 1.0 true", "20 3 3 0.5 false"];
    assert_eq!(asked(&lake, READY).await, expected);
    let sql =
        "SELECT peak_load, mean_load, least_ready, mean_units, least_headroom, violation_minutes, measured_minutes,
        complete FROM headroom_by_hour";
    assert_eq!(asked(&lake, sql).await, ["300.0 206.0 2 3.6 0.0 10.0 25.0 true"]);
    // Three windows with 4 units and two with 3 are 18 twelfths of a unit hour.
    let sql =
        "SELECT stage, policy_version, unit_hours, violation_minutes, capacity_cost, violation_cost FROM policy_cost";
    assert_eq!(asked(&lake, sql).await, ["automate p1 1.5 10.0 3.0 100.0"]);
}

#[tokio::test]
async fn a_move_of_an_actuator_whose_term_was_over_does_not_count() {
    let plans = [plan("1", "2026-03-02T10:00:00Z", 2), plan("2", "2026-03-02T10:05:00Z", 2)];
    let of_term = |mut move_of: Value, sequence: i64, term: i64| {
        (move_of["sequence"], move_of["term"]) = (json!(sequence), json!(term));
        move_of
    };
    let counted = [
        of_term(action("1", "intended", "2026-03-02T10:00:00Z", [2, 4]), 1, 1),
        of_term(action("1", "applied", "2026-03-02T10:00:00Z", [2, 4]), 2, 2),
        of_term(action("1", "holding", "2026-03-02T10:00:00Z", [2, 4]), 3, 2),
    ];
    // In the place of one that counts, and behind it.
    let late = [
        of_term(action("2", "applied", "2026-03-02T10:05:00Z", [2, 9]), 2, 1),
        of_term(action("2", "rolled_back", "2026-03-02T10:10:00Z", [2, 9]), 4, 1),
    ];
    let (_folder, alone) = morning(&plans, &counted).await;
    let expected =
        ["0 4 2 0.5 false", "5 4 2 0.9 true", "10 4 4 0.75 false", "15 4 4 0.75 false", "20 4 4 0.375 false"];
    assert_eq!(asked(&alone, READY).await, expected);
    let (_folder, lake) = morning(&plans, &[counted.as_slice(), &late].concat()).await;
    assert_eq!(asked(&lake, READY).await, expected);
    let stage_moves = [action("1", "applied", "2026-03-02T10:00:00Z", [2, 4])];
    let (_folder, lake) = morning(&plans, &stage_moves).await;
    assert_eq!(asked(&lake, READY).await, expected, "a record of before there were terms");
}

#[tokio::test]
async fn without_an_action_the_capacity_is_what_the_plan_found() {
    let (_folder, lake) = morning(&[plan("1", "2026-03-02T10:05:00Z", 2)], &[]).await;
    let expected = ["5 2 2 0.9 true", "10 2 2 1.5 true", "15 2 2 1.5 true", "20 2 2 0.75 false"];
    assert_eq!(asked(&lake, READY).await, expected);
}

#[tokio::test]
async fn growth_and_lift_compare_with_what_was_before() {
    let windows = [
        // A signal ran a week before: that week is no comparison.
        window("2026-03-20T12:00:00Z", 0, 400.0),
        window("2026-03-13T12:00:00Z", 0, 100.0),
        window("2026-03-06T12:00:00Z", 0, 200.0),
        window("2026-03-27T12:00:00Z", 0, 300.0),
        window("2026-04-02T12:00:00Z", 0, 500.0),
    ];
    let signal = |id: &str, revision: i64, status: &str, start: &str, end: &str| {
        json!({ "signal_id": id, "revision": revision, "kind": "campaign", "status": status, "starts_at": start,
            "ends_at": end, "announced_at": "2026-03-01T00:00:00Z", "weight": 1.0, "name": id,
            "workloads": if id == "elsewhere" { ["bank"] } else { ["sh*"] } })
    };
    let signals = [
        signal("before", 1, "announced", "2026-03-20T11:00:00Z", "2026-03-20T13:00:00Z"),
        signal("spring", 1, "announced", "2026-03-26T11:00:00Z", "2026-03-26T13:00:00Z"),
        signal("spring", 2, "rescheduled", "2026-03-27T11:00:00Z", "2026-03-27T13:00:00Z"),
        // Another workload's event does not make the week before last a special one.
        signal("elsewhere", 1, "announced", "2026-03-13T11:00:00Z", "2026-03-13T13:00:00Z"),
        signal("called-off", 1, "announced", "2026-04-02T11:00:00Z", "2026-04-02T13:00:00Z"),
        signal("called-off", 2, "cancelled", "2026-04-02T11:00:00Z", "2026-04-02T13:00:00Z"),
    ];
    let (_folder, lake) = filled(vec![
        (Table::Windows, rows(Table::Windows, &["rps"], &windows)),
        (Table::Forecasts, rows(Table::Forecasts, &["q50"], &[forecast("2026-03-02T00:30:00Z", 0.0, 1.0, 0.0)])),
        (Table::Signals, rows(Table::Signals, &[], &signals)),
    ])
    .await;
    let sql = "SELECT date_part('month', month), mean_load, peak_load, windows, mean_growth, peak_growth
        FROM growth_by_month ORDER BY month";
    assert_eq!(asked(&lake, sql).await, ["3 250.0 400.0 4  ", "4 500.0 500.0 1 1.0 0.25"]);
    let sql = "SELECT signal_id, mean_load, usual_load, lift, compared_windows FROM campaign_lift ORDER BY 1";
    assert_eq!(asked(&lake, sql).await, ["before 400.0 150.0 2.6666666666666665 1", "spring 300.0 150.0 2.0 1"]);
}
