//! The scoreboard of what a running Headroom has put into the lake.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{Array, AsArray, Int64Array, PrimitiveArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use headroom_actuator_decide::PlannerConfig;
use headroom_actuator_decide::simulation::PolicyResult;
use headroom_ingest_lake::{Lake, QueryLimits};
use headroom_proto::schema::timestamp;
use headroom_proto::v1::Verdict;
use headroom_proto::{EventTime, Span};

use super::{Board, Course, Forecasts, compete, rows};

/// The step of forecasts and of the windows they rest on.
const STEP: Span = Span::from_mins(5);
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The scoreboard over every workload that was forecast, on the windows from `score_from` to `until`.
///
/// # Errors
/// When the lake cannot be read or holds no forecasts.
pub(crate) async fn of_lake(
    lake: &Lake,
    planner: &PlannerConfig,
    score_from: EventTime,
    until: EventTime,
) -> anyhow::Result<Board> {
    let mut results = Vec::new();
    for (workload, target) in targets(lake).await? {
        results.push(of_workload(lake, planner, (&workload, &target), (score_from, until)).await?);
    }
    anyhow::ensure!(!results.is_empty(), "the lake holds no forecasts to score");
    let caption = format!(
        "{score_from} to {until}: lead time {}, violation above {:.0} % of ready capacity, sized for {:.0} %, {} per unit at 100 %",
        planner.lead_time,
        planner.violation_utilisation * 100.0,
        planner.target_utilisation * 100.0,
        planner.unit_capacity
    );
    Ok(Board { caption, rows: rows(&results) })
}

async fn of_workload(
    lake: &Lake,
    planner: &PlannerConfig,
    (workload, target): (&str, &str),
    (score_from, until): (EventTime, EventTime),
) -> anyhow::Result<Vec<PolicyResult>> {
    let loads = loads(lake, workload, target, until).await?;
    let start_us = loads.first_key_value().map_or(0, |(start_us, _)| *start_us);
    let steps = usize::try_from((until - EventTime::from_micros(start_us)).steps(STEP)).unwrap_or(0);
    let at = |index: usize| start_us + STEP.times(i64::try_from(index).unwrap_or(0)).micros();
    let series: Vec<f64> = (0..steps).map(|index| loads.get(&at(index)).copied().unwrap_or(f64::NAN)).collect();
    let scored_from = usize::try_from((score_from - EventTime::from_micros(start_us)).steps(STEP)).unwrap_or(0);
    let forecasts = forecasts(lake, workload, planner, (score_from, until)).await?;
    let course = Course { start_us, step_us: STEP.micros(), loads: &series, scored_from };
    Ok(compete(course, &forecasts, planner))
}

async fn ask(lake: &Lake, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    let limits = QueryLimits { time: TIME_LIMIT, ..QueryLimits::default() };
    let rows = lake.query(sql, &limits).await.context("asking the lake for the scoreboard")?;
    rows.collect().await.context("reading the scoreboard's rows")
}

/// A column as a type of our choice, however the lake stores it.
fn column<T: ArrowPrimitiveType>(batch: &RecordBatch, name: &str) -> anyhow::Result<PrimitiveArray<T>> {
    let found = batch.column_by_name(name).with_context(|| format!("the lake has no column {name}"))?;
    Ok(cast(found, &T::DATA_TYPE)?.as_primitive::<T>().clone())
}

