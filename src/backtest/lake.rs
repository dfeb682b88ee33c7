//! The lake as a source of histories and signals, and as the place where scores are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use headroom_forecaster::backtest::ModelScores;
use headroom_ingest_lake::{Commit, Lake, Table};
use headroom_proto::v1::Signal;
use headroom_proto::{Clock, EventTime, WorkloadId};

use super::BacktestArgs;
use super::lead;
use super::output::{MODEL_COLUMNS, scores_of};
use super::series::{self, Series};
use super::study::Study;
use crate::cli::UserError;
use crate::lake_command::told;
use crate::pinned::{LoadsOf, Pinned, ask, name_and_version, numbers, quoted, signals_table, texts, times};

/// What a table of the lake holds for a backtest.
pub(super) struct History {
    pub(super) series: Vec<Series>,
    /// None when they are to come from a file.
    pub(super) signals: Option<Vec<Signal>>,
    /// The versions of the tables that were read.
    pub(super) versions: BTreeMap<String, u64>,
}

/// The loads in a table, `windows`, or in a version of it, `windows@12`, with the signals in theirs.
pub(super) async fn history(lake: &Lake, table: &str, args: &BacktestArgs) -> anyhow::Result<History> {
    let refused = |problem: String| UserError::new(format!("--table {table}: {problem}"));
    let (name, version) = name_and_version(table).map_err(refused)?;
    let mut pinned = Pinned::new(lake);
    let series = if name == Table::Windows.name() {
        if args.time_column != "window_start" || args.workload_column.as_deref() != Some("workload") {
            return Err(refused(
                "it is read by window_start and workload: leave --time-column and --workload-column out".to_owned(),
            ));
        }
        let of = LoadsOf { feature: &args.value_column, step: args.step, workloads: &[] };
        let loads = pinned.loads(table.parse().map_err(refused)?, of).await?;
        series::of_windows(table, &loads)?
    } else {
        series(lake, (name, version), args).await?
    };
    let signals = match signals_table(args.signals.as_deref())? {
        Some(told) => Some(pinned.signals(told.must_be(Table::Signals, "--signals")?).await?),
        None => None,
    };
    Ok(History { series, signals, versions: pinned.versions() })
}

/// The loads in any table, by the columns that are named.
async fn series(
    lake: &Lake,
    (table, version): (&str, Option<u64>),
    args: &BacktestArgs,
) -> anyhow::Result<Vec<Series>> {
    let (time, value) = (quoted(&args.time_column), quoted(&args.value_column));
    let workload = args.workload_column.as_deref().map_or("'load'".to_owned(), quoted);
    let version = version.map(|number| format!(" VERSION AS OF {number}")).unwrap_or_default();
    let sql = format!("SELECT {workload} AS workload, {time} AS at, {value} AS value FROM {}{version}", quoted(table));
    let mut samples: Vec<anyhow::Result<(WorkloadId, EventTime, f64)>> = Vec::new();
    for batch in ask(lake, &sql).await? {
        let (names, at, values) = (texts(&batch, "workload")?, times(&batch, "at")?, numbers(&batch, "value")?);
        for ((name, at), value) in names.iter().zip(at.iter()).zip(values.iter()) {
            if let (Some(name), Some(at), Some(value)) = (name, at, value) {
                let id = WorkloadId::try_new(name).map_err(|error| UserError::new(format!("{table}: {error}")));
                samples.push(id.map(|id| (id, EventTime::from_micros(at), value)));
            }
        }
    }
    series::regular_of(table, samples.into_iter(), args.step)
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
    use arrow::datatypes::{DataType, Field, Schema};
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
            async move { history(lake, &table, &args(&table)).await.expect("reads").series.remove(0) }
        };
        let before = read("windows".to_owned()).await;
        // What came later: a day more, and corrections of all that was.
        let corrected: Vec<f64> = days(11).into_iter().map(|value| 3.0 * value).collect();
        lake.append(Table::Windows, vec![windows(1, &corrected)], Commit::default()).await.expect("commits");
        let (pinned, newest) = (read(format!("windows@{version}")).await, read("windows".to_owned()).await);
        assert_eq!((pinned.loads.len(), newest.loads.len()), (240, 264));
        assert_eq!(newest.loads[0], 3.0 * pinned.loads[0], "what is scored by has the corrections");
        let forecasts = |of: &Series| {
            let (mut made, config) =
                (Vec::new(), headroom_models::EngineConfig { horizon_steps: 6, ..Default::default() });
            let observer = |at: i64, set: Result<&headroom_models::ForecastSet, &headroom_models::Abstention>| {
                made.extend(set.ok().map(|set| (at, set.clone())));
            };
            let scores = headroom_forecaster::backtest::rolling(of.regular(), &[], &config, 0, None, observer);
            (made, scores.expect("runs")[0].wape)
        };
        let (first, again, other) = (forecasts(&before), forecasts(&pinned), forecasts(&newest));
        assert!(!first.0.is_empty() && first == again, "a forecast moved with the table's future");
        assert!(first.0 == other.0, "a forecast moved with corrections that were told later");
        assert_ne!(first.1, other.1, "but is scored by them");
        let refused = history(&lake, "windows@new", &args("windows@new")).await.err().expect("no number");
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
