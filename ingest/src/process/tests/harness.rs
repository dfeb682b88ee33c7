//! Publishes a scenario's records, runs the processor over them, and compares what readers see with what they should.

use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use headroom_ingest_broker::{Received, Record};
use headroom_proto::topics::Topic;
use headroom_proto::v1::LedgerEntry;
use headroom_proto::{EventTime, Message, codec, headers, schema};
use object_store::memory::InMemory;
use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::*;
use crate::test_broker::TestBroker;

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
pub(super) const SQL: &str = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload,
    count(*) AS n, sum(value) AS total FROM metrics GROUP BY 1, 2";
/// Each workload has a partition of its own.
const WORKLOADS: [&str; 2] = ["orders", "search"];

/// What must become of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Late,
    Dead,
}

/// One record.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Rows of a workload: second, value and fate.
    Rows { workload: &'static str, rows: Vec<(i64, f64, Fate)> },
    /// Bytes that are no rows, to the first partition.
    Raw { value: bytes::Bytes, schema: (&'static str, &'static str) },
}

/// Records in order, and the windows, by length and start in seconds, that are not complete.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) idle_after: Span,
    pub(super) steps: Vec<Step>,
    pub(super) incomplete: Vec<(i64, i64)>,
}

/// How the processor fares.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    Plain,
    KilledAtEveryStep,
    KilledOnce { step: usize },
}

pub(super) fn rows(workload: &'static str, rows: impl IntoIterator<Item = (i64, f64, Fate)>) -> Step {
    Step::Rows { workload, rows: rows.into_iter().collect() }
}

/// Windows by length in seconds, start and workload: rows, total, and whether they are complete.
type Windows = BTreeMap<(i64, i64, String), (f64, f64, bool)>;

/// Everything that the processor has written, as a reader takes it in.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    windows: Windows,
    late: Vec<(i64, String)>,
    dead: u64,
}

pub(super) async fn run(scenario: &Scenario, mode: Mode) {
    run_over(scenario, mode, Arc::new(InMemory::new())).await;
}

