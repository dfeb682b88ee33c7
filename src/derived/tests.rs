//! A lake with made-up windows of a known truth: a unit that shares its server (M/M/1), sessions by Little's law, and a
//! disk that fills by 2 GB a day.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use headroom_ingest_lake::{Commit, QueryLimits, Table};
use headroom_proto::EventTime;
use serde_json::{Value, json};

use super::*;

const STEP_US: i64 = 300_000_000;
const HOUR_US: i64 = 12 * STEP_US;
const DAY_US: i64 = 24 * HOUR_US;
/// 2026-03-02, a Monday.
const START_US: i64 = 1_772_409_600_000_000;
const DAYS: i64 = 40;
const ORIGIN_US: i64 = START_US + DAYS * DAY_US;

/// Rows of a table, written as JSON; what a row does not name is null.
fn batch(table: Table, features: &[&str], rows: &[Value]) -> RecordBatch {
    let mut fields: Vec<Field> = table.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(features.iter().map(|name| Field::new(*name, DataType::Float64, true)));
    let columns = fields.iter().map(|field| -> ArrayRef {
        let cell = |row: &Value| match row.get(field.name()) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null) | None => None,
            Some(value) => Some(value.to_string()),
        };
        let texts: ArrayRef = Arc::new(rows.iter().map(cell).collect::<StringArray>());
        cast(&texts, field.data_type()).unwrap_or_else(|_| new_null_array(field.data_type(), rows.len()))
    });
    let columns = columns.collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("the columns fit")
}

fn time(us: i64) -> String {
    EventTime::from_micros(us).to_string()
}

/// Load of 20 to 140 over the day; one unit bears 200.
fn load(at_us: i64) -> f64 {
    80.0 - 60.0 * ((at_us % DAY_US) as f64 / DAY_US as f64 * std::f64::consts::TAU).cos()
}

fn wobble(step: i64) -> f64 {
    1.0 + 0.05 * ((step * 7919 % 101) as f64 / 50.0 - 1.0)
}

/// Two queries' rows for each window: load from metrics, the rest from query logs.
fn windows() -> Vec<Value> {
    let row = |step: i64| {
        let at_us = START_US + step * STEP_US;
        let load = load(at_us) * wobble(step);
        let envelope = |query: &str| {
            json!({
                "date": time(at_us).get(..10), "query": query, "window_size_s": 300, "window_start": time(at_us),
                "window_end": time(at_us + STEP_US), "workload": "shop", "revision": 0, "complete": true,
            })
        };
        let (mut metrics, mut queries) = (envelope("load"), envelope("queries"));
        metrics["requests_per_s"] = json!(load);
        metrics["storage_bytes"] = json!(1e11 + 2e9 * (step / 288) as f64);
        queries["p95_ms"] = json!(4.0 / (1.0 - load / 200.0) * wobble(step * 31 + 7));
        queries["db_load"] = json!(load * 0.05 * wobble(step * 17 + 3));
        queries["connections"] = json!(12.0);
        [metrics, queries]
    };
    (0..DAYS * 288).flat_map(row).collect()
}

fn outlook() -> Vec<Value> {
    let row = |hour: i64| {
        let at_us = ORIGIN_US + hour * HOUR_US;
        json!({
            "date": time(ORIGIN_US).get(..10), "workload": "shop", "target": "requests_per_s", "origin": time(ORIGIN_US),
            "step": hour, "at": time(at_us), "step_s": 3600.0, "event": false, "verdict": "fresh",
            "q10": load(at_us) * 0.9, "q50": load(at_us), "q90": load(at_us) * 1.1,
        })
    };
    (0..336).map(row).collect()
}

async fn lake(folder: &std::path::Path) -> Lake {
    let lake = Lake::open(folder).await.expect("opens");
    let features = ["requests_per_s", "p95_ms", "db_load", "connections", "storage_bytes"];
    let rows =
        [batch(Table::Windows, &features, &windows()), batch(Table::Outlooks, &["q10", "q50", "q90"], &outlook())];
    for (table, rows) in [Table::Windows, Table::Outlooks].into_iter().zip(rows) {
        lake.append(table, vec![rows], Commit::default()).await.expect("commits");
    }
    lake
}

