//! Training frames and models from pinned versions of a small lake.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Schema, SchemaRef};
use headroom_ingest_lake::{Commit, Lake, Table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::program::Program;

/// The hour at which a day of June 1998 begins.
fn hour(hour: usize) -> String {
    format!("1998-06-{:02}T{:02}:00:00Z", 1 + hour / 24, hour % 24)
}

/// Windows of an hour; the load is that of a daily wave, times `factor`.
fn windows(hours: std::ops::Range<usize>, revision: i32, factor: f64) -> Vec<Value> {
    let window = |at: usize| {
        let turn = std::f64::consts::TAU * f64::from(i32::try_from(at).expect("small")) / 24.0;
        json!({"date": hour(at)[..10], "query": "load", "workload": "shop", "window_size_s": 3_600, "revision": revision,
               "window_start": hour(at), "window_end": hour(at + 1), "complete": true,
               "requests_per_s": factor * (100.0 + 40.0 * turn.sin())})
    };
    hours.map(window).collect()
}

/// A match, announced a day before it is known to move.
fn signal(revision: i32, announced: usize, from: usize) -> Value {
    json!({"signal_id": "final", "revision": revision, "kind": "match", "status": "announced", "weight": 2.0,
           "announced_at": hour(announced), "starts_at": hour(from), "ends_at": hour(from + 2), "workloads": ["shop"]})
}

fn windows_schema() -> SchemaRef {
    let mut fields: Vec<Field> = Table::Windows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("requests_per_s", DataType::Float64, true));
    Arc::new(Schema::new(fields))
}

fn batch(schema: SchemaRef, rows: &[Value]) -> RecordBatch {
    let mut text = String::new();
    rows.iter().for_each(|row| writeln!(text, "{row}").expect("writes"));
    let mut reader =
        arrow::json::ReaderBuilder::new(schema).with_batch_size(10_000).build(text.as_bytes()).expect("fits");
    reader.next().expect("rows").expect("reads")
}

/// Appends to both tables; gives their versions.
fn append(program: &Program, rows: &[Value], signals: &[Value]) -> (u64, u64) {
    let folder = program.data_dir().join("lake");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(program.data_dir().join("VERSION"), "2").expect("writes");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let lake = Lake::open(&folder).await.expect("opens");
        let rows = batch(windows_schema(), rows);
        lake.append(Table::Windows, vec![rows], Commit::default()).await.expect("commits");
        let signals = batch(Table::Signals.schema(), signals);
        lake.append(Table::Signals, vec![signals], Commit::default()).await.expect("commits");
        let version = async |table| lake.version(table).await.expect("reads").expect("written");
        (version(Table::Windows).await, version(Table::Signals).await)
    })
}

/// The rows of a frame, and what its metadata say of its sources.
fn read(path: &Path) -> (RecordBatch, Value) {
    let file = std::fs::File::open(path).expect("there");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let metadata = builder.metadata().file_metadata().key_value_metadata().expect("metadata").clone();
    let sources = metadata.iter().find(|pair| pair.key == "headroom.sources").and_then(|pair| pair.value.clone());
    let schema = Arc::clone(builder.schema());
    let batches = builder.build().expect("reads").collect::<Result<Vec<_>, _>>().expect("reads");
    let rows = concat_batches(&schema, &batches).expect("one schema");
    (rows, serde_json::from_str(&sources.expect("sources")).expect("JSON"))
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> &'a arrow::array::ArrayRef {
    rows.column_by_name(name).unwrap_or_else(|| panic!("no column {name} in {:?}", rows.schema()))
}

const LENGTHS: [&str; 6] = ["--step", "1h", "--horizon", "6h", "--origins-every", "6h"];