pub(super) async fn run_over(scenario: &Scenario, mode: Mode, store: Arc<InMemory>) {
    let broker = TestBroker::start().await;
    let start = start();
    let expected = expected(scenario, start);
    let producer = broker.broker.producer().expect("a producer");
    let mut running = Running::start(&broker, scenario, &store);
    for (at, step) in scenario.steps.iter().enumerate() {
        producer.send_all(vec![record(step, start)]).await.expect("acknowledged");
        let is_killed = match mode {
            Mode::Plain => false,
            Mode::KilledAtEveryStep => true,
            Mode::KilledOnce { step } => step == at,
        };
        if is_killed {
            // Somewhere between reading the record and having written all that follows from it.
            for _ in 0..at % 4 {
                tokio::time::sleep(POLL).await;
            }
            running.kill().await;
            running = Running::start(&broker, scenario, &store);
        }
    }
    if scenario.idle_after > Span::from_hours(1) {
        for workload in WORKLOADS {
            producer.send_all(vec![closing(workload, start)]).await.expect("acknowledged");
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        let found = seen(&broker).await;
        if found == expected || Instant::now() > deadline {
            break found;
        }
        tokio::time::sleep(POLL).await;
    };
    if running.task.is_finished() {
        panic!("{} {mode:?}: the processor ended: {:?}", scenario.name, running.task.await);
    }
    let differing = expected.windows.iter().find(|(key, values)| found.windows.get(*key) != Some(values));
    assert_eq!(
        differing,
        None,
        "{} {mode:?}: found {:?}",
        scenario.name,
        differing.and_then(|(key, _)| found.windows.get(key))
    );
    assert_eq!(found, expected, "{} {mode:?}", scenario.name);
    if matches!(mode, Mode::Plain) {
        running.adds_up(&broker, scenario, &expected).await;
    }
    running.drain().await;
    assert_eq!(seen(&broker).await, expected, "{} {mode:?}: after the end", scenario.name);
}

/// The error of a processor over the checkpoints of another.
pub(super) async fn refused(store: Arc<InMemory>, sql: &str) -> ProcessError {
    let broker = TestBroker::start().await;
    let features = vec![FeatureConfig { sql: sql.to_owned(), ..feature() }];
    let (service, _) = service(&broker, features, ProcessConfig::default(), store);
    service.run(CancellationToken::new()).await.expect_err("refuses the checkpoint")
}

/// When scenarios start: an hour's start, long enough ago for no row to be in the future.
pub(super) fn start() -> EventTime {
    (Clock::Wall.now() - Span::from_hours(3)).floor(Span::from_hours(1))
}

pub(super) async fn publish(broker: &TestBroker, steps: &[Step]) {
    let producer = broker.broker.producer().expect("a producer");
    let records = steps.iter().map(|step| record(step, start())).collect();
    producer.send_all(records).await.expect("acknowledged");
}

pub(super) async fn announce(broker: &TestBroker, signals: &[headroom_proto::v1::Signal]) {
    let producer = broker.broker.producer().expect("a producer");
    for signal in signals {
        let event = headroom_proto::signal::to_event(signal, "/test").expect("an event");
        let value = serde_json::to_vec(&event).expect("JSON");
        producer.send_all(vec![Record::new(Topic::Signals, value)]).await.expect("acknowledged");
    }
}

/// How a processor ends that is not told to.
pub(super) async fn ends(broker: &TestBroker, config: ProcessConfig, store: Arc<InMemory>) -> Result<(), ProcessError> {
    let (service, _) = service(broker, vec![feature()], config, store);
    let run = tokio::time::timeout(PATIENCE, service.run(CancellationToken::new()));
    run.await.expect("ends by itself")
}

/// Runs a processor until it has taken in what there is; how many windows are on the topic then.
pub(super) async fn goes_on(broker: &TestBroker, config: ProcessConfig, store: Arc<InMemory>) -> usize {
    let (service, handle) = service(broker, vec![feature()], config, store);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(service.run(shutdown.clone()));
    let deadline = Instant::now() + PATIENCE;
    let unread = async || -> i64 {
        let ends = broker.broker.ends(Topic::Metrics).await.expect("answers");
        ends.iter().map(|(_, low, high)| high - low).sum()
    };
    let held = u64::try_from(unread().await).expect("a count");
    while handle.status().records_in < held && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    shutdown.cancel();
    task.await.expect("ends").expect("drains");
    seen(broker).await.windows.len()
}

/// What the 10 s windows of a workload were told of signals, in order: active, seconds to the next, audience.
pub(super) async fn signals_seen(broker: &TestBroker, workload: &str) -> Vec<(f64, Option<f64>, f64)> {
    let mut told = BTreeMap::new();
    for record in broker.records(Topic::Windows).await {
        for batch in codec::decode_stream(&record.value).expect("decodes") {
            let numbers =
                |name: &str| batch.column_by_name(name).expect("a column").as_primitive::<Float64Type>().clone();
            let [active, next, audience] =
                ["signals_active", "signals_next_start_s", "signals_weighted_audience"].map(numbers);
            let lengths = batch.column_by_name("window_size_s").expect("a column").as_primitive::<Int32Type>();
            let starts = batch.column_by_name("window_start").expect("a column");
            let starts = starts.as_primitive::<TimestampMicrosecondType>();
            let workloads = batch.column_by_name(schema::WORKLOAD).expect("a column").as_string::<i32>();
            for row in
                (0..batch.num_rows()).filter(|row| lengths.value(*row) == 10 && workloads.value(*row) == workload)
            {
                told.insert(
                    starts.value(row),
                    (active.value(row), next.iter().nth(row).flatten(), audience.value(row)),
                );
            }
        }
    }
    told.into_values().collect()
}

fn feature() -> FeatureConfig {
    let windows = ["10s", "1m"].map(str::to_owned).into();
    FeatureConfig { name: "load".to_owned(), source: Telemetry::Metrics, windows, sql: SQL.to_owned() }
}

fn service(
    broker: &TestBroker,
    features: Vec<FeatureConfig>,
    config: ProcessConfig,
    store: Arc<InMemory>,
) -> (ProcessService, ProcessHandle) {
    ProcessService::new(config, features, broker.broker.clone(), Clock::Wall, store, &mut Registry::default())
}

struct Running {
    task: JoinHandle<Result<(), ProcessError>>,
    handle: ProcessHandle,
    shutdown: CancellationToken,
}

impl Running {
    fn start(broker: &TestBroker, scenario: &Scenario, store: &Arc<InMemory>) -> Self {
        let config = ProcessConfig { idle_after: scenario.idle_after, ..ProcessConfig::default() };
        let (service, handle) = service(broker, vec![feature()], config, Arc::clone(store));
        let shutdown = CancellationToken::new();
        Self { task: tokio::spawn(service.run(shutdown.clone())), handle, shutdown }
    }

    async fn kill(self) {
        self.task.abort();
        assert!(!matches!(self.task.await, Ok(Err(_))), "the processor failed");
    }

    async fn drain(self) {
        self.shutdown.cancel();
        self.task.await.expect("ends").expect("drains");
        assert_eq!(self.handle.status().state, StageState::Drained);
    }

    /// Every row that was read is in a window, late, dead or filtered, as the ledger and the metrics say.
    async fn adds_up(&self, broker: &TestBroker, scenario: &Scenario, expected: &Seen) {
        let mut epochs: BTreeMap<(String, u64), LedgerEntry> = BTreeMap::new();
        for record in broker.records(Topic::Ledger).await {
            let entry = LedgerEntry::decode(record.value.as_ref()).expect("an entry");
            let told = entry.emitted + entry.late + entry.dead + entry.filtered + entry.open_after;
            assert_eq!(entry.open_before + entry.read, told, "{}: {entry:?}", scenario.name);
            epochs.insert((entry.shard.clone(), entry.epoch), entry);
        }
        let sum = |of: fn(&LedgerEntry) -> u64| epochs.values().map(of).sum::<u64>();
        let late = u64::try_from(expected.late.len()).expect("a count");
        assert_eq!((sum(|e| e.late), sum(|e| e.dead)), (late, expected.dead), "{}", scenario.name);
        let totals = &self.handle.totals;
        let counted = [&totals.read, &totals.emitted, &totals.late, &totals.dead].map(Counter::get);
        assert_eq!(counted, [sum(|e| e.read), sum(|e| e.emitted), late, expected.dead], "{}", scenario.name);
    }
}

fn record(step: &Step, start: EventTime) -> Record {
    match step {
        Step::Rows { workload, rows } => {
            let rows = rows.iter().map(|(second, value, _)| (start + Span::from_secs(*second), *value));
            metrics(workload, rows)
        }
        Step::Raw { value, schema } => {
            let record = Record::new(Topic::Metrics, value.clone()).partition(0);
            record.header(headers::SCHEMA, schema.0).header(headers::SCHEMA_VERSION, schema.1)
        }
    }
}

/// No rows, and the promise that none will come from before.
fn closing(workload: &str, start: EventTime) -> Record {
    let promise = start + Span::from_hours(1);
    metrics(workload, std::iter::empty()).header(headers::WATERMARK, promise.micros().to_string())
}

fn metrics(workload: &str, rows: impl Iterator<Item = (EventTime, f64)>) -> Record {
    let (times, values): (Vec<i64>, Vec<f64>) = rows.map(|(time, value)| (time.micros(), value)).unzip();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![workload; values.len()])),
        Arc::new(StringArray::from(vec!["requests"; values.len()])),
        Arc::new(Float64Array::from(values)),
    ];
    let batch = RecordBatch::try_new(schema::metrics(), columns).expect("metrics");
    let partition = WORKLOADS.iter().position(|known| *known == workload).expect("a known workload");
    Record::new(Topic::Metrics, codec::encode_bare(&batch).expect("encodes"))
        .partition(i32::try_from(partition).expect("small"))
        .key(workload.to_owned())
        .header(headers::SCHEMA, "metrics")
        .header(headers::SCHEMA_VERSION, schema::METRICS_VERSION.to_string())
}

