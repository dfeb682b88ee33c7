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

#[tokio::test]
async fn headroom_and_cost_follow_from_outcomes() {
    let outcome = |id: &str, from: &str, to: &str, units: i64, peak: f64, violations: i64| {
        json!({
            "date": "2026-03-02", "action_id": id, "workload": "shop", "measured_from": from, "measured_to": to,
            "expected_peak": 1.0, "observed_peak": peak * 100.0, "observed_mean": peak * 50.0, "units": units,
            "peak_utilisation": peak, "violation_minutes": violations, "completeness": 1.0,
        })
    };
    let action = |id: &str| {
        json!({ "date": "2026-03-02", "action_id": id, "plan_id": format!("plan-{id}"), "workload": "shop",
            "state": "applied", "at": "2026-03-02T00:00:00Z", "stage": "automate", "policy_version": "p1" })
    };
    let plan = |id: &str| {
        json!({
            "date": "2026-03-02", "plan_id": format!("plan-{id}"), "workload": "shop",
            "decided_at": "2026-03-02T00:00:00Z", "step_s": 300.0, "units": [1], "units_before": 1, "units_now": 1,
            "quantile": 0.75, "cost_per_unit_hour": 2.0, "cost_per_violation_minute": 10.0, "lead_time_s": 900.0,
            "observed_load": 1.0, "expected_peak": 1.0,
        })
    };
    let outcomes = [
        outcome("a", "2026-03-02T10:00:00Z", "2026-03-02T10:30:00Z", 4, 0.5, 0),
        outcome("b", "2026-03-02T10:30:00Z", "2026-03-02T11:30:00Z", 6, 0.9, 3),
    ];
    let (_folder, lake) = filled(vec![
        (Table::Outcomes, rows(Table::Outcomes, &[], &outcomes)),
        (Table::Actions, rows(Table::Actions, &[], &[action("a"), action("b")])),
        (Table::Plans, rows(Table::Plans, &[], &[plan("a"), plan("b")])),
    ])
    .await;
    let sql = "SELECT peak_load, mean_load, least_units, mean_units, round(least_headroom, 6), violation_minutes
        FROM headroom_by_hour";
    assert_eq!(asked(&lake, sql).await, ["90.0 35.0 4 5.0 0.1 3"]);
    // 4 units for half an hour and 6 for one are 8 unit hours.
    let sql = "SELECT stage, policy_version, actions, unit_hours, violation_minutes, capacity_cost, violation_cost
        FROM policy_cost";
    assert_eq!(asked(&lake, sql).await, ["automate p1 2 8.0 3 16.0 30.0"]);
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