/// A column of times, in microseconds.
fn times(batch: &RecordBatch, name: &str) -> anyhow::Result<Int64Array> {
    let found = batch.column_by_name(name).with_context(|| format!("the lake has no column {name}"))?;
    Ok(cast(&cast(found, &timestamp())?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn texts(batch: &RecordBatch, name: &str) -> anyhow::Result<StringArray> {
    let found = batch.column_by_name(name).with_context(|| format!("the lake has no column {name}"))?;
    Ok(cast(found, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Each workload that was forecast, with the feature column that was.
async fn targets(lake: &Lake) -> anyhow::Result<Vec<(String, String)>> {
    let mut targets = Vec::new();
    for batch in ask(lake, "SELECT DISTINCT workload, target FROM forecasts ORDER BY 1, 2").await? {
        let (workloads, names) = (texts(&batch, "workload")?, texts(&batch, "target")?);
        targets.extend(workloads.iter().flatten().map(str::to_owned).zip(names.iter().flatten().map(str::to_owned)));
    }
    Ok(targets)
}

/// The newest revision of each window's load, by its start.
async fn loads(lake: &Lake, workload: &str, target: &str, until: EventTime) -> anyhow::Result<BTreeMap<i64, f64>> {
    let (target, workload, size_s) = (target.replace('"', "\"\""), quoted(workload), STEP.micros() / 1_000_000);
    let sql = format!(
        "SELECT window_start, \"{target}\" AS load FROM windows WHERE window_size_s = {size_s} AND workload = {workload} \
         AND window_start < '{until}' AND \"{target}\" IS NOT NULL ORDER BY revision"
    );
    let mut loads = BTreeMap::new();
    for batch in ask(lake, &sql).await? {
        let (starts, values) = (times(&batch, "window_start")?, column::<Float64Type>(&batch, "load")?);
        loads.extend(starts.values().iter().copied().zip(values.values().iter().copied()));
    }
    Ok(loads)
}

/// The forecasts with an origin in the span, as far ahead as a planner looks.
async fn forecasts(
    lake: &Lake,
    workload: &str,
    planner: &PlannerConfig,
    (from, until): (EventTime, EventTime),
) -> anyhow::Result<Forecasts> {
    let (needed, workload) = (Forecasts::steps_needed(planner, STEP), quoted(workload));
    let sql = format!(
        "SELECT * FROM forecasts WHERE workload = {workload} AND origin >= '{from}' AND origin < '{until}' \
         AND step < {needed} ORDER BY origin, step"
    );
    let batches = ask(lake, &sql).await?;
    let columns = batches.first().map(quantile_columns).unwrap_or_default();
    let mut made: BTreeMap<i64, (Vec<f32>, Verdict)> = BTreeMap::new();
    for batch in &batches {
        gather(batch, &columns, &mut made)?;
    }
    let mut forecasts = Forecasts::new(STEP.micros(), columns.into_iter().map(|(level, _)| level).collect());
    for (origin_us, (values, verdict)) in made {
        forecasts.add(origin_us, values, verdict);
    }
    Ok(forecasts)
}

/// Levels and names of the quantile columns, ascending: `q025` holds level 0.025.
fn quantile_columns(batch: &RecordBatch) -> Vec<(f64, String)> {
    let level = |name: &str| {
        let digits = name.strip_prefix('q').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        format!("0.{digits}").parse::<f64>().ok()
    };
    let schema = batch.schema();
    let mut columns: Vec<(f64, String)> =
        schema.fields().iter().filter_map(|field| Some((level(field.name())?, field.name().clone()))).collect();
    columns.sort_by(|one, other| one.0.total_cmp(&other.0));
    columns
}

/// Appends each row's quantiles to its forecast; rows come in the order of origin and step. An abstention has none.
fn gather(
    batch: &RecordBatch,
    columns: &[(f64, String)],
    made: &mut BTreeMap<i64, (Vec<f32>, Verdict)>,
) -> anyhow::Result<()> {
    let (origins, steps, verdicts) =
        (times(batch, "origin")?, column::<Int32Type>(batch, "step")?, texts(batch, "verdict")?);
    let mut quantiles = Vec::with_capacity(columns.len());
    for (_, name) in columns {
        quantiles.push(column::<Float32Type>(batch, name)?);
    }
    for row in 0..batch.num_rows() {
        let verdict = verdict_of(verdicts.value(row));
        let (values, _) = made.entry(origins.value(row)).or_insert_with(|| (Vec::new(), verdict));
        let is_next = usize::try_from(steps.value(row)).is_ok_and(|step| step * columns.len() == values.len());
        if is_next && quantiles.iter().all(|quantile| quantile.is_valid(row)) {
            values.extend(quantiles.iter().map(|quantile| quantile.value(row)));
        }
    }
    Ok(())
}

fn verdict_of(word: &str) -> Verdict {
    Verdict::from_str_name(&format!("VERDICT_{}", word.to_ascii_uppercase())).unwrap_or(Verdict::Unspecified)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, new_null_array};
    use arrow::datatypes::{Field, Schema};
    use headroom_ingest_lake::{Commit, Table};
    use serde_json::{Value, json};

    use super::*;

    /// Rows of a table, written as JSON; what a row does not name is null.
    fn batch(table: Table, features: &[(&str, DataType)], rows: &[Value]) -> RecordBatch {
        let mut fields: Vec<Field> = table.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.extend(features.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)));
        let columns = fields.iter().map(|field| -> ArrayRef {
            let cell = |row: &Value| match row.get(field.name()) {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Null) | None => None,
                Some(value) => Some(value.to_string()),
            };
            let texts: ArrayRef = Arc::new(rows.iter().map(cell).collect::<StringArray>());
            cast(&texts, field.data_type()).unwrap_or_else(|_| new_null_array(field.data_type(), rows.len()))
        });
        let columns: Vec<ArrayRef> = columns.collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("rows fit the schema")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_board_of_a_lake_uses_its_windows_and_forecasts() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = Lake::open(folder.path()).await.expect("opens");
        let at = |step: i64| (EventTime::from_micros(0) + STEP.times(step)).to_string();
        let load = |step: i64| if (60..66).contains(&step) { 350.0 } else { 70.0 };
        let windows: Vec<Value> = (0..100)
            .filter(|step| *step != 20)
            .map(|step| {
                json!({ "date": "1970-01-01", "query": "load", "window_size_s": 300, "window_start": at(step), "workload": "shop",
                        "window_end": at(step + 1), "revision": 0, "complete": true, "requests_per_s": load(step) })
            })
            .collect();
        let forecasts: Vec<Value> = (50..100)
            .flat_map(|origin| (0..20).map(move |step| (origin, step)))
            .map(|(origin, step)| {
                json!({ "date": "1970-01-01", "workload": "shop", "target": "requests_per_s", "origin": at(origin), "step": step,
                        "at": at(origin + step), "step_s": 300, "event": false, "verdict": "fresh",
                        "q50": load(origin + step), "q025": 1.0, "q99": 2.0 * load(origin + step) })
            })
            .collect();
        let windows = batch(Table::Windows, &[("requests_per_s", DataType::Float64)], &windows);
        let quantiles = ["q025", "q50", "q99"].map(|name| (name, DataType::Float32));
        let forecasts = batch(Table::Forecasts, &quantiles, &forecasts);
        for (table, batch) in [(Table::Windows, windows), (Table::Forecasts, forecasts)] {
            let positions = BTreeMap::from([("test".to_owned(), 1)]);
            lake.append(table, vec![batch], Commit { positions }).await.expect("commits");
        }
        let planner = PlannerConfig { unit_capacity: 20.0, ..PlannerConfig::default() };
        let [from, until] = [50, 100].map(|step| EventTime::from_micros(0) + STEP.times(step));
        let board = of_lake(&lake, &planner, from, until).await.expect("a board");
        let minutes =
            |policy: &str| board.rows.iter().find(|row| row.policy == policy).map(|row| row.violation_minutes);
        assert_eq!(
            (minutes("reactive"), minutes("headroom p50"), minutes("oracle")),
            (Some(20.0), Some(0.0), Some(0.0)),
            "{board}"
        );
        let shown = board.to_string();
        assert!(
            shown.contains("1970-01-01T04:10:00Z to 1970-01-01T08:20:00Z") && shown.contains("cost / oracle"),
            "{shown}"
        );
    }
}