fn expected(scenario: &Scenario, start: EventTime) -> Seen {
    let mut expected = Seen::default();
    for step in &scenario.steps {
        let Step::Rows { workload, rows } = step else {
            expected.dead += 1;
            continue;
        };
        for (second, value, fate) in rows {
            match fate {
                Fate::Kept => {
                    for seconds in [10, 60] {
                        let key = (seconds, second.div_euclid(seconds) * seconds, (*workload).to_owned());
                        let complete = !scenario.incomplete.contains(&(key.0, key.1));
                        let window = expected.windows.entry(key).or_insert((0.0, 0.0, complete));
                        *window = (window.0 + 1.0, window.1 + value, complete);
                    }
                }
                Fate::Late => expected.late.push(((start + Span::from_secs(*second)).micros(), (*workload).to_owned())),
                Fate::Dead => expected.dead += 1,
            }
        }
    }
    let shifted = std::mem::take(&mut expected.windows).into_iter();
    expected.windows = shifted
        .map(|((length, second, workload), w)| ((length, (start + Span::from_secs(second)).micros(), workload), w))
        .collect();
    expected.late.sort();
    expected
}

/// What is on the topics, repeats left out by shard and sequence, or by origin.
async fn seen(broker: &TestBroker) -> Seen {
    let mut seen = Seen::default();
    let mut known: BTreeMap<(String, u64), bytes::Bytes> = BTreeMap::new();
    for record in broker.records(Topic::Windows).await {
        let shard = record.header(headers::SHARD).expect("a shard").to_owned();
        let sequence = record.header(headers::SEQUENCE).and_then(|text| text.parse().ok()).expect("a sequence");
        if let Some(before) = known.insert((shard.clone(), sequence), record.value.clone()) {
            assert_eq!(before, record.value, "a repeat of {shard} {sequence} differs");
            continue;
        }
        for batch in codec::decode_stream(&record.value).expect("decodes") {
            take_windows(&mut seen.windows, &batch);
        }
    }
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for (shard, sequence) in known.keys() {
        let before = newest.insert(shard, *sequence).unwrap_or(0);
        assert_eq!(before + 1, *sequence, "{shard}: a sequence number is missing");
    }
    seen.late = once_by_origin(broker, Topic::Late).await.iter().flat_map(late_rows).collect();
    seen.late.sort();
    seen.dead = u64::try_from(once_by_origin(broker, Topic::DeadLetter).await.len()).expect("a count");
    seen
}

