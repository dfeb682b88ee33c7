//! What is derived from, as the lake has it.

use std::collections::BTreeMap;

use anyhow::Context;
use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use headroom_ingest_lake::{Lake, QueryLimits, Table};
use headroom_proto::schema::timestamp;
use headroom_proto::{EventTime, Span};

use super::DerivedConfig;
use crate::lake_command::told;

/// Windows that are learned from.
const LEARNED_DAYS: i64 = 28;
/// Days of storage that are learned from.
const STORED_DAYS: i64 = 180;
const DAY_US: i64 = 86_400_000_000;

/// The newest outlook of a workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    pub(super) workload: String,
    pub(super) target: String,
    pub(super) origin_us: i64,
    pub(super) step_us: i64,
    pub(super) verdict: String,
    pub(super) levels: Vec<f64>,
    /// Start and quantiles of each step; none when it abstains.
    pub(super) steps: Vec<(i64, Vec<f32>)>,
}

/// A closed window; NaN where there is no value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) load: f64,
    pub(super) latency: f64,
    pub(super) sessions: f64,
    pub(super) connections: f64,
    /// Units that were ready, where plans tell.
    pub(super) ready: f64,
}

async fn ask(lake: &Lake, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    let limits = QueryLimits { rows: None, ..QueryLimits::default() };
    lake.query(sql, &limits).await.map_err(told)?.collect().await.map_err(told)
}

