//! Settings of the broker's clients.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which broker, and how to talk to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// `bootstrap.servers` of a Kafka; none starts the embedded broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_servers: Option<String>,
    /// Where the embedded broker listens; port 0 takes a free one.
    pub embedded_listen: String,
    /// Partitions of the topics that scale; in the embedded broker they have one, since each costs it time.
    pub partitions: i32,
    /// Replicas of each topic; the embedded broker has one.
    pub replication: i32,
    /// How long a producer waits for company before it sends, in milliseconds.
    pub linger_ms: u64,
    /// The largest record, in bytes. The embedded broker takes records of 5 MiB and more but never gives them back.
    pub message_max_bytes: usize,
    /// Bytes that a producer holds before its caller must wait.
    pub queue_max_bytes: usize,
    /// How long a fetch waits for records at the most, in milliseconds. Other requests of the connection wait as well.
    pub fetch_wait_ms: u64,
    /// Bytes that a consumer fetches ahead.
    pub fetch_ahead_bytes: usize,
    /// How long a record may take to be acknowledged, in milliseconds.
    pub delivery_timeout_ms: u64,
    /// How long a request for metadata, offsets or a new topic may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// Further properties of librdkafka, such as `security.protocol`.
    pub properties: BTreeMap<String, String>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            bootstrap_servers: None,
            embedded_listen: "127.0.0.1:0".to_owned(),
            partitions: 4,
            replication: 1,
            linger_ms: 5,
            message_max_bytes: 4 << 20,
            queue_max_bytes: 64 << 20,
            fetch_wait_ms: 100,
            fetch_ahead_bytes: 16 << 20,
            delivery_timeout_ms: 60_000,
            request_timeout_ms: 15_000,
            properties: BTreeMap::new(),
        }
    }
}