async fn once_by_origin(broker: &TestBroker, topic: Topic) -> Vec<Received> {
    let origin = |record: &Received| record.header(headers::DEAD_ORIGIN).expect("an origin").to_owned();
    let records = broker.records(topic).await.into_iter();
    records.map(|record| (origin(&record), record)).collect::<BTreeMap<_, _>>().into_values().collect()
}

fn late_rows(record: &Received) -> Vec<(i64, String)> {
    let batch = codec::decode_bare(&record.value, schema::metrics()).expect("metrics");
    let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
    let workloads = batch.column(1).as_string::<i32>().clone();
    times.into_iter().zip(workloads.iter().flatten().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn take_windows(windows: &mut Windows, batch: &RecordBatch) {
    let column = |name: &str| batch.column_by_name(name).expect("a column");
    let lengths = column("window_size_s").as_primitive::<Int32Type>();
    let starts = column("window_start").as_primitive::<TimestampMicrosecondType>();
    let workloads = column(schema::WORKLOAD).as_string::<i32>();
    let (n, total) = (column("n").as_primitive::<Float64Type>(), column("total").as_primitive::<Float64Type>());
    let complete = column("complete").as_boolean();
    for row in 0..batch.num_rows() {
        let key = (i64::from(lengths.value(row)), starts.value(row), workloads.value(row).to_owned());
        let before = windows.insert(key.clone(), (n.value(row), total.value(row), complete.value(row)));
        assert!(before.is_none(), "{key:?} came twice");
    }
}
