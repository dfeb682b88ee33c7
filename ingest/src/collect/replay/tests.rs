use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use headroom_ingest_broker::Received;
use headroom_proto::codec::decode_bare;
use headroom_proto::topics::Topic;
use headroom_proto::{Span, headers, schema};

use super::round::Round;
use super::*;
use crate::collect::trace::{Entry, TraceReader};
use crate::test_broker::TestBroker;

const SIGNALS: &str = "event_id,kind,announced_at,starts_at,ends_at,expected_reach,weight,audience,name\n\
    early,sale,1998-01-01,1998-06-02,1998-06-03,,,,\nduring,sale,1998-06-01 05:00:00,1998-06-02,1998-06-03,,,,\n\
    after,sale,1999-01-01,1999-06-02,1999-06-03,,,,\n";

/// A day of minutes of two workloads, with a gap and a row that cannot be read.
fn trace() -> String {
    let start = EventTime::parse("1998-06-01").expect("a date");
    let mut text = "ts,value,workload,gap\n".to_owned();
    for minute in 0..1_440 {
        let time = start + Span::from_mins(minute);
        let gap = u8::from(minute == 100);
        text.push_str(&format!("{time},{minute},a,{gap}\n"));
        if minute == 700 {
            text.push_str("1998-06-01 11:40:00,seven,b,0\n");
        }
        if minute % 2 == 0 {
            text.push_str(&format!("{time},{},b,0\n", minute * 2));
        }
    }
    text
}

fn config(broker: &TestBroker) -> ReplayConfig {
    let file = broker.folder.path().join("trace.csv");
    let signals = broker.folder.path().join("signals.csv");
    std::fs::write(&file, trace()).expect("writes");
    std::fs::write(&signals, SIGNALS).expect("writes");
    ReplayConfig {
        file,
        signals: Some(signals),
        workload_column: Some("workload".to_owned()),
        batch_span: Span::from_mins(30),
        ..ReplayConfig::default()
    }
}

fn service(
    broker: &TestBroker,
    config: ReplayConfig,
    clock: &Clock,
    gate: Option<ReplayGate>,
) -> (ReplayService, ReplayHandle) {
    ReplayService::new(config, broker.broker.clone(), clock.clone(), gate, &mut Registry::default()).expect("legal")
}

async fn replay(broker: &TestBroker, config: ReplayConfig) -> (Clock, ReplayHandle) {
    let clock = Clock::replay();
    let (service, handle) = service(broker, config, &clock, None);
    service.run(CancellationToken::new()).await.expect("replays");
    (clock, handle)
}

/// What the records say: each workload's rows in their order, and its promises of completeness.
#[derive(Debug, Default, PartialEq)]
struct Published {
    rows: Vec<(i64, f64)>,
    watermarks: Vec<String>,
}

fn read(records: &[Received]) -> BTreeMap<String, Published> {
    let mut found: BTreeMap<String, Published> = BTreeMap::new();
    for record in records {
        assert_eq!(
            (record.header(headers::SCHEMA), record.header(headers::SCHEMA_VERSION)),
            (Some("metrics"), Some("1"))
        );
        assert_eq!(record.header(headers::SOURCE), Some("replay:trace.csv"));
        let workload = String::from_utf8(record.key.clone().expect("a key").to_vec()).expect("text");
        let published = found.entry(workload.clone()).or_default();
        published.watermarks.extend(record.header(headers::WATERMARK).map(str::to_owned));
        let batch = decode_bare(&record.value, schema::metrics()).expect("a batch");
        assert!(batch.column(1).as_string::<i32>().iter().all(|name| name == Some(&workload)));
        assert!(batch.column(2).as_string::<i32>().iter().all(|name| name == Some("requests")));
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values().iter().copied();
        published.rows.extend(times.zip(batch.column(3).as_primitive::<Float64Type>().values().iter().copied()));
    }
    found
}

/// What must be on the topic after any number of runs up to `until`.
fn expected(config: &ReplayConfig, until: EventTime, watermarks: &[EventTime]) -> BTreeMap<String, Published> {
    let mut expected: BTreeMap<String, Published> = BTreeMap::new();
    for row in TraceReader::open(&config.file, &config.columns()).expect("opens") {
        if let Entry::Sample(sample) = row.expect("reads").entry
            && sample.time < until
        {
            expected.entry(sample.workload.to_string()).or_default().rows.push((sample.time.micros(), sample.value));
        }
    }
    for published in expected.values_mut() {
        published.watermarks = watermarks.iter().map(|watermark| watermark.micros().to_string()).collect();
    }
    expected
}

