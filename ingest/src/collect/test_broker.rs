//! An embedded broker for tests, and what is on its topics.

use headroom_ingest_broker::embedded::Embedded;
use headroom_ingest_broker::{Broker, BrokerConfig, Received};
use headroom_proto::topics::Topic;

pub(super) struct TestBroker {
    pub(super) broker: Broker,
    pub(super) folder: tempfile::TempDir,
    embedded: Embedded,
}

impl TestBroker {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("starts");
        let config = BrokerConfig { partitions: 2, request_timeout_ms: 10_000, ..BrokerConfig::default() };
        let broker = Broker::new(embedded.bootstrap_servers(), &config);
        broker.ensure_topics().await.expect("creates the topics");
        Self { broker, folder, embedded }
    }

    /// Everything on a topic, partition by partition.
    pub(super) async fn records(&self, topic: Topic) -> Vec<Received> {
        let mut records = Vec::new();
        for (partition, low, high) in self.broker.ends(topic).await.expect("answers") {
            let count = usize::try_from(high - low).expect("a count");
            records.extend(self.broker.tail(topic, partition, count).await.expect("reads"));
        }
        records
    }

    pub(super) async fn stop(self) -> tempfile::TempDir {
        self.embedded.stop().await;
        self.folder
    }
}
