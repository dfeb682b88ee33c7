//! One contract for every broker: the embedded one always, Apache Kafka when `HEADROOM_TEST_KAFKA` names its libraries.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "contract/kafka.rs"]
mod kafka;
#[path = "contract/suite.rs"]
mod suite;

use std::time::Duration;

use headroom_ingest_broker::{Broker, BrokerConfig, Record, Start};
use headroom_proto::topics::Topic;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

/// Fast timeouts, so that a broker that is away shows quickly.
fn config() -> BrokerConfig {
    BrokerConfig {
        fetch_wait_ms: 10,
        request_timeout_ms: 10_000,
        delivery_timeout_ms: 20_000,
        ..BrokerConfig::default()
    }
}

#[cfg(feature = "embedded-broker")]
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let embedded =
        headroom_ingest_broker::embedded::Embedded::start("127.0.0.1:0", folder.path()).await.expect("starts");
    suite::keeps_the_contract(&Broker::new(embedded.bootstrap_servers(), &config())).await;
    embedded.stop().await;
}

/// A reader may wait long, so that it need not ask often.
#[cfg(feature = "embedded-broker")]
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_waits_at_the_end_is_answered_when_something_comes() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let embedded =
        headroom_ingest_broker::embedded::Embedded::start("127.0.0.1:0", folder.path()).await.expect("starts");
    let broker = Broker::new(embedded.bootstrap_servers(), &BrokerConfig { fetch_wait_ms: 30_000, ..config() });
    broker.ensure_topics().await.expect("topics");
    let (producer, consumer) = (broker.producer().expect("a producer"), broker.consumer("waits").expect("a consumer"));
    consumer.assign(&[(Topic::Signals, 0, Start::Earliest)]).await.expect("assigns");
    assert!(consumer.poll(1, Duration::from_secs(1)).await.expect("polls").is_empty());
    for value in ["first", "second"] {
        producer.send_all(vec![Record::new(Topic::Signals, value)]).await.expect("acknowledged");
        let read = consumer.poll(1, Duration::from_secs(15)).await.expect("polls");
        assert_eq!(read.first().map(|record| record.value.to_vec()), Some(value.into()));
    }
    embedded.stop().await;
}

/// tansu would remove them all.
#[cfg(feature = "embedded-broker")]
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_removes_no_topic() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let embedded =
        headroom_ingest_broker::embedded::Embedded::start("127.0.0.1:0", folder.path()).await.expect("starts");
    let broker = Broker::new(embedded.bootstrap_servers(), &config());
    broker.ensure_topics().await.expect("topics");
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", embedded.bootstrap_servers()).create().expect("a client");
    let removed = admin.delete_topics(&[Topic::Late.name()], &AdminOptions::new()).await;
    assert!(removed.is_err() || removed.is_ok_and(|topics| topics.iter().all(Result::is_err)));
    let producer = broker.producer().expect("a producer");
    producer.send_all(vec![Record::new(Topic::Late, "still there")]).await.expect("acknowledged");
    embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_kafka_keeps_the_contract() {
    let Some(kafka) = kafka::start_if_installed() else {
        eprintln!("skipped: HEADROOM_TEST_KAFKA is not set; tests/run sets it");
        return;
    };
    let broker = Broker::new(kafka.servers(), &config());
    kafka.child().ready(&broker).await;
    suite::keeps_the_contract(&broker).await;
}

#[cfg(feature = "embedded-broker")]
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_loses_nothing_when_it_is_killed() {
    let folder = tempfile::tempdir().expect("a temp folder");
    suite::survives_kills(|port| kafka::embedded_child(port, folder.path()), &config()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apache_kafka_loses_nothing_when_it_is_killed() {
    let Some(folder) = kafka::formatted_if_installed() else {
        eprintln!("skipped: HEADROOM_TEST_KAFKA is not set; tests/run sets it");
        return;
    };
    suite::survives_kills(|port| folder.child(port), &config()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_named_within_its_timeout() {
    let config = BrokerConfig { request_timeout_ms: 1_000, ..config() };
    let error = Broker::new("127.0.0.1:1", &config).ensure_topics().await.expect_err("nothing listens there");
    assert!(error.to_string().contains("127.0.0.1:1") && error.is_retryable(), "{error}");
}

#[test]
fn snappy_is_refused() {
    let mut config = config();
    config.properties.insert("compression.type".to_owned(), "snappy".to_owned());
    let error = Broker::new("127.0.0.1:1", &config).producer().expect_err("refused");
    assert!(error.to_string().contains("lz4"), "{error}");
}

/// The body of a broker process: this test binary runs itself with a port and a folder in the environment.
#[cfg(feature = "embedded-broker")]
#[tokio::test(flavor = "multi_thread")]
async fn broker_process() {
    let (Ok(listen), Ok(folder)) = (std::env::var("HEADROOM_BROKER_LISTEN"), std::env::var("HEADROOM_BROKER_FOLDER"))
    else {
        return;
    };
    let folder = std::path::Path::new(&folder);
    let _embedded = headroom_ingest_broker::embedded::Embedded::start(&listen, folder).await.expect("starts");
    std::future::pending::<()>().await;
}