fn at(text: &str) -> EventTime {
    EventTime::parse(text).expect("a time")
}

async fn signal_ids(broker: &TestBroker) -> Vec<String> {
    let signals = broker.records(Topic::Signals).await;
    signals
        .iter()
        .map(|record| String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_published_once_and_gaps_stay_gaps() {
    let broker = TestBroker::start().await;
    let config = config(&broker);
    let end = at("1998-06-02");
    for _ in 0..2 {
        let (clock, handle) = replay(&broker, config.clone()).await;
        assert_eq!(read(&broker.records(Topic::Metrics).await), expected(&config, end, &[end]));
        assert_eq!(signal_ids(&broker).await, ["early", "during"]);
        assert_eq!(clock.now(), end);
        let progress = handle.progress();
        assert_eq!(progress, ReplayProgress { rows_done: 2_161, rows_total: 2_161, event_time: Some(end) });
        assert_eq!(handle.status().state, StageState::Drained);
        let letters = broker.records(Topic::DeadLetter).await;
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].value, "1998-06-01 11:40:00,seven,b,0");
        let reason = letters[0].header(headers::DEAD_REASON).expect("a reason");
        assert!(reason.contains("trace.csv, line 1053, column `value`: found `seven`"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_stopped_goes_on_where_it_was() {
    let broker = TestBroker::start().await;
    let config = config(&broker);
    let downstream = Arc::new(AtomicI64::new(at("1998-06-01 01:00:00").micros()));
    let gate_reads = Arc::clone(&downstream);
    let gate: ReplayGate = Arc::new(move || Some(EventTime::from_micros(gate_reads.load(Ordering::Acquire))));
    let shutdown = CancellationToken::new();
    let (service, handle) = service(&broker, config.clone(), &Clock::replay(), Some(gate));
    let running = tokio::spawn(service.run(shutdown.clone()));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while handle.progress().event_time < Some(at("1998-06-01 07:00:00")) {
        assert!(tokio::time::Instant::now() < deadline, "stuck at {:?}", handle.progress());
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    running.await.expect("joins").expect("drains");
    let stopped_at = handle.progress().event_time.expect("something was published");
    assert!(stopped_at < at("1998-06-01 08:00:00"), "{stopped_at} is further ahead than one round beyond the limit");

    let end = at("1998-06-02");
    // Another size of rounds must not matter.
    replay(&broker, ReplayConfig { batch_rows: 17, ..config.clone() }).await;
    assert_eq!(read(&broker.records(Topic::Metrics).await), expected(&config, end, &[end]));
    assert_eq!(signal_ids(&broker).await, ["early", "during"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_a_crash_cut_short_is_completed() {
    let broker = TestBroker::start().await;
    let config = config(&broker);
    let first = at("1998-06-01 02:00:00");
    replay(&broker, ReplayConfig { until: Some(first), ..config.clone() }).await;
    let mut round = Round::default();
    for row in TraceReader::open(&config.file, &config.columns()).expect("opens") {
        let row = row.expect("reads");
        if let Entry::Sample(sample) = row.entry
            && sample.time >= first
            && sample.time < at("1998-06-01 03:00:00")
        {
            round.push(row.number, sample);
        }
    }
    let producer = broker.broker.producer().expect("connects");
    let only_b =
        round.records(&config).expect("encodes").into_iter().filter(|r| r.key.as_deref() == Some(b"b")).collect();
    producer.send_all(only_b).await.expect("acknowledged");

    let end = at("1998-06-01 20:00:00");
    replay(&broker, ReplayConfig { until: Some(end), ..config.clone() }).await;
    assert_eq!(read(&broker.records(Topic::Metrics).await), expected(&config, end, &[first, end]));
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once() {
    let config = ReplayConfig {
        file: "nowhere.csv".into(),
        speed: -1.0,
        from: Some(at("1998-06-02")),
        until: Some(at("1998-06-01")),
        batch_rows: 0,
        max_ahead: Span::from_mins(1),
        ..ReplayConfig::default()
    };
    let broker = Broker::new("127.0.0.1:1", &headroom_ingest_broker::BrokerConfig::default());
    let refused = ReplayService::new(config, broker, Clock::Wall, None, &mut Registry::default()).expect_err("refused");
    assert!(refused.is_users_fault());
    for expected in ["nowhere.csv: no such file", "speed = -1", "later than from", "batch_rows", "max_ahead = 1m"] {
        assert!(refused.to_string().contains(expected), "{expected}: {refused}");
    }
}
