use std::path::Path;

use clap::Parser;
use headroom_forecaster::backtest;
use headroom_models::{Engine, EngineConfig, LiftOf, SignalLift};

use super::*;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    args: BacktestArgs,
}

fn args(folder: &Path, more: &[&str]) -> BacktestArgs {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut words =
        vec!["backtest".to_owned(), "--data".to_owned(), file("load.csv"), "--signals".to_owned(), file("signals.csv")];
    words.extend(["--step", "1h", "--lead-time", "1h"].map(str::to_owned));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    Command::try_parse_from(words).expect("legal arguments").args
}

/// Twelve days of hours with a daily rhythm, and an evening event every other day from the fifth on.
fn write_history(folder: &Path) {
    let start = EventTime::parse("2026-03-01").expect("a date");
    let (mut load, mut signals) = (
        "ts,value\n".to_owned(),
        "event_id,kind,announced_at,starts_at,ends_at,expected_reach,weight,audience,name\n".to_owned(),
    );
    for hour in 0..12 * 24 {
        let (day, of_day) = (hour / 24, hour % 24);
        let is_event = day >= 4 && day % 2 == 0 && (18..20).contains(&of_day);
        let rhythm = 100 + 20 * (of_day - 12_i64).abs();
        load.push_str(&format!("{},{}\n", start + Span::from_hours(hour), if is_event { 3 * rhythm } else { rhythm }));
        if is_event && of_day == 18 {
            let begin = start + Span::from_hours(hour);
            signals.push_str(&format!("e{day},match,2026-02-01,{begin},{},,,,Match\n", begin + Span::from_hours(2)));
        }
    }
    std::fs::write(folder.join("load.csv"), load).expect("writes");
    std::fs::write(folder.join("signals.csv"), signals).expect("writes");
}

fn findings(args: &BacktestArgs) -> anyhow::Result<Findings> {
    let signals = csv_signals::read(args.signals.as_deref().expect("given"))?;
    let series = series::read(args.data.as_deref().expect("given"), &args.columns()?, args.step)?;
    Ok(study::study(args, &series, &signals)?.findings)
}

#[test]
fn the_findings_have_the_shape_that_programs_expect() {
    let folder = tempfile::tempdir().expect("a folder");
    write_history(folder.path());
    let found = findings(&args(folder.path(), &["--score-from", "2026-03-10"])).expect("studies");
    let json = serde_json::to_value(&found).expect("JSON");
    assert_eq!(json.as_object().expect("an object").len(), 2);
    let policies = json["policies"].as_array().expect("a list");
    for policy in policies {
        assert_eq!(policy.as_object().expect("an object").len(), 5);
        for number in ["violation_minutes", "unit_hours", "cost_vs_oracle", "lead_minutes"] {
            assert!(policy[number].is_number(), "{number} of {policy}");
        }
    }
    assert_eq!(policies.last().expect("the oracle")["policy"], "oracle");
    let models = json["models"].as_array().expect("a list");
    let names: Vec<_> = models.iter().filter_map(|model| model["model"].as_str()).collect();
    for expected in ["headroom", "seasonal-naive", "augurs-mstl-ets"] {
        assert!(names.contains(&expected), "{expected} in {names:?}");
    }
    for score in [
        "wql",
        "event_wql",
        "wape",
        "event_wape",
        "mase",
        "coverage_80",
        "coverage_95",
        "event_coverage_80",
        "event_coverage_95",
        "peak_error",
    ] {
        assert!(models[0][score].is_number(), "{score} of {}", models[0]);
    }
    let table = found.to_string();
    assert!(
        table.contains("violation minutes") && table.contains("event wQL") && table.contains("headroom p90"),
        "{table}"
    );
}

#[test]
fn mistakes_are_told_with_a_way_to_mend_them() {
    let folder = tempfile::tempdir().expect("a folder");
    write_history(folder.path());
    for (more, expected) in [
        (&["--score-from", "2026-03-02"][..], "choose 2026-03-08"),
        (&["--score-from", "2027-01-01"], "2026-03-13"),
        (&["--value-column", "load"], "--value-column"),
    ] {
        let error = findings(&args(folder.path(), more)).expect_err(expected);
        assert!(error.is::<UserError>() && error.to_string().contains(expected), "{error}");
    }
    for (more, expected) in [
        (&["--step", "0s"][..], "--step"),
        (&["--step", "7m"][..], "must divide a day"),
        (&["--horizon", "1m"], "--horizon"),
        (&["--lead-time", "25h"], "--lead-time"),
        (&["--violation-at", "1.5"], "--violation-at"),
        (&["--unit-capacity=-1"], "--unit-capacity"),
    ] {
        let parsed = Command::try_parse_from(["backtest", "--data", "x"].iter().chain(more)).expect("legal words").args;
        assert!(parsed.problems().join("; ").contains(expected), "{expected}: {:?}", parsed.problems());
    }
}

