//! What every broker must do for us.

use std::collections::BTreeMap;
use std::time::Duration;

use headroom_ingest_broker::{Broker, BrokerConfig, BrokerError, Consumer, Received, Record, Start};
use headroom_proto::EventTime;
use headroom_proto::topics::Topic;
use tokio::time::Instant;

use crate::kafka::Child;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs every check on one broker.
pub(crate) async fn keeps_the_contract(broker: &Broker) {
    broker.ensure_topics().await.expect("creates the topics");
    broker.ensure_topics().await.expect("creating them again changes nothing");
    keys_keep_their_order_and_everything_comes_back(broker).await;
    offsets_and_times_find_their_records(broker).await;
    what_is_not_there_is_an_error(broker).await;
    commits_are_kept(broker).await;
    large_records_pass_and_an_empty_poll_ends(broker).await;
}

/// Reads until `want` records have come.
async fn read(consumer: &Consumer, want: usize) -> Vec<Received> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < want {
        records.extend(consumer.poll(1_000, Duration::from_millis(200)).await.expect("polls"));
        assert!(Instant::now() < deadline, "{} of {want} records after {PATIENCE:?}", records.len());
    }
    records
}

async fn keys_keep_their_order_and_everything_comes_back(broker: &Broker) {
    let producer = broker.producer().expect("a producer");
    let start = EventTime::parse("1998-06-10T15:30:00Z").expect("a time");
    let record = |i: i64| {
        Record::new(Topic::Metrics, format!("v{i}"))
            .key(format!("k{}", i % 7))
            .header("headroom-seq", i.to_string())
            .time(EventTime::from_millis(start.millis() + i))
    };
    producer.send_all((0..500).map(record).collect()).await.expect("acknowledged");
    for _ in 0..2 {
        let consumer = broker.consumer("headroom-test").expect("a consumer");
        consumer.assign_all(&[Topic::Metrics], Start::Earliest).await.expect("assigns");
        let mut newest: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for record in read(&consumer, 500).await {
            let i: i64 = record.header("headroom-seq").and_then(|text| text.parse().ok()).expect("its header");
            assert_eq!(record.value, format!("v{i}"));
            assert_eq!(record.time, Some(EventTime::from_millis(start.millis() + i)));
            let before = newest.insert(record.key.expect("its key").to_vec(), i);
            assert!(before.is_none_or(|before| before < i), "records of a key keep their order");
        }
        assert_eq!(newest.len(), 7);
    }
    let ends = broker.ends(Topic::Metrics).await.expect("ends");
    assert_eq!(ends.iter().map(|(_, low, high)| high - low).sum::<i64>(), 500);
}

async fn offsets_and_times_find_their_records(broker: &Broker) {
    let producer = broker.producer().expect("a producer");
    let at = |i: i64| EventTime::from_millis(1_000_000 + i * 1_000);
    for i in 0..20 {
        producer.send_all(vec![Record::new(Topic::Signals, format!("s{i}")).time(at(i))]).await.expect("acknowledged");
    }
    let tail = broker.tail(Topic::Signals, 0, 3).await.expect("the tail");
    assert_eq!(tail.iter().map(|r| r.value.to_vec()).collect::<Vec<_>>(), [b"s17", b"s18", b"s19"]);
    assert!(broker.tail(Topic::Late, 0, 3).await.expect("an empty tail").is_empty());
    let consumer = broker.consumer("headroom-test").expect("a consumer");
    for (start, first) in [(Start::Offset(5), "s5"), (Start::At(at(7)), "s7"), (Start::Earliest, "s0")] {
        consumer.assign(&[(Topic::Signals, 0, start)]).await.expect("assigns");
        assert_eq!(read(&consumer, 1).await[0].value, first, "{start:?}");
    }
    // The embedded broker once began at the first record here.
    for start in [Start::At(at(100)), Start::Latest] {
        let consumer = broker.consumer("headroom-test").expect("a consumer");
        consumer.assign(&[(Topic::Signals, 0, start)]).await.expect("assigns");
        let deadline = Instant::now() + PATIENCE;
        let mut sent = 0;
        // A consumer at the end sees what comes after it has found the end, and nothing from before.
        let seen = loop {
            producer.send_all(vec![Record::new(Topic::Signals, "new")]).await.expect("acknowledged");
            sent += 1;
            let records = consumer.poll(100, Duration::from_millis(200)).await.expect("polls");
            if let Some(first) = records.into_iter().next() {
                break first;
            }
            assert!(Instant::now() < deadline, "nothing after {sent} records");
        };
        assert_eq!(seen.value, "new", "{start:?}");
    }
}

