use std::path::Path;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use headroom_ingest_broker::embedded::Embedded;
use headroom_ingest_broker::{BrokerConfig, Producer, Record};
use headroom_ingest_lake::{Commit, QueryLimits, Table};
use headroom_proto::schema::window_envelope;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, ActionState, Forecast, Model, Outcome, Plan, Switch, Verdict};
use headroom_proto::{EventTime, codec, headers};
use prost::Message;
use tokio::task::JoinHandle;

use super::*;

const MINUTE_US: i64 = 60_000_000;
const LIMIT: Duration = Duration::from_secs(60);

/// A broker and a lake in a folder of their own.
struct Bench {
    embedded: Embedded,
    broker: Broker,
    producer: Producer,
    folder: tempfile::TempDir,
}

struct Running {
    task: JoinHandle<Result<(), StoreError>>,
    handle: StoreHandle,
    shutdown: CancellationToken,
}

impl Bench {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("starts");
        let config = BrokerConfig { partitions: 2, fetch_wait_ms: 10, ..BrokerConfig::default() };
        let broker = Broker::new(embedded.bootstrap_servers(), &config);
        broker.ensure_topics().await.expect("topics");
        std::fs::create_dir(folder.path().join("lake")).expect("a folder");
        let producer = broker.producer().expect("a producer");
        Self { embedded, broker, producer, folder }
    }

    fn lake_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("lake")
    }

    async fn store(&self, config: StoreConfig) -> Running {
        let lake = Arc::new(Lake::open(self.lake_folder()).await.expect("a lake"));
        let (service, handle) = StoreService::new(config, self.broker.clone(), lake, &mut Registry::default());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(service.run(shutdown.clone()));
        Running { task, handle, shutdown }
    }

    async fn send(&self, records: Vec<Record>) {
        self.producer.send_all(records).await.expect("acknowledged");
    }

    async fn number(&self, sql: &str) -> i64 {
        let lake = Lake::open(self.lake_folder()).await.expect("a lake");
        number(&lake, sql).await
    }
}

impl Running {
    async fn caught_up(&self) {
        tokio::time::timeout(LIMIT, self.handle.catch_up()).await.expect("in time").expect("catches up");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(LIMIT, self.task).await.expect("in time").expect("no panic");
        ended.expect("drains");
        assert_eq!(self.handle.status().state, StageState::Drained);
    }

    /// Ends without a word, as a crash does.
    async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("aborted").is_cancelled());
    }
}

async fn number(lake: &Lake, sql: &str) -> i64 {
    let batches = lake.query(sql, &QueryLimits::default()).await.expect(sql).collect().await.expect(sql);
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// One window of one minute of a workload.
fn window(workload: &str, minute: i64, sequence: i64) -> Record {
    let (start, end) = (minute * MINUTE_US, (minute + 1) * MINUTE_US);
    let mut fields = window_envelope();
    fields.push(Field::new("load", DataType::Float64, true));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["load"])),
        Arc::new(Int32Array::from(vec![60])),
        Arc::new(TimestampMicrosecondArray::from(vec![start]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![end]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![workload])),
        Arc::new(Int32Array::from(vec![0])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Float64Array::from(vec![1.0])),
    ];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("fits");
    Record::new(Topic::Windows, codec::encode_stream(&batch.schema(), &[batch]).expect("encodes"))
        .key(workload.to_owned())
        .header(headers::SHARD, format!("{}/0", Topic::Metrics.name()))
        .header(headers::SEQUENCE, sequence.to_string())
        .header(headers::WATERMARK, end.to_string())
}

fn control(topic: Topic, name: &str, message: &impl Message) -> Record {
    Record::new(topic, message.encode_to_vec()).key("shop").header(headers::MESSAGE, name.to_owned())
}

fn forecast(workload: &str, minute: i64) -> Record {
    let forecast = Forecast {
        workload: workload.to_owned(),
        origin_us: minute * MINUTE_US,
        step_us: MINUTE_US,
        levels: vec![0.5, 0.9],
        values: vec![1.0, 2.0, 3.0, 4.0],
        verdict: Verdict::Fresh.into(),
        ..Forecast::default()
    };
    control(Topic::Forecasts, "Forecast", &forecast).key(workload.to_owned())
}

fn plan(id: &str) -> Plan {
    Plan { plan_id: id.to_owned(), workload: "shop".to_owned(), ..Plan::default() }
}