#[test]
fn forecasts_are_written_for_the_origins_that_are_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    write_history(folder.path());
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (written, origins) = (place("forecasts.parquet"), place("origins"));
    std::fs::write(&origins, "2026-03-10T00:00:00Z\n\n2026-03-11\n").expect("writes");
    let more = ["--score-from", "2026-03-10", "--forecasts", &written, "--origins", &origins, "--horizon", "6h"];
    let found = findings(&args(folder.path(), &more)).expect("studies");
    assert!(!found.models.is_empty());
    let file = std::fs::File::open(&written).expect("written");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100_000).expect("Parquet");
    let batches = reader.collect::<Result<Vec<_>, _>>().expect("reads");
    let rows: usize = batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
    let levels = rows / (2 * 6);
    assert!(levels >= 10 && rows == 2 * 6 * levels, "{rows} rows");
    let names: Vec<_> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["workload", "origin", "ts", "level", "value"]);

    std::fs::write(&origins, "2026-03-10\nsoon\n").expect("writes");
    let error = findings(&args(folder.path(), &more)).expect_err("refused").to_string();
    assert!(error.contains("--origins") && error.contains("line 2"), "{error}");
    let nowhere = place("missing/forecasts.parquet");
    let error = findings(&args(folder.path(), &["--forecasts", &nowhere])).expect_err("refused").to_string();
    assert!(error.contains("--forecasts") && error.contains("missing"), "{error}");
}

/// The demo's trace by the hour, with its schedule, up to a day.
#[test]
fn matches_of_the_world_cup_lift_load_and_past_ones_are_named() {
    let place = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo/worldcup98").join(name);
    let columns = TraceColumns {
        time: "ts_utc".to_owned(),
        value: "requests".to_owned(),
        workload: None,
        default_workload: WorkloadId::try_new("worldcup98").expect("legal"),
    };
    let hourly = series::read(&place("trace.csv.gz"), &columns, Span::from_hours(1)).expect("reads").remove(0);
    let signals = csv_signals::read(&place("signals.csv")).expect("reads");
    let config = EngineConfig { step_us: hourly.step.micros(), horizon_steps: 24, ..EngineConfig::default() };
    let mut engine = Engine::try_new(config).expect("legal");
    backtest::events_for(&signals, &hourly.workload).into_iter().for_each(|event| engine.signal(event));
    let until = hourly.index_from(EventTime::parse("1998-06-22T12:00").expect("a time"));
    for (index, load) in hourly.loads.iter().enumerate().take(until) {
        engine.observe(hourly.time(index).micros(), *load);
    }
    let coming = engine.lifts(LiftOf::Signal("M-1998-31")).expect("fitted").remove(0);
    assert!(coming.observed.is_none() && coming.peak.low > 1.0, "{:?}", coming.peak);
    assert!(coming.peak.high / coming.peak.low < 4.0, "{:?}", coming.peak);
    let named: Vec<&str> = coming.past.iter().map(|past| past.event.id.as_str()).collect();
    assert_eq!((named.first(), named.last()), (Some(&"M-1998-30"), Some(&"M-1998-01")));
    // What came against intervals from the other matches.
    let all = engine.lifts(LiftOf::All).expect("fitted");
    let within = |lift: &&SignalLift| {
        lift.observed.is_some_and(|seen| (lift.window.low..lift.window.high).contains(&seen.window))
    };
    let (inside, seen) = (all.iter().filter(within).count(), coming.past.len());
    assert!((60..=95).contains(&(100 * inside / seen)), "{inside} of {seen} are within 80 %");
    let raised = coming.past.iter().filter(|past| past.observed.window > 1.0).count();
    assert!(raised * 10 >= coming.past.len() * 9, "{raised} of {} matches raised the load", coming.past.len());
}

/// Two workloads of the history above, the second twice as high.
fn write_two(folder: &Path) {
    write_history(folder);
    let one = std::fs::read_to_string(folder.join("load.csv")).expect("reads");
    let mut two = "ts,workload,value\n".to_owned();
    for line in one.lines().skip(1) {
        let (at, value) = line.split_once(',').expect("two columns");
        let value: i64 = value.parse().expect("a number");
        two.push_str(&format!("{at},a,{value}\n{at},b,{}\n", 2 * value));
    }
    std::fs::write(folder.join("load.csv"), two).expect("writes");
}

const SCORED: [&str; 4] = ["--score-from", "2026-03-10", "--workload-column", "workload"];

#[test]
fn workloads_in_parallel_are_found_as_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    write_two(folder.path());
    let with = |more: &[&str]| findings(&args(folder.path(), &[&SCORED[..], more].concat())).expect("studies");
    let (one, many) = (with(&["--threads", "1"]), with(&["--threads", "4"]));
    assert_eq!(one.to_string(), many.to_string());
    let names: Vec<&str> = many.models.iter().map(|model| model.model.as_str()).collect();
    assert!(names.contains(&"mean of 2: headroom") && names.contains(&"b: ensemble"), "{names:?}");
    let wql = |name: &str| many.models.iter().find(|model| model.model == name).and_then(|model| model.wql);
    let (a, b, mean) = (wql("a: headroom"), wql("b: headroom"), wql("mean of 2: headroom"));
    let of_two = a.zip(b).map(|(a, b)| (a + b) / 2.0);
    assert!(mean.zip(of_two).is_some_and(|(mean, of_two)| (mean - of_two).abs() < 1e-12), "{mean:?} {of_two:?}");
}

