//! An embedded broker for tests, and what is on its topics.

use headroom_ingest_broker::embedded::Embedded;
use headroom_ingest_broker::{Broker, BrokerConfig, Received};
use headroom_proto::topics::Topic;

pub(crate) struct TestBroker {
    pub(crate) broker: Broker,
    pub(crate) folder: tempfile::TempDir,
    embedded: Embedded,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("starts");
        let config =
            BrokerConfig { partitions: 2, fetch_wait_ms: 10, request_timeout_ms: 10_000, ..BrokerConfig::default() };
        let broker = Broker::new(embedded.bootstrap_servers(), &config);
        broker.ensure_topics().await.expect("creates the topics");
        Self { broker, folder, embedded }
    }

    /// Everything on a topic, partition by partition.
    pub(crate) async fn records(&self, topic: Topic) -> Vec<Received> {
        let mut records = Vec::new();
        for (partition, _, _) in self.broker.ends(topic).await.expect("answers") {
            records.extend(self.broker.tail(topic, partition, usize::MAX).await.expect("reads"));
        }
        records
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.embedded.stop().await;
        self.folder
    }
}