/// Commits only when asked to.
fn patient() -> StoreConfig {
    StoreConfig { commit_interval: Span::from_hours(1), ..StoreConfig::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_has_its_table() {
    let bench = Bench::start().await;
    let running = bench.store(patient()).await;
    let action = ActionRecord {
        action_id: "a1".to_owned(),
        workload: "shop".to_owned(),
        state: ActionState::Applied.into(),
        ..ActionRecord::default()
    };
    let outcome = Outcome { action_id: "a1".to_owned(), workload: "shop".to_owned(), ..Outcome::default() };
    let model = Model { model_version: "m1".to_owned(), workload: "shop".to_owned(), ..Model::default() };
    let signal = serde_json::json!({
        "specversion": "1.0", "id": "1", "source": "/test", "type": "io.headroom.signal.announced.v1",
        "subject": "match-1", "time": "1998-06-09T00:00:00Z",
        "data": {"kind": "match", "starts_at": "1998-06-10T15:00:00Z", "ends_at": "1998-06-10T17:00:00Z"},
    });
    bench
        .send(vec![
            window("shop", 0, 1),
            forecast("shop", 5),
            Record::new(Topic::Signals, signal.to_string()),
            control(Topic::Plans, "Plan", &plan("p1")),
            control(Topic::Actions, "ActionRecord", &action),
            control(Topic::Actions, "Switch", &Switch { paused: true, ..Switch::default() }),
            control(Topic::Outcomes, "Outcome", &outcome),
            control(Topic::Models, "Model", &model),
        ])
        .await;
    running.caught_up().await;
    for (table, rows) in Table::ALL.into_iter().zip([1, 1, 2, 0, 1, 2, 1, 1, 0, 0, 0]) {
        assert_eq!(bench.number(&format!("SELECT count(*) FROM {table}")).await, rows, "{table}");
    }
    let status = running.handle.status();
    assert_eq!((status.records_in, status.records_out, status.set_aside), (8, 9, 0));
    assert_eq!(status.event_time, Some(EventTime::from_micros(MINUTE_US)));
    running.stop().await;

    let again = bench.store(patient()).await;
    again.caught_up().await;
    assert_eq!(again.handle.status().event_time, Some(EventTime::from_micros(MINUTE_US)), "is kept in the lake");
    assert_eq!(again.handle.status().records_in, 0);
    again.stop().await;
    bench.embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_every_record_is_stored_once() {
    let bench = Bench::start().await;
    // Two workloads on two partitions share one shard, so its sequence numbers do not come in order.
    let both = |minute: i64| ["shop", "club"].map(|workload| (workload, minute));
    let number_of = |workload: &str, minute: i64| minute * 2 + if workload == "shop" { 1 } else { 2 };
    let windows = |minutes: std::ops::Range<i64>| -> Vec<Record> {
        let record = |(workload, minute)| {
            window(workload, minute, number_of(workload, minute)).partition(i32::from(workload == "shop"))
        };
        minutes.flat_map(both).map(record).collect()
    };
    let forecasts = |minutes: std::ops::Range<i64>| -> Vec<Record> {
        minutes.flat_map(both).map(|(workload, minute)| forecast(workload, minute * 5)).collect()
    };
    bench.send([windows(0..10), forecasts(0..10)].concat()).await;
    let first = bench.store(patient()).await;
    first.caught_up().await;
    // Read, but not committed.
    bench.send([windows(10..20), forecasts(10..20)].concat()).await;
    tokio::time::timeout(LIMIT, async {
        while first.handle.status().records_in < 80 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("everything is read in time");
    first.crash().await;
    assert_eq!(bench.number("SELECT count(*) FROM windows").await, 20);

    // The producers have crashed too, and send again what they are not sure of.
    bench.send([windows(15..25), forecasts(15..25)].concat()).await;
    let second = bench.store(patient()).await;
    second.caught_up().await;
    let repeats = second.handle.status().set_aside;
    second.stop().await;
    assert_eq!(bench.number("SELECT count(*) FROM windows").await, 50);
    assert_eq!(bench.number("SELECT count(DISTINCT (workload, window_start)) FROM windows").await, 50);
    assert_eq!(bench.number("SELECT count(*) FROM forecasts").await, 100);
    assert_eq!(bench.number("SELECT count(DISTINCT (workload, origin, step)) FROM forecasts").await, 100);
    assert_eq!(repeats, 20);
    bench.embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_becomes_a_dead_letter() {
    let bench = Bench::start().await;
    let running = bench.store(patient()).await;
    bench
        .send(vec![
            Record::new(Topic::Windows, "no arrow").header(headers::SHARD, "t/0").header(headers::SEQUENCE, "1"),
            Record::new(Topic::Plans, "no header"),
            Record::new(Topic::Signals, "{}"),
            control(Topic::Outcomes, "Plan", &plan("p1")),
            control(Topic::Plans, "Plan", &plan("p2")),
        ])
        .await;
    running.caught_up().await;
    assert_eq!(running.handle.status().set_aside, 4);
    running.stop().await;
    let letters = bench.broker.tail(Topic::DeadLetter, 0, 10).await.expect("letters");
    let mut origins: Vec<&str> = letters.iter().filter_map(|letter| letter.header(headers::DEAD_ORIGIN)).collect();
    origins.sort_unstable();
    let topics: Vec<&str> = origins.iter().filter_map(|origin| origin.split('/').next()).collect();
    assert_eq!(topics, ["headroom.outcomes", "headroom.plans", "headroom.signals", "headroom.windows"]);
    assert!(letters.iter().all(|letter| letter.header(headers::DEAD_REASON).is_some()));
    assert!(letters.iter().any(|letter| letter.value == "no arrow"), "the bytes are kept");

    let again = bench.store(patient()).await;
    again.caught_up().await;
    again.stop().await;
    assert_eq!(bench.broker.ends(Topic::DeadLetter).await.expect("ends"), [(0, 0, 4)]);
    assert_eq!(bench.number("SELECT count(*) FROM plans").await, 1);
    bench.embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_come_by_time_and_by_size() {
    let bench = Bench::start().await;
    let soon = StoreConfig { commit_interval: Span::from_micros(1_000), ..StoreConfig::default() };
    let small = StoreConfig { max_commit_rows: 10, ..patient() };
    for (nth, config) in [(0, soon), (1, small)] {
        let running = bench.store(config).await;
        bench.send((nth * 100..nth * 100 + 100).map(|minute| forecast("shop", minute * 5)).collect()).await;
        tokio::time::timeout(LIMIT, async {
            while running.handle.status().records_out < 200 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("is committed without being asked");
        running.stop().await;
    }
    assert_eq!(bench.number("SELECT count(DISTINCT origin) FROM forecasts").await, 200);
    bench.embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_looked_after_while_rows_come() {
    let bench = Bench::start().await;
    let maintenance = MaintenanceConfig {
        interval: Span::from_micros(1_000),
        closed_day_files: 2,
        open_day_files: 3,
        max_bytes_per_s: 0,
        keep: [("forecasts".to_owned(), "2d".to_owned())].into(),
        ..MaintenanceConfig::default()
    };
    let config = StoreConfig { max_commit_rows: 10, maintenance, ..patient() };
    let running = bench.store(config.clone()).await;
    for hour in 0..48 {
        bench.send(vec![forecast("shop", hour * 60)]).await;
        running.caught_up().await;
    }
    running.stop().await;
    let again = bench.store(config).await;
    let lake = Lake::open(bench.lake_folder()).await.expect("a lake");
    tokio::time::timeout(LIMIT, async {
        loop {
            let tables = lake.tables().await.expect("reads");
            let forecasts = tables.iter().find(|state| state.table == Table::Forecasts).expect("listed");
            if forecasts.files <= 4 {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("files are joined without being asked");
    again.stop().await;
    assert_eq!(bench.number("SELECT count(DISTINCT origin) FROM forecasts").await, 48);
    assert_eq!(lake.positions(Table::Forecasts, ["headroom.forecasts/0"]).await.expect("reads").len(), 1);
    bench.embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forecasts_can_be_thinned() {
    let bench = Bench::start().await;
    let hourly = StoreConfig { forecast_every: Span::from_hours(1), ..patient() };
    let running = bench.store(hourly.clone()).await;
    bench.send((0..30).map(|n| forecast("shop", n * 5)).collect()).await;
    running.caught_up().await;
    running.crash().await;
    let again = bench.store(hourly).await;
    bench.send((30..48).map(|n| forecast("shop", n * 5)).collect()).await;
    again.caught_up().await;
    again.stop().await;
    assert_eq!(bench.number("SELECT count(DISTINCT origin) FROM forecasts").await, 4);
    assert_eq!(bench.number("SELECT count(*) FROM forecasts WHERE extract(minute FROM origin) != 0").await, 0);
    bench.embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_of_another_broker_is_refused() {
    let bench = Bench::start().await;
    fill(&bench.lake_folder()).await;
    let running = bench.store(patient()).await;
    let error =
        tokio::time::timeout(LIMIT, running.task).await.expect("in time").expect("no panic").expect_err("ahead");
    assert!(matches!(error, StoreError::Ahead { stored: 9, end: 0, .. }), "{error}");
    assert_eq!(running.handle.status().state, StageState::Failed);
    assert!(matches!(running.handle.catch_up().await, Err(StoreError::Stopped)));
    bench.embedded.stop().await;
}

async fn fill(folder: &Path) {
    let lake = Lake::open(folder).await.expect("a lake");
    let positions = [("headroom.plans/1".to_owned(), 9)].into();
    lake.append(Table::Plans, Vec::new(), Commit { positions }).await.expect("commits");
}
