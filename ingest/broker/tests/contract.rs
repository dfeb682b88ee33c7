//! One contract for every broker: the embedded one always, Apache Kafka when `HEADROOM_TEST_KAFKA` names its libraries.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "contract/kafka.rs"]
mod kafka;
#[path = "contract/suite.rs"]
mod suite;

use headroom_ingest_broker::{Broker, BrokerConfig};

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