#[test]
fn a_study_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    write_two(folder.path());
    let results = folder.path().join("results");
    let place = results.display().to_string();
    let with = |more: &[&str]| {
        let more = [&SCORED[..], &["--results", &place], more].concat();
        findings(&args(folder.path(), &more)).expect("studies")
    };
    let first = with(&[]);
    assert!(!first.to_string().contains("done before"));
    let mut files: Vec<_> =
        std::fs::read_dir(&results).expect("there").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    // Stopped after the first, while the second was being written.
    std::fs::write(&files[1], b"half").expect("writes");
    let again = with(&[]);
    assert!(again.to_string().contains("1 of 2 workloads were done before"), "{again}");
    assert_eq!(again.models, first.models);
    assert!(with(&[]).to_string().contains("2 of 2 workloads were done before"));
    // Another study does not take them for its own.
    assert!(!with(&["--target-utilisation", "0.6"]).to_string().contains("done before"));
}

#[tokio::test]
async fn the_lake_gives_the_history_and_keeps_the_scores() {
    let folder = tempfile::tempdir().expect("a folder");
    write_history(folder.path());
    let data = crate::data_dir::DataDir::open(&folder.path().join("data")).expect("a data folder");
    data.folder("lake").expect("a folder");
    let lake = LakePlace::in_folder(data.path()).open().await.expect("opens");
    let place = data.path().display().to_string();
    let json = folder.path().join("found.json").display().to_string();
    let scored = ["--score-from", "2026-03-10", "--data-dir", &place, "--json", &json];
    run(args(folder.path(), &scored)).await.expect("runs");
    let limits = headroom_ingest_lake::QueryLimits::default;
    let count = async |sql: &str| {
        let rows = lake.query(sql, &limits()).await.expect("a plan").collect().await.expect("runs");
        rows.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>()
    };
    let models = count("SELECT name FROM backtests WHERE kind = 'model' AND workload = 'load' AND wql > 0").await;
    let policies = count("SELECT name FROM backtests WHERE kind = 'policy' AND unit_hours > 0 AND wql IS NULL").await;
    assert!(models >= 4 && policies == 11, "{models} {policies}");
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(told["policies"].as_array().map(Vec::len), Some(11));

    // The same history as windows.
    let (schema, rows) = windows_of(folder.path());
    let batch = arrow::array::RecordBatch::try_new(schema, rows).expect("fits");
    let commit = headroom_ingest_lake::Commit::default();
    lake.append(headroom_ingest_lake::Table::Windows, vec![batch], commit).await.expect("appends");
    let words = ["backtest", "--table", "windows", "--data-dir", &place, "--step", "1h"];
    let parsed = Command::try_parse_from(words).expect("legal").args;
    let Inputs { series, signals, versions } = inputs(&parsed, Some(&lake)).await.expect("reads");
    let file = series::read(
        &folder.path().join("load.csv"),
        &args(folder.path(), &[]).columns().expect("legal"),
        Span::from_hours(1),
    );
    assert_eq!(series[0].loads, file.expect("reads")[0].loads);
    assert!(series[0].told.iter().flatten().all(|first| *first == 0.0), "a forecast sees what was first told");
    assert_eq!((series.len(), series[0].workload.as_str(), signals.len()), (1, "shop", 0));
    assert_eq!(versions.keys().map(String::as_str).collect::<Vec<_>>(), ["windows"], "signals were never written");
}

/// The history as rows of the windows table: each hour in two revisions, of which the second is right.
fn windows_of(folder: &Path) -> (arrow::datatypes::SchemaRef, Vec<arrow::array::ArrayRef>) {
    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray,
    };
    use std::sync::Arc;
    let columns = args(folder, &[]).columns().expect("legal");
    let hourly = series::read(&folder.join("load.csv"), &columns, Span::from_hours(1)).expect("reads").remove(0);
    let mut rows: Vec<(i64, i32, f64)> = Vec::new();
    for (index, load) in hourly.loads.iter().enumerate() {
        let start_us = hourly.time(index).micros();
        rows.extend([(start_us, 1, *load), (start_us, 0, 0.0)]);
    }
    let times = |add_us: i64| -> ArrayRef {
        let times = rows.iter().map(|row| row.0 + add_us);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::new_repeated(value, rows.len())) };
    let mut fields: Vec<arrow::datatypes::Field> =
        headroom_ingest_lake::Table::Windows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(arrow::datatypes::Field::new("requests_per_s", arrow::datatypes::DataType::Float64, true));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(headroom_ingest_lake::date_of(row.0))).collect::<Date32Array>()),
        text("load"),
        Arc::new(Int32Array::from_value(3_600, rows.len())),
        times(0),
        times(3_600_000_000),
        text("shop"),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int32Array>()),
        Arc::new(BooleanArray::from(vec![true; rows.len()])),
        Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Float64Array>()),
    ];
    (std::sync::Arc::new(arrow::datatypes::Schema::new(fields)), columns)
}
