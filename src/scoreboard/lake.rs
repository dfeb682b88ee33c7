//! The scoreboard of what a running Headroom has put into the lake.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use headroom_actuator_decide::PlannerConfig;
use headroom_actuator_decide::simulation::PolicyResult;
use headroom_ingest_lake::{Lake, QueryLimits};
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

/// Each workload that was forecast, with the feature column that was.
async fn targets(lake: &Lake) -> anyhow::Result<Vec<(String, String)>> {
    let mut targets = Vec::new();
    let sql = "SELECT DISTINCT arrow_cast(workload, 'Utf8') AS workload, arrow_cast(target, 'Utf8') AS target FROM forecasts ORDER BY 1, 2";
    for batch in ask(lake, sql).await? {
        let (workloads, names) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        targets.extend(workloads.iter().flatten().map(str::to_owned).zip(names.iter().flatten().map(str::to_owned)));
    }
    Ok(targets)
}

/// The newest revision of each window's load, by its start.
async fn loads(lake: &Lake, workload: &str, target: &str, until: EventTime) -> anyhow::Result<BTreeMap<i64, f64>> {
    let (column, workload, size_s) = (target.replace('"', "\"\""), quoted(workload), STEP.micros() / 1_000_000);
    let sql = format!(
        "SELECT window_start, arrow_cast(\"{column}\", 'Float64') AS load FROM windows WHERE window_size_s = {size_s} \
         AND workload = {workload} AND window_start < '{until}' AND \"{column}\" IS NOT NULL ORDER BY revision"
    );
    let mut loads = BTreeMap::new();
    for batch in ask(lake, &sql).await? {
        let starts = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(1).as_primitive::<Float64Type>();
        loads.extend(starts.values().iter().copied().zip(values.values().iter().copied()));
    }
    Ok(loads)
}

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

/// Appends each row's quantiles to its forecast; rows come in the order of origin and step.
fn gather(
    batch: &RecordBatch,
    columns: &[(f64, String)],
    made: &mut BTreeMap<i64, (Vec<f32>, Verdict)>,
) -> anyhow::Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("forecasts have no column {name}"));
    let origins = column("origin")?.as_primitive::<TimestampMicrosecondType>();
    let steps = column("step")?.as_primitive::<Int32Type>();
    let verdicts = arrow::compute::cast(column("verdict")?, &arrow::datatypes::DataType::Utf8)?;
    let verdicts = verdicts.as_string::<i32>();
    let mut quantiles = Vec::with_capacity(columns.len());
    for (_, name) in columns {
        quantiles.push(arrow::compute::cast(column(name)?, &arrow::datatypes::DataType::Float32)?);
    }
    for row in 0..batch.num_rows() {
        let (values, _) =
            made.entry(origins.value(row)).or_insert_with(|| (Vec::new(), verdict_of(verdicts.value(row))));
        let is_next = usize::try_from(steps.value(row)).is_ok_and(|step| step * columns.len() == values.len());
        if is_next && quantiles.iter().all(|quantile| quantile.is_valid(row)) {
            values.extend(quantiles.iter().map(|q| q.as_primitive::<arrow::datatypes::Float32Type>().value(row)));
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