async fn what_is_not_there_is_an_error(broker: &Broker) {
    let consumer = broker.consumer("headroom-test").expect("a consumer");
    let error = consumer.assign(&[(Topic::Signals, 0, Start::Offset(1_000_000))]).await.expect_err("beyond the end");
    assert!(matches!(error, BrokerError::OutOfRange { .. }), "{error}");
    assert!(!error.is_retryable());
    let limit = BrokerConfig::default().message_max_bytes;
    let producer = broker.producer().expect("a producer");
    let error = producer.send_all(vec![Record::new(Topic::Late, vec![7_u8; limit + 1])]).await.expect_err("too large");
    assert!(matches!(error, BrokerError::TooLarge { .. }) && !error.is_retryable(), "{error}");
}

async fn commits_are_kept(broker: &Broker) {
    let consumer = broker.consumer("headroom-test-commits").expect("a consumer");
    consumer.assign(&[(Topic::Signals, 0, Start::Earliest)]).await.expect("assigns");
    read(&consumer, 10).await;
    consumer.commit(&[(Topic::Signals, 0, 10)]).expect("queued");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let committed = consumer.committed(&[Topic::Signals]).await.expect("answers");
        if committed == [(Topic::Signals, 0, Some(10))] {
            return;
        }
        assert!(Instant::now() < deadline, "{committed:?}");
    }
}

async fn large_records_pass_and_an_empty_poll_ends(broker: &Broker) {
    let producer = broker.producer().expect("a producer");
    let large = vec![7_u8; 1 << 20];
    producer.send_all(vec![Record::new(Topic::Late, large.clone())]).await.expect("acknowledged");
    let consumer = broker.consumer("headroom-test").expect("a consumer");
    consumer.assign(&[(Topic::Late, 0, Start::Earliest)]).await.expect("assigns");
    assert_eq!(read(&consumer, 1).await[0].value, large);
    assert!(consumer.poll(10, Duration::from_millis(50)).await.expect("polls").is_empty());
}

/// Kills the broker in the middle of producing, three times: nothing acknowledged is lost, nothing is doubled.
pub(crate) async fn survives_kills(start: impl Fn(u16) -> Child, config: &BrokerConfig) {
    let port = crate::kafka::free_port();
    let broker = Broker::new(&format!("127.0.0.1:{port}"), config);
    let mut acknowledged = Vec::new();
    let mut sent = 0_usize;
    for _ in 0..3 {
        let child = start(port);
        child.ready(&broker).await;
        let producer = broker.producer().expect("a producer");
        let mut deliveries = Vec::new();
        for _ in 0..2_000 {
            let record = Record::new(Topic::Windows, sent.to_string()).partition(0);
            deliveries.push((sent, producer.send(record).await.expect("queued")));
            sent += 1;
        }
        let mut deliveries = deliveries.into_iter();
        for (number, delivery) in deliveries.by_ref().take(1_000) {
            delivery.await.expect("acknowledged");
            acknowledged.push(number);
        }
        child.kill();
        for (number, delivery) in deliveries {
            if let Some(Ok(_)) = futures::FutureExt::now_or_never(delivery) {
                acknowledged.push(number);
            }
        }
    }
    let child = start(port);
    child.ready(&broker).await;
    let consumer = broker.consumer("headroom-test").expect("a consumer");
    consumer.assign(&[(Topic::Windows, 0, Start::Earliest)]).await.expect("assigns");
    let ends = broker.ends(Topic::Windows).await.expect("ends");
    let held = ends.iter().find(|(partition, _, _)| *partition == 0).map_or(0, |(_, low, high)| high - low);
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for record in read(&consumer, usize::try_from(held).expect("a count")).await {
        let number = std::str::from_utf8(&record.value).expect("text").parse().expect("a number");
        *times.entry(number).or_default() += 1;
    }
    let lost: Vec<_> = acknowledged.iter().filter(|number| !times.contains_key(number)).collect();
    assert!(lost.is_empty(), "lost {} of {}: {lost:?}", lost.len(), acknowledged.len());
    let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    child.kill();
}
