//! Random telemetry in its order of arrival, and windows as they are compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int32Type, TimestampMicrosecondType};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use headroom_ingest_window::{Emission, FeatureConfig, Telemetry};
use headroom_proto::{EventTime, schema};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// 2026-01-01T00:00:00Z
pub(crate) const START_US: i64 = 1_767_225_600_000_000;
const ENVELOPE: usize = schema::WINDOW_ENVELOPE.len();
/// Rows arrive at most this much after their time, and so at most this much out of order.
const JITTER_US: i64 = 9_000_000;
const WORKLOADS: [&str; 3] = ["orders", "search", "reports"];

/// Values of a window's columns by window length, start and keys: the workload and every other text.
pub(crate) type Cells = BTreeMap<(i64, i64, Vec<String>), Vec<f64>>;

/// Query events in the order of their arrival.
pub(crate) struct Stream {
    pub(crate) batches: Vec<RecordBatch>,
    /// The newest event time up to and with each batch.
    pub(crate) newest: Vec<EventTime>,
}

pub(crate) fn config(sql: &str) -> FeatureConfig {
    FeatureConfig {
        name: "test".to_owned(),
        source: Telemetry::Queries,
        windows: ["10s", "1m", "5m"].map(str::to_owned).into(),
        sql: sql.to_owned(),
    }
}

impl Stream {
    /// Twenty minutes of rows, a few seconds out of order, in batches of any size.
    pub(crate) fn random(seed: u64, rows: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut arrivals: Vec<(i64, i64, usize, f64)> = (0..rows)
            .map(|_| {
                let time = START_US + random.random_range(0..1_200_000_000);
                let workload = random.random_range(0..WORKLOADS.len());
                (time + random.random_range(0..JITTER_US), time, workload, random.random_range(0.0..100.0))
            })
            .collect();
        arrivals.sort_by_key(|arrival| arrival.0);
        let (mut batches, mut newest) = (Vec::new(), Vec::new());
        let mut rest = arrivals.as_slice();
        let mut reached = i64::MIN;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=200).min(rest.len()));
            rest = later;
            reached = now.iter().map(|arrival| arrival.1).fold(reached, i64::max);
            newest.push(EventTime::from_micros(reached));
            batches.push(batch(now.iter().map(|(_, time, workload, ms)| (*time, WORKLOADS[*workload], *ms))));
        }
        Self { batches, newest }
    }
}

/// Query events from time, workload and duration; everything else follows from these.
pub(crate) fn batch<'a>(rows: impl Iterator<Item = (i64, &'a str, f64)>) -> RecordBatch {
    let rows: Vec<(i64, &str, f64)> = rows.collect();
    let texts = |text: &dyn Fn(&(i64, &str, f64)) -> String| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(text(row))).collect::<StringArray>())
    };
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.0)).collect();
    let milli = |row: &(i64, &str, f64)| row.0 / 1_000 % 1_000;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        texts(&|row| row.1.to_owned()),
        texts(&|_| "postgresql".to_owned()),
        texts(&|row| if milli(row) % 10 == 0 { "audit" } else { "shop" }.to_owned()),
        texts(&|_| "SELECT".to_owned()),
        texts(&|_| "SELECT orders".to_owned()),
        texts(&|row| format!("f{}", milli(row) % 37)),
        Arc::new(rows.iter().map(|row| (milli(row) % 17 != 0).then_some(row.2)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| Some(milli(row))).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(milli(row) * 100)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(milli(row) % 5 == 0)).collect::<BooleanArray>()),
        Arc::new(Int64Array::from(vec![1; rows.len()])),
    ];
    RecordBatch::try_new(schema::queries(), columns).expect("query events")
}

/// The same SQL for each window length over all rows at once.
pub(crate) async fn one_query(sql: &str, batches: &[RecordBatch]) -> Cells {
    let context = SessionContext::new();
    let table = MemTable::try_new(schema::queries(), vec![batches.to_vec()]).expect("a table");
    context.register_table("queries", Arc::new(table)).expect("registers");
    let mut found = Cells::new();
    for seconds in [10, 60, 300] {
        let sql = sql
            .replace("'10 seconds'", &format!("'{seconds} seconds'"))
            .replace("window_seconds()", &format!("CAST({seconds} AS DOUBLE)"));
        for batch in context.sql(&sql).await.expect("plans").collect().await.expect("runs") {
            let starts = cast(batch.column(0), &schema::timestamp()).expect("times");
            file(&mut found, seconds, starts.as_primitive::<TimestampMicrosecondType>().values(), &batch, 1);
        }
    }
    found
}