#[test]
fn frames_and_models_of_a_version_stay_as_they_are_when_the_tables_go_on() {
    let program = Program::new();
    let days = 10 * 24;
    let (windows_at, signals_at) = append(&program, &windows(0..days, 0, 1.0), &[signal(1, 100, 150)]);
    let (table, told) = (format!("windows@{windows_at}"), format!("signals@{signals_at}"));
    let place = |name: &str| program.data_dir().join(name);
    let make = |name: &str, more: &[&str]| {
        let to = place(name);
        let answer = program.succeed(&[&["frame"][..], &LENGTHS, more, &["--to", to.to_str().expect("text")]].concat());
        (read(&to), std::fs::read(&to).expect("there"), answer)
    };
    let pinned = ["--table", table.as_str(), "--signals", told.as_str()];
    let ((rows, sources), file, answer) = make("first.parquet", &pinned);
    assert!(
        answer.contains(&format!("240 rows of 1 workloads: requests_per_s by 1h from {told} and {table}")),
        "{answer}"
    );
    assert_eq!(sources["table_versions"], json!({"windows": windows_at, "signals": signals_at}));
    assert_eq!((sources["feature"].as_str(), &sources["workloads"]), (Some("requests_per_s"), &json!(["shop"])));
    assert!(
        matches!(column(&rows, "origin").data_type(), DataType::Timestamp(_, Some(zone)) if zone.as_ref() == "UTC")
    );
    let active = |rows: &RecordBatch| -> Vec<i32> {
        column(rows, "signals_active").as_primitive::<Int32Type>().values().to_vec()
    };
    assert_eq!(active(&rows).iter().sum::<i32>(), 2, "the match lasts two hours, each within one horizon");

    let model = |name: &str| {
        let (to, folder) = (place(name), program.data_dir());
        let (to, folder) = (to.to_str().expect("text"), folder.to_str().expect("text"));
        let lengths = &LENGTHS[..4];
        let answer =
            program.succeed(&[&["model", "learn", "--data-dir", folder, "--to", to][..], &pinned, lengths].concat());
        (std::fs::read(to).expect("there"), answer)
    };
    let (learned, answer) = model("first.model");
    assert!(answer.contains(&format!("learned from requests_per_s by 1h from {told} and {table}")), "{answer}");

    // The tables go on: two days more, corrections of all that was, and the match is moved after it has been.
    let later = [windows(days..days + 48, 0, 1.0), windows(0..days, 1, 3.0)].concat();
    let newest = append(&program, &later, &[signal(2, 160, 170)]);
    assert!(newest.0 > windows_at && newest.1 > signals_at);
    assert!(make("again.parquet", &pinned).1 == file, "the frame of a version has changed");
    assert!(model("again.model").0 == learned, "the model of a version has changed");
    let ((now, sources), _, _) = make("now.parquet", &[]);
    assert_eq!(sources["table_versions"], json!({"windows": newest.0, "signals": newest.1}));
    assert_eq!((rows.num_rows(), now.num_rows()), (240, 288));
    assert_eq!(active(&now).iter().sum::<i32>(), 4, "as it was known before it was moved, and after");
    for feature in ["load_last", "load_mean_1d", "load_day_before", "signals_next_start_s"] {
        // Until the move was told, at hour 160, there is no difference.
        let until = 160 / 6 * 6;
        let [before, after] = [&rows, &now].map(|rows| column(rows, feature).slice(0, until));
        assert_eq!(before.as_ref(), after.as_ref(), "{feature}");
    }
    let target = |rows: &RecordBatch| column(rows, "target").as_primitive::<Float64Type>().value(0);
    assert!((target(&now) / target(&rows) - 3.0).abs() < 1e-12, "what came is told by its newest revision");

    let (gap, history) = (place("first.model"), program.data_dir());
    let (gap, history) = (gap.to_str().expect("text"), history.to_str().expect("text"));
    let told = program.succeed(&["model", "gap", gap, "--table", "windows", "--data-dir", history, "--step", "1h"]);
    assert!(told.contains("learned from requests_per_s by 1h from") && told.contains(&table), "{told}");
}

#[test]
fn what_cannot_be_framed_is_told_with_a_way_out() {
    let program = Program::new();
    let refused = |args: &[&str]| {
        let output = program.run(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        message
    };
    let frame = |more: &[&str]| refused(&[&["frame", "--to", "x.parquet"][..], &LENGTHS, more].concat());
    assert!(frame(&[]).contains("--data-dir"), "no lake");
    let (version, _) = append(&program, &windows(0..48, 0, 1.0), &[signal(1, 1, 20)]);
    let beyond = format!("windows@{}", version + 9);
    for (more, parts) in [
        (&["--table", "widnows"][..], ["widnows", "windows"]),
        (&["--table", "forecasts"], ["--table forecasts", "windows@12"]),
        (&["--table", "windows@new"], ["`new` is no version", "windows@12"]),
        (&["--table", &beyond], ["can be read", "headroom lake history windows"]),
        (&["--signals", "windows"], ["--signals windows", "signals@12"]),
        (&["--feature", "errors_per_s"], ["`errors_per_s`", "it has: requests_per_s"]),
        (&["--feature", "query"], ["`query`", "requests_per_s"]),
        (&["--workload", "bank"], ["`bank`", "--workload can be shop"]),
    ] {
        let message = frame(more);
        assert!(parts.iter().all(|part| message.contains(part)), "{more:?}: {message}");
    }
    for (args, parts) in [
        (&["--step", "10m"][..], ["no windows of 10m", "--step can be 1h"]),
        (&["--step", "1h", "--origins-every", "90m"], ["--origins-every 90m", "multiple of the step, 1h"]),
        (&["--step", "1h", "--horizon", "30m"], ["--horizon 30m", "at least a step, 1h"]),
        (&["--step", "1h", "--to", "nowhere/x.parquet"], ["--to nowhere/x.parquet", "folder"]),
    ] {
        let to: &[&str] = if args.contains(&"--to") { &[] } else { &["--to", "x.parquet"] };
        let message = refused(&[&["frame"][..], to, args].concat());
        assert!(parts.iter().all(|part| message.contains(part)), "{args:?}: {message}");
    }
    let learn = |more: &[&str]| refused(&[&["model", "learn", "--to", "x.model"][..], more].concat());
    assert!(learn(&[]).contains("--data <FILE>"));
    assert!(learn(&["--table", "windows"]).contains("--data-dir"));
    let folder = program.data_dir();
    let folder = folder.to_str().expect("text");
    let short = learn(&["--table", "windows", "--data-dir", folder, "--step", "1h", "--horizon", "6h"]);
    assert!(short.contains("a week is the least"), "{short}");
}