fn numbers(batch: &RecordBatch, name: &str) -> anyhow::Result<Float64Array> {
    let found = batch.column_by_name(name).with_context(|| format!("the lake has no column {name}"))?;
    Ok(cast(found, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn times(batch: &RecordBatch, name: &str) -> anyhow::Result<Int64Array> {
    let found = batch.column_by_name(name).with_context(|| format!("the lake has no column {name}"))?;
    Ok(cast(&cast(found, &timestamp())?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn text(batch: &RecordBatch, name: &str) -> anyhow::Result<String> {
    let found = batch.column_by_name(name).with_context(|| format!("the lake has no column {name}"))?;
    let found = cast(found, &DataType::Utf8)?;
    let texts = found.as_string::<i32>();
    Ok(if texts.is_empty() || texts.is_null(0) { String::new() } else { texts.value(0).to_owned() })
}

fn value(values: &Float64Array, row: usize) -> f64 {
    if values.is_null(row) { f64::NAN } else { values.value(row) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Every workload with an outlook, and the origin of the newest.
pub(super) async fn origins(lake: &Lake, table: Table) -> anyhow::Result<BTreeMap<String, i64>> {
    let sql = format!("SELECT workload, max(origin) AS origin FROM {table} GROUP BY 1");
    let mut origins = BTreeMap::new();
    for batch in ask(lake, &sql).await? {
        let names = cast(batch.column_by_name("workload").context("no column workload")?, &DataType::Utf8)?;
        let at = times(&batch, "origin")?;
        origins.extend(names.as_string::<i32>().iter().flatten().map(str::to_owned).zip(at.values().iter().copied()));
    }
    Ok(origins)
}

/// The newest outlook; none when there is none.
pub(super) async fn outlook(lake: &Lake, workload: &str) -> anyhow::Result<Option<Outlook>> {
    let name = quoted(workload);
    let sql = format!(
        "SELECT * FROM outlooks WHERE workload = {name} AND origin = (SELECT max(origin) FROM outlooks WHERE workload = \
         {name}) ORDER BY step"
    );
    let batches = ask(lake, &sql).await?;
    let Some(first) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let columns = quantile_columns(first);
    #[expect(clippy::cast_possible_truncation, reason = "whole microseconds")]
    let step_us = numbers(first, "step_s")?.values().first().map_or(0, |seconds| (seconds * 1e6) as i64);
    let mut outlook = Outlook {
        workload: workload.to_owned(),
        target: text(first, "target")?,
        origin_us: times(first, "origin")?.values().first().copied().unwrap_or_default(),
        step_us,
        verdict: text(first, "verdict")?,
        levels: columns.iter().map(|(level, _)| *level).collect(),
        steps: Vec::new(),
    };
    for batch in &batches {
        let at = times(batch, "at")?;
        let quantiles: Vec<Float64Array> =
            columns.iter().map(|(_, name)| numbers(batch, name)).collect::<anyhow::Result<_>>()?;
        for row in (0..batch.num_rows()).filter(|row| quantiles.iter().all(|quantile| quantile.is_valid(*row))) {
            #[expect(clippy::cast_possible_truncation, reason = "they came as such")]
            let values = quantiles.iter().map(|quantile| quantile.value(row) as f32).collect();
            outlook.steps.push((at.value(row), values));
        }
    }
    if outlook.levels.is_empty() {
        outlook.steps.clear();
    }
    Ok(Some(outlook))
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

/// A column of the windows as a number; nothing where the windows have none.
async fn column(lake: &Lake, name: &str) -> anyhow::Result<String> {
    let has = lake.schema(Table::Windows).await.map_err(told)?.index_of(name).is_ok();
    let name = name.replace('"', "\"\"");
    Ok(if has { format!("CAST(\"{name}\" AS DOUBLE)") } else { "CAST(NULL AS DOUBLE)".to_owned() })
}

/// The complete windows of the last weeks before the outlook, in their newest revision.
pub(super) async fn windows(
    lake: &Lake,
    outlook: &Outlook,
    columns: &DerivedConfig,
    window: Span,
) -> anyhow::Result<Vec<Window>> {
    let (name, size_s) = (quoted(&outlook.workload), window.micros() / 1_000_000);
    let from = EventTime::from_micros(outlook.origin_us - LEARNED_DAYS * DAY_US);
    let until = EventTime::from_micros(outlook.origin_us);
    let mut selected = String::new();
    for (alias, of) in [
        ("load", &outlook.target),
        ("latency", &columns.latency),
        ("sessions", &columns.sessions),
        ("connections", &columns.connections),
    ] {
        selected += &format!(", max({}) AS {alias}", column(lake, of).await?);
    }
    let sql = format!(
        "SELECT w.*, c.ready FROM (SELECT window_start{selected} FROM (SELECT *, row_number() OVER (PARTITION BY query, \
         window_start ORDER BY revision DESC) AS newest_first FROM windows WHERE workload = {name} AND window_size_s = \
         {size_s} AND window_start >= '{from}' AND window_end <= '{until}') WHERE newest_first = 1 AND complete GROUP BY \
         1) AS w LEFT JOIN (SELECT at, max(ready) AS ready FROM capacity WHERE workload = {name} AND at >= '{from}' AND \
         at < '{until}' GROUP BY 1) AS c ON c.at = w.window_start ORDER BY w.window_start"
    );
    let mut windows = Vec::new();
    for batch in ask(lake, &sql).await? {
        let [load, latency, sessions, connections, ready] =
            ["load", "latency", "sessions", "connections", "ready"].map(|name| numbers(&batch, name));
        let (load, latency, sessions, connections, ready) = (load?, latency?, sessions?, connections?, ready?);
        windows.extend((0..batch.num_rows()).map(|row| Window {
            load: value(&load, row),
            latency: value(&latency, row),
            sessions: value(&sessions, row),
            connections: value(&connections, row),
            ready: value(&ready, row),
        }));
    }
    Ok(windows)
}

/// What was stored at the most on each day, up to the last whole day before the outlook; days without a value are gaps.
pub(super) async fn stored(
    lake: &Lake,
    outlook: &Outlook,
    columns: &DerivedConfig,
    window: Span,
) -> anyhow::Result<Vec<Option<f64>>> {
    let (name, size_s) = (quoted(&outlook.workload), window.micros() / 1_000_000);
    let today = outlook.origin_us.div_euclid(DAY_US);
    let from = EventTime::from_micros((today - STORED_DAYS) * DAY_US);
    let until = EventTime::from_micros(today * DAY_US);
    let stored = column(lake, &columns.storage).await?;
    let sql = format!(
        "SELECT date_trunc('day', window_start) AS day, max({stored}) AS stored FROM windows WHERE workload = {name} AND \
         window_size_s = {size_s} AND window_start >= '{from}' AND window_start < '{until}' GROUP BY 1 ORDER BY 1"
    );
    let mut by_day: BTreeMap<i64, f64> = BTreeMap::new();
    for batch in ask(lake, &sql).await? {
        let (days, values) = (times(&batch, "day")?, numbers(&batch, "stored")?);
        let known = (0..batch.num_rows()).filter(|row| values.is_valid(*row));
        by_day.extend(known.map(|row| (days.value(row).div_euclid(DAY_US), values.value(row))));
    }
    let Some(first) = by_day.keys().next().copied() else { return Ok(Vec::new()) };
    Ok((first..today).map(|day| by_day.get(&day).copied()).collect())
}
