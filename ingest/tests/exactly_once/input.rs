//! What is published while processors die: rows in time, rows out of order, rows that are late, and bytes that are none.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use headroom_ingest_broker::{Broker, Producer, Record};
use headroom_ingest_window::{FeatureConfig, Telemetry};
use headroom_proto::topics::Topic;
use headroom_proto::{EventTime, Span, codec, headers, schema};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The same aggregates, streamed and in one batch.
pub(crate) const AGGREGATES: &str =
    "CAST(count(*) AS DOUBLE) AS n, sum(value) AS total, min(value) AS least, max(value) AS most";
const START: &str = "2026-03-01T00:00:00Z";
const PAUSE: Duration = Duration::from_millis(60);
const ROWS: u64 = 40;
const LATENESS: Span = Span::from_secs(10);
const PANE: Span = Span::from_secs(10);
/// Each partition has workloads of its own.
const WORKLOADS: u64 = 3;

pub(crate) fn feature() -> FeatureConfig {
    FeatureConfig {
        name: "load".to_owned(),
        source: Telemetry::Metrics,
        windows: ["10s", "1m"].map(str::to_owned).into(),
        sql: format!(
            "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload, {AGGREGATES} \
             FROM metrics GROUP BY 1, 2"
        ),
    }
}

/// What was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The rows that belong into windows.
    pub(crate) kept: Vec<RecordBatch>,
    pub(crate) late: u64,
    pub(crate) corrected: u64,
    pub(crate) dead: u64,
    pub(crate) rows: u64,
}

/// One partition, as the processor must see it.
#[derive(Debug)]
struct Part {
    number: i32,
    time: EventTime,
    watermark: EventTime,
}

/// A producer that goes on until it is told to end.
pub(crate) struct Input {
    ended: CancellationToken,
    task: JoinHandle<Sent>,
}

impl Input {
    /// Late rows belong into windows as well when they are corrected.
    pub(crate) fn start(broker: &Broker, partitions: i32, corrects: bool) -> Self {
        let producer = broker.producer().expect("a producer");
        let ended = CancellationToken::new();
        Self { ended: ended.clone(), task: tokio::spawn(produce(producer, partitions, corrects, ended)) }
    }

    /// Everything that was sent; after it, each partition has promised that nothing more will come.
    pub(crate) async fn end(self) -> Sent {
        self.ended.cancel();
        self.task.await.expect("produces")
    }
}

async fn produce(producer: Producer, partitions: i32, corrects: bool, ended: CancellationToken) -> Sent {
    let start = EventTime::parse(START).expect("a time");
    let mut sent = Sent::default();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut parts: Vec<Part> =
        (0..partitions).map(|number| Part { number, time: start, watermark: start - Span::from_hours(1) }).collect();
    while !ended.is_cancelled() {
        let records = parts.iter_mut().map(|part| record(part, corrects, &mut dice, &mut sent)).collect();
        producer.send_all(records).await.expect("acknowledged");
        tokio::time::sleep(PAUSE).await;
    }
    let closing = parts.iter().map(|part| {
        let promise = part.time + Span::from_hours(1);
        metrics(part.number, &[]).header(headers::WATERMARK, promise.micros().to_string())
    });
    producer.send_all(closing.collect()).await.expect("acknowledged");
    sent
}

fn record(part: &mut Part, corrects: bool, dice: &mut Dice, sent: &mut Sent) -> Record {
    if dice.below(40) == 0 {
        sent.dead += 1;
        sent.rows += 1;
        return Record::new(Topic::Metrics, "no rows").partition(part.number);
    }
    part.time = part.time + Span::from_secs(2);
    let mut rows = Vec::new();
    for _ in 0..ROWS {
        // Mostly within the allowed lateness, now and then not.
        let back = if dice.below(200) == 0 { 25 + dice.below(60) } else { dice.below(9) };
        let time =
            part.time - Span::from_micros(i64::try_from((back * 1_000 + dice.below(1_000)) * 1_000).expect("small"));
        let workload = format!("w{}-{}", part.number, dice.below(WORKLOADS));
        rows.push((time, workload, f64::from(u32::try_from(dice.below(1_000)).expect("small"))));
    }
    // All rows of a record are judged by the watermark that stood when it came.
    let closed = part.watermark.floor(PANE);
    let (late, kept): (Vec<_>, Vec<_>) = rows.iter().cloned().partition(|(time, _, _)| *time < closed);
    let late_rows = u64::try_from(late.len()).expect("small");
    if corrects {
        sent.corrected += late_rows;
        sent.kept.push(batch(&late));
    } else {
        sent.late += late_rows;
    }
    sent.rows += ROWS;
    if let Some(newest) = kept.iter().map(|(time, _, _)| *time).max() {
        part.watermark = part.watermark.max(newest - LATENESS);
        sent.kept.push(batch(&kept));
    }
    metrics(part.number, &rows)
}

type Row = (EventTime, String, f64);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0.micros())).with_timezone("UTC"),
        ),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))),
        Arc::new(StringArray::from(vec!["requests"; rows.len()])),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.2))),
    ];
    RecordBatch::try_new(schema::metrics(), columns).expect("metrics")
}

fn metrics(partition: i32, rows: &[Row]) -> Record {
    Record::new(Topic::Metrics, codec::encode_bare(&batch(rows)).expect("encodes"))
        .partition(partition)
        .header(headers::SCHEMA, "metrics")
        .header(headers::SCHEMA_VERSION, schema::METRICS_VERSION.to_string())
}

/// Xorshift: the same input in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
