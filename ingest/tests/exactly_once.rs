//! Processors that are killed again and again: the tables hold exactly what one batch query over the same input gives.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "exactly_once/check.rs"]
mod check;
#[path = "exactly_once/input.rs"]
mod input;
#[path = "../broker/tests/contract/kafka.rs"]
#[allow(dead_code, unused_imports, unexpected_cfgs, reason = "the broker's own tests use the rest")]
mod kafka;
#[path = "exactly_once/processor.rs"]
mod processor;
#[path = "exactly_once/s3.rs"]
mod s3;

use std::time::Duration;

use headroom_ingest_broker::embedded::Embedded;
use headroom_ingest_broker::{Broker, BrokerConfig};

use crate::input::Input;
use crate::processor::{Fatal, Processor, Role};

const KILLS: usize = 100;

/// Not a test: a processor of its own, when it is told to be one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor() {
    processor::run_if_told().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_over_the_embedded_broker() {
    alone(KILLS).await;
}

/// The environment of a process cannot be changed from within: the test runs itself again, with the server's address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_with_checkpoints_and_lake_in_s3_storage() {
    if std::env::var_os("HEADROOM_PROCESSOR_BUCKET").is_some() {
        return alone(KILLS / 4).await;
    }
    let Some(server) = s3::Server::start() else {
        eprintln!("skipped: HEADROOM_TEST_S3 names no server; tests/run sets it");
        return;
    };
    let mut again = std::process::Command::new(std::env::current_exe().expect("this binary"));
    again.args(["--exact", "alone_with_checkpoints_and_lake_in_s3_storage", "--nocapture"]);
    again.envs(server.environment().await);
    let status = tokio::task::spawn_blocking(move || again.status()).await.expect("runs").expect("starts");
    assert!(status.success(), "{status}");
}

async fn alone(kills: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("starts");
    let config = BrokerConfig { partitions: 2, fetch_wait_ms: 10, ..BrokerConfig::default() };
    let broker = Broker::new(embedded.bootstrap_servers(), &config);
    broker.ensure_topics().await.expect("creates the topics");

    let input = Input::start(&broker, 2, false);
    for kill in 0..kills {
        let fatal = Fatal::nth(kill);
        Processor::start(&broker, folder.path(), Role::Alone, fatal).ends_by(fatal, kill).await;
    }
    let last = Processor::start(&broker, folder.path(), Role::Alone, Fatal::AtRandom);
    let sent = input.end().await;
    check::tables_hold(&broker, folder.path(), &sent).await;
    last.kill();
    embedded.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_to_four_in_a_group_over_apache_kafka() {
    let Some(kafka) = kafka::start_if_installed() else {
        eprintln!("skipped: HEADROOM_TEST_KAFKA names no folder with Apache Kafka; tests/run sets it");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let properties = [("session.timeout.ms", "1500"), ("heartbeat.interval.ms", "200")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = BrokerConfig { partitions: 16, properties, ..BrokerConfig::default() };
    let broker = Broker::new(kafka.servers(), &config);
    kafka.child().ready(&broker).await;

    let input = Input::start(&broker, 16, true);
    let store = processor::store(&broker, folder.path()).await;
    let start = |member: usize, fatal| {
        // Every other member has a name and comes back under it; the rest are strangers each time.
        let role = if member.is_multiple_of(2) { Role::Named(member) } else { Role::Stranger };
        Processor::start(&broker, folder.path(), role, fatal)
    };
    let mut members: Vec<Option<Processor>> = vec![Some(start(0, Fatal::AtRandom)), Some(start(1, Fatal::AtRandom))];
    for kill in 0..KILLS {
        // Two members at first; later four; in the end three, after one has left in good order.
        if kill == KILLS / 3 {
            members.extend([Some(start(2, Fatal::AtRandom)), Some(start(3, Fatal::AtRandom))]);
        }
        if kill == KILLS * 2 / 3
            && let Some(leaving) = members.pop().flatten()
        {
            leaving.leave().await;
        }
        let fatal = Fatal::nth(kill);
        let member = kill % members.len();
        if let Some(running) = members[member].take() {
            running.kill();
        }
        let running = start(member, fatal);
        members[member] = match fatal {
            // It lives until it is its turn again.
            Fatal::AtRandom => {
                tokio::time::sleep(Duration::from_millis(100 + 37 * u64::try_from(kill % 20).expect("small"))).await;
                Some(running)
            }
            Fatal::At(..) => {
                running.ends_by(fatal, kill).await;
                Some(start(member, Fatal::AtRandom))
            }
        };
    }
    let sent = input.end().await;
    check::tables_hold(&broker, folder.path(), &sent).await;
    members.into_iter().flatten().for_each(Processor::kill);
    store.abort();
}