/// Emissions as cells; a window that is emitted twice fails.
pub(crate) fn cells(emissions: Vec<Emission>) -> Cells {
    let mut found = Cells::new();
    for Emission { span, batch } in emissions {
        let starts = batch.column(2).as_primitive::<TimestampMicrosecondType>().values().clone();
        let workload = batch.schema().index_of(schema::WORKLOAD).expect("the workload");
        let mut kept = vec![workload];
        kept.extend(ENVELOPE..batch.num_columns());
        file(&mut found, span.micros() / 1_000_000, &starts, &batch.project(&kept).expect("columns"), 0);
    }
    found
}

fn file(found: &mut Cells, seconds: i64, starts: &[i64], batch: &RecordBatch, skip: usize) {
    for (row, start) in starts.iter().enumerate() {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for column in batch.columns().iter().skip(skip) {
            if column.data_type().is_numeric() {
                let column = cast(column, &DataType::Float64).expect("a number");
                let column = column.as_primitive::<Float64Type>();
                values.push(if column.is_null(row) { f64::NAN } else { column.value(row) });
            } else {
                keys.push(cast(column, &DataType::Utf8).expect("a text").as_string::<i32>().value(row).to_owned());
            }
        }
        let before = found.insert((seconds, *start, keys.clone()), values);
        assert!(before.is_none(), "{seconds} s window {start} of {keys:?} came twice");
    }
}

/// Every window's durations, ascending, nulls left out.
pub(crate) fn durations(batches: &[RecordBatch]) -> Cells {
    let mut found = Cells::new();
    for batch in batches {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let workloads = batch.column(1).as_string::<i32>();
        let durations = batch.column(7).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            for seconds in [10, 60, 300] {
                let start = times.value(row).div_euclid(seconds * 1_000_000) * seconds * 1_000_000;
                let window = found.entry((seconds, start, vec![workloads.value(row).to_owned()])).or_default();
                window.extend(durations.is_valid(row).then(|| durations.value(row)));
            }
        }
    }
    found.values_mut().for_each(|durations| durations.sort_by(f64::total_cmp));
    found
}

/// Where a quantile stands among so many ascending values.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small counts"
)]
pub(crate) fn rank(level: f64, count: usize) -> usize {
    (level * (count - 1) as f64).floor() as usize
}

/// Equal but for the order in which floating-point numbers were added.
pub(crate) fn assert_equal(found: &Cells, expected: &Cells, seed: u64) {
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(key)).take(3).collect();
    assert!(missing.is_empty(), "seed {seed}: missing {missing:?} and perhaps more");
    assert_eq!(found.len(), expected.len(), "seed {seed}: more windows than expected");
    for (key, values) in found {
        let same = values.iter().zip(&expected[key]).all(|(found, expected)| {
            (found.is_nan() && expected.is_nan()) || (found - expected).abs() <= 1e-9 * expected.abs().max(1.0)
        });
        assert!(same, "seed {seed}: {key:?}: {values:?} instead of {:?}", expected[key]);
    }
}

/// Length and completeness of each window, in order.
pub(crate) fn completeness(emissions: &[Emission]) -> Vec<(i64, bool)> {
    let of = |emission: &Emission| {
        let seconds = emission.batch.column(1).as_primitive::<Int32Type>().values().clone();
        let complete = emission.batch.column_by_name("complete").expect("a flag").as_boolean().clone();
        seconds
            .into_iter()
            .zip(complete.iter().flatten().collect::<Vec<_>>())
            .map(|(s, c)| (i64::from(*s), c))
            .collect::<Vec<_>>()
    };
    emissions.iter().flat_map(of).collect()
}

/// The same rows, all of one fingerprint.
pub(crate) fn with_fingerprint(rows: &RecordBatch, fingerprint: &str) -> RecordBatch {
    let at = rows.schema().index_of("fingerprint").expect("a column");
    let mut columns = rows.columns().to_vec();
    columns[at] = Arc::new(StringArray::from(vec![fingerprint; rows.num_rows()]));
    RecordBatch::try_new(rows.schema(), columns).expect("query events")
}