fn of<'a>(derived: &'a [Derived], quantity: &str) -> &'a Derived {
    derived.iter().find(|one| one.quantity == quantity).expect("derived")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_number_follows_from_the_windows_and_says_from_what() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = lake(folder.path()).await;
    let mut config = Config::load(None).await.expect("the defaults");
    config.derived.storage_limits = [("shop".to_owned(), 2e11)].into();
    let derived = derive(&lake, &config, "shop").await.expect("derives").expect("has an outlook");
    assert!(derive(&lake, &config, "bank").await.expect("derives").is_none());
    // Noon, the busiest: a load of 140, one unit at 70 %.
    let noon = 12;
    let told = |quantity: &str| {
        let one = of(&derived, quantity);
        assert!(one.abstains.is_empty() && !one.rests_on.is_empty() && !one.finding.is_empty(), "{one:?}");
        assert_eq!(one.steps.len(), if quantity == "storage" { 84 } else { 336 });
        assert!(one.steps.iter().all(|step| step.low <= step.middle && step.middle <= step.high), "{one:?}");
        one.steps[noon]
    };
    let latency = told("latency");
    assert!((latency.middle / (4.0 / 0.3) - 1.0).abs() < 0.1, "{latency:?}");
    assert!(latency.low < 4.0 / 0.35 && latency.high > 4.0 / 0.25, "the load's spread counts: {latency:?}");
    assert!(of(&derived, "latency").rests_on.contains("no plan tells of units"), "{derived:?}");
    let sessions = told("sessions");
    assert!((sessions.middle / 7.0 - 1.0).abs() < 0.05 && sessions.low < 6.5 && sessions.high > 7.5, "{sessions:?}");
    assert!(of(&derived, "sessions").finding.contains("12 were open"), "{derived:?}");
    // By default a unit bears 100 at a utilisation of 0.7.
    let units = told("units");
    assert_eq!((units.low, units.middle, units.high), (2.0, 2.0, 3.0));
    let cost = of(&derived, "cost");
    assert_eq!((told("cost").low, told("cost").high), (2.0, 3.0));
    let total: f64 = cost.steps.iter().map(|step| step.middle).sum();
    assert!(cost.finding.contains(&format!("{total:.0} (")) && cost.finding.contains("14.0 days"), "{}", cost.finding);
    // The last whole day had 1.78e11; 2e11 are reached 11 days on, on 2026-04-21.
    let storage = of(&derived, "storage");
    told("storage");
    assert!((storage.steps[10].middle / 2e11 - 1.0).abs() < 1e-6, "{:?}", storage.steps[10]);
    assert!(storage.finding.contains("passes 2.0000e11 on 2026-04-21"), "{}", storage.finding);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = lake(folder.path()).await;
    let mut config = Config::load(None).await.expect("the defaults");
    config.derived.latency = "p99_ms".to_owned();
    config.derived.storage = "disk".to_owned();
    let derived = derive(&lake, &config, "shop").await.expect("derives").expect("has an outlook");
    let latency = of(&derived, "latency");
    assert!(latency.steps.is_empty() && latency.abstains.contains("p99_ms"), "{latency:?}");
    assert!(of(&derived, "storage").abstains.contains("0 days with values, 28 are needed (column disk)"));
    assert!(of(&derived, "sessions").abstains.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_has_each_outlook_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let lake = lake(folder.path()).await;
    let config = Config::load(None).await.expect("the defaults");
    assert_eq!(service::keep(&lake, &config).await.expect("keeps"), 1);
    assert_eq!(service::keep(&lake, &config).await.expect("looks"), 0);
    let sql = "SELECT quantity, count(*) AS rows, min(middle) AS least FROM derived GROUP BY 1 ORDER BY 1";
    let rows = lake.query(sql, &QueryLimits::default()).await.expect("asks").collect().await.expect("answers");
    let counted: usize = rows.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(counted, 5);
    let sql = "SELECT count(*) AS rows FROM derived WHERE quantity = 'latency' AND middle > 13 AND abstains IS NULL";
    let rows = lake.query(sql, &QueryLimits::default()).await.expect("asks").collect().await.expect("answers");
    assert!(rows[0].column(0).as_ref() != new_null_array(&DataType::Int64, 1).as_ref());
}
