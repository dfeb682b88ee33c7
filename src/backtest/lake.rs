//! The lake as a source of histories and signals, and as the place where scores are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use headroom_forecaster::backtest::ModelScores;
use headroom_ingest_lake::{Commit, Lake, QueryLimits, Table};
use headroom_proto::schema::timestamp;
use headroom_proto::v1::{Signal, SignalKind, SignalStatus};
use headroom_proto::{Clock, EventTime, WorkloadId};

use super::BacktestArgs;
use super::lead;
use super::output::{MODEL_COLUMNS, scores_of};
use super::series::{self, Series};
use super::study::Study;
use crate::cli::UserError;
use crate::lake_command::told;

async fn ask(lake: &Lake, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    let limits = QueryLimits { rows: None, ..QueryLimits::default() };
    let rows = lake.query(sql, &limits).await.map_err(told)?;
    rows.collect().await.map_err(told)
}

fn texts(batch: &RecordBatch, name: &str) -> anyhow::Result<StringArray> {
    let found = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    Ok(cast(found, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn times(batch: &RecordBatch, name: &str) -> anyhow::Result<Int64Array> {
    let found = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    Ok(cast(&cast(found, &timestamp())?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn numbers(batch: &RecordBatch, name: &str) -> anyhow::Result<Float64Array> {
    let found = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    Ok(cast(found, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// The loads in a table, `windows`, or in a version of it, `windows@12`; of windows those of the step's length, the newest
/// revision of each.
pub(super) async fn series(lake: &Lake, table: &str, args: &BacktestArgs) -> anyhow::Result<Vec<Series>> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (time, value) = (quoted(&args.time_column), quoted(&args.value_column));
    let workload = args.workload_column.as_deref().map_or("'load'".to_owned(), quoted);
    let size_s = args.step.micros() / 1_000_000;
    let (name, version) = match table.split_once('@') {
        Some((name, version)) => {
            let number: u64 = version.parse().map_err(|_| {
                UserError::new(format!(
                    "--table {table}: `{version}` is no version: write a number, such as windows@12"
                ))
            })?;
            (name, format!(" VERSION AS OF {number}"))
        }
        None => (table, String::new()),
    };
    let newest = if name == Table::Windows.name() {
        format!("WHERE window_size_s = {size_s} ORDER BY revision")
    } else {
        String::new()
    };
    let sql = format!(
        "SELECT {workload} AS workload, {time} AS at, {value} AS value FROM {}{version} {newest}",
        quoted(name)
    );
    let mut samples: BTreeMap<(String, i64), f64> = BTreeMap::new();
    for batch in ask(lake, &sql).await? {
        let (names, at, values) = (texts(&batch, "workload")?, times(&batch, "at")?, numbers(&batch, "value")?);
        for ((name, at), value) in names.iter().zip(at.iter()).zip(values.iter()) {
            if let (Some(name), Some(at), Some(value)) = (name, at, value) {
                samples.insert((name.to_owned(), at), value);
            }
        }
    }
    let samples = samples.into_iter().map(|((name, at), value)| {
        let workload = WorkloadId::try_new(&name).map_err(|error| UserError::new(format!("{table}: {error}")))?;
        Ok((workload, EventTime::from_micros(at), value))
    });
    series::regular_of(table, samples, args.step)
}

/// Every revision of every signal in the lake.
pub(super) async fn signals(lake: &Lake) -> anyhow::Result<Vec<Signal>> {
    let sql = "SELECT *, array_to_string(workloads, '|') AS selectors FROM signals ORDER BY revision";
    let mut signals = Vec::new();
    for batch in ask(lake, sql).await? {
        let word = |name: &str, row: usize| -> anyhow::Result<String> {
            let column = texts(&batch, name)?;
            Ok(if column.is_null(row) { String::new() } else { column.value(row).to_owned() })
        };
        let time = |name: &str, row: usize| Ok::<_, anyhow::Error>(times(&batch, name)?.value(row));
        let weights = numbers(&batch, "weight")?;
        let revisions = numbers(&batch, "revision")?;
        for row in 0..batch.num_rows() {
            let kind = format!("SIGNAL_KIND_{}", word("kind", row)?.to_uppercase());
            let status = format!("SIGNAL_STATUS_{}", word("status", row)?.to_uppercase());
            let selectors = word("selectors", row)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a revision is a small count")]
            let revision = revisions.value(row) as u64;
            signals.push(Signal {
                signal_id: word("signal_id", row)?,
                revision,
                kind: SignalKind::from_str_name(&kind).unwrap_or(SignalKind::Other).into(),
                status: SignalStatus::from_str_name(&status).unwrap_or(SignalStatus::Announced).into(),
                starts_at_us: time("starts_at", row)?,
                ends_at_us: time("ends_at", row)?,
                announced_at_us: time("announced_at", row)?,
                name: word("name", row)?,
                channel: word("channel", row)?,
                weight: weights.value(row),
                workloads: selectors.split('|').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
                ..Signal::default()
            });
        }
    }
    Ok(signals)
}

/// One row of the table.
struct Row {
    workload: String,
    kind: &'static str,
    name: String,
    from_to: (i64, i64),
    /// Those of a model by [`scores_of`], then those of a policy; what is missing is null.
    scores: Vec<Option<f64>>,
}

/// Adds the scores of a study to the table; gives the run's name.
pub(super) async fn keep(lake: &Lake, study: &Study, args: &BacktestArgs) -> anyhow::Result<String> {
    let run_at = Clock::Wall.now();
    let run = format!("backtest-{run_at}");
    let rows = rows(study, args.step.micros());
    let count = rows.len();
    let text = |of: fn(&Row) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let time = |of: &dyn Fn(&Row) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(of)).with_timezone("UTC"))
    };
    let seconds = |span: headroom_proto::Span| -> ArrayRef {
        Arc::new(Float64Array::from_value(span.as_hours_f64() * 3_600.0, count))
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::new_repeated(&run, count)),
        time(&|_| run_at.micros()),
        text(|row| &row.workload),
        text(|row| row.kind),
        text(|row| &row.name),
        time(&|row| row.from_to.0),
        time(&|row| row.from_to.1),
        seconds(args.step),
        seconds(args.horizon),
    ];
    let schema = Table::Backtests.schema();
    for place in 0..schema.fields().len().saturating_sub(columns.len()) {
        let values = rows.iter().map(|row| row.scores.get(place).copied().flatten());
        columns.push(Arc::new(values.collect::<Float64Array>()));
    }
    let batch = RecordBatch::try_new(schema, columns)?;
    lake.append(Table::Backtests, vec![batch], Commit::default()).await.map_err(told)?;
    Ok(run)
}

fn rows(study: &Study, step_us: i64) -> Vec<Row> {
    let mut rows = Vec::new();
    for done in &study.workloads {
        let course = &done.course;
        let first_us = course.times.first().map_or(0, |time| time.micros());
        let from_to = (first_us, course.times.last().map_or(0, |time| time.micros() + step_us));
        let row = |kind, name: &str, scores| Row {
            workload: course.workload.clone(),
            kind,
            name: name.to_owned(),
            from_to,
            scores,
        };
        rows.extend(
            done.scores.iter().map(|model: &ModelScores| row("model", &model.model, scores_of(model).to_vec())),
        );
        for (policy, leads) in done.policies.iter().zip(&done.leads) {
            let mut scores = vec![None; MODEL_COLUMNS.len()];
            scores.extend([Some(policy.violation_minutes), Some(policy.unit_hours), lead::median(leads)]);
            rows.push(row("policy", &policy.policy, scores));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Date32Array, Int32Array};
    use arrow::datatypes::{Field, Schema};
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: BacktestArgs,
    }

    /// Windows of an hour whose value is as given, in their revision.
    fn windows(revision: i32, values: &[f64]) -> RecordBatch {
        let mut fields: Vec<Field> =
            Table::Windows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new("requests_per_s", DataType::Float64, true));
        let (rows, hour) = (values.len(), 3_600_000_000_i64);
        let starts = || (0..).take(rows).map(move |at: i64| at * hour);
        let time =
            |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) };
        let columns = fields.iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "date" => Arc::new(Date32Array::from_iter_values((0..).take(rows).map(|at: i32| at / 24))),
                "query" => Arc::new(StringArray::new_repeated("load", rows)),
                "workload" => Arc::new(StringArray::new_repeated("shop", rows)),
                "window_size_s" => Arc::new(Int32Array::from_value(3_600, rows)),
                "revision" => Arc::new(Int32Array::from_value(revision, rows)),
                "complete" => Arc::new(BooleanArray::from(vec![true; rows])),
                "window_start" => time(starts().collect()),
                "window_end" => time(starts().map(|at| at + hour).collect()),
                _ => Arc::new(Float64Array::from(values.to_vec())),
            }
        });
        let columns = columns.collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("the columns fit")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_version_of_a_table_stays_as_it_was_when_its_future_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = Lake::open(folder.path()).await.expect("opens");
        let load = |hour: i32| 100.0 + 40.0 * (f64::from(hour) / 24.0 * std::f64::consts::TAU).sin();
        let days = |days: i32| (0..days * 24).map(load).collect::<Vec<f64>>();
        lake.append(Table::Windows, vec![windows(0, &days(10))], Commit::default()).await.expect("commits");
        let state = lake.tables().await.expect("lists");
        let version = state.iter().find(|of| of.table == Table::Windows).and_then(|of| of.version).expect("a version");
        let args = |table: &str| {
            let words = ["backtest", "--table", table, "--data-dir", "x", "--step", "1h", "--horizon", "6h"];
            Command::parse_from(words).args
        };
        let read = |table: String| {
            let lake = &lake;
            async move { series(lake, &table, &args(&table)).await.expect("reads") }
        };
        let before = read("windows".to_owned()).await;
        // What came later: a day more, and corrections of all that was.
        let corrected: Vec<f64> = days(11).into_iter().map(|value| 3.0 * value).collect();
        lake.append(Table::Windows, vec![windows(1, &corrected)], Commit::default()).await.expect("commits");
        let (pinned, newest) = (read(format!("windows@{version}")).await, read("windows".to_owned()).await);
        assert_eq!((pinned[0].loads.len(), newest[0].loads.len()), (240, 264));
        let forecasts = |of: &Series| {
            let series = headroom_forecaster::backtest::Series {
                start_us: of.start.micros(),
                step_us: of.step.micros(),
                values: &of.loads,
            };
            let (mut made, config) =
                (Vec::new(), headroom_models::EngineConfig { horizon_steps: 6, ..Default::default() });
            let observer = |at: i64, set: Result<&headroom_models::ForecastSet, &headroom_models::Abstention>| {
                made.extend(set.ok().map(|set| (at, set.clone())));
            };
            headroom_forecaster::backtest::rolling(series, &[], &config, 0, None, observer).expect("runs");
            made
        };
        let (first, again, other) = (forecasts(&before[0]), forecasts(&pinned[0]), forecasts(&newest[0]));
        assert!(!first.is_empty() && first == again, "a forecast moved with the table's future");
        assert_ne!(first.first(), other.first());
        let refused = series(&lake, "windows@new", &args("windows@new")).await.expect_err("no number");
        assert!(refused.to_string().contains("windows@12"), "{refused}");
    }

    #[test]
    fn the_scores_stand_where_the_table_expects_them() {
        let schema = Table::Backtests.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let first = names.iter().position(|name| *name == "wql").expect("a score");
        let policy = ["violation_minutes", "unit_hours", "lead_minutes"];
        assert_eq!(names[first + MODEL_COLUMNS.len()..], policy);
        for (place, name) in names[first..first + MODEL_COLUMNS.len()].iter().enumerate() {
            // With this score alone.
            let mut scores = serde_json::to_value(ModelScores::default()).expect("writes");
            scores[*name] = serde_json::json!(0.5);
            let scores: ModelScores = serde_json::from_value(scores).expect("reads");
            let found = scores_of(&scores);
            assert_eq!(found.iter().flatten().count(), 1, "{name} is a score");
            assert_eq!(found[place], Some(0.5), "{name}");
        }
    }
}
