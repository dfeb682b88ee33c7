//! Settings for clients, and questions to the broker.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headroom_proto::topics::Topic;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;

use crate::{BrokerConfig, BrokerError, Consumer, Producer, Received};

const TAIL_WAIT: Duration = Duration::from_millis(500);
const TAIL_RECORDS: usize = 10_000;
const SETTLING_WAIT: Duration = Duration::from_millis(50);

/// A Kafka, by its settings; cheap to clone.
#[derive(Clone)]
pub struct Broker {
    servers: Arc<str>,
    config: Arc<BrokerConfig>,
    /// Asks for metadata and offsets; connected by the first question.
    asking: Arc<OnceLock<BaseConsumer>>,
}

impl Broker {
    /// Settings for clients of these servers; nothing is connected yet.
    #[must_use]
    pub fn new(bootstrap_servers: &str, config: &BrokerConfig) -> Self {
        Self { servers: bootstrap_servers.into(), config: Arc::new(config.clone()), asking: Arc::default() }
    }

    /// `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.servers
    }

    /// Creates the topics that are missing, and waits until they can be used.
    ///
    /// # Errors
    /// When the broker does not answer in time or refuses.
    pub async fn ensure_topics(&self) -> Result<(), BrokerError> {
        let missing = self.missing_topics().await?;
        if missing.is_empty() {
            return Ok(());
        }
        self.create(&missing).await?;
        // Kafka answers before its brokers have heard of them.
        let deadline = Instant::now() + self.timeout();
        while !self.missing_topics().await?.is_empty() {
            if Instant::now() > deadline {
                let timed_out = KafkaError::Global(RDKafkaErrorCode::OperationTimedOut);
                return Err(self.error("waiting for the new topics", timed_out));
            }
            tokio::time::sleep(SETTLING_WAIT).await;
        }
        Ok(())
    }

    async fn missing_topics(&self) -> Result<Vec<Topic>, BrokerError> {
        let known = self.asking(topics_of).await?;
        Ok(Topic::ALL.into_iter().filter(|topic| !known.iter().any(|known| known == topic.name())).collect())
    }

    async fn create(&self, topics: &[Topic]) -> Result<(), BrokerError> {
        let admin: AdminClient<DefaultClientContext> = self.client()?.create().map_err(|e| self.error("admin", e))?;
        let new = |topic: &Topic| {
            let partitions = if topic.is_partitioned() { self.config.partitions } else { 1 };
            NewTopic::new(topic.name(), partitions, TopicReplication::Fixed(self.config.replication))
                .set("retention.ms", "-1")
        };
        let topics: Vec<NewTopic<'_>> = topics.iter().map(new).collect();
        let options = AdminOptions::new().operation_timeout(Some(self.timeout())).request_timeout(Some(self.timeout()));
        let answers = admin.create_topics(&topics, &options).await.map_err(|e| self.error("creating the topics", e))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(self.error(&format!("creating topic {topic}"), KafkaError::AdminOp(code)));
                }
            }
        }
        Ok(())
    }

    /// A producer of its own connection.
    ///
    /// # Errors
    /// When the settings are refused.
    pub fn producer(&self) -> Result<Producer, BrokerError> {
        Producer::new(self)
    }

    /// A consumer of its own connection; `group` names its advisory commits.
    ///
    /// # Errors
    /// When the settings are refused.
    pub fn consumer(&self, group: &str) -> Result<Consumer, BrokerError> {
        Consumer::new(self, group, None)
    }

    /// A consumer that shares the partitions of its topics with the other members of `group`. One with a name of its
    /// own, an `instance`, has them again at once when it comes back within the session timeout.
    ///
    /// # Errors
    /// When the settings are refused.
    pub fn member(&self, group: &str, instance: Option<&str>) -> Result<Consumer, BrokerError> {
        Consumer::new(self, group, instance)
    }

    /// For each partition of a topic: its number, its first offset, and the offset after its last record.
    ///
    /// # Errors
    /// When the topic does not exist, or the broker does not answer in time.
    pub async fn ends(&self, topic: Topic) -> Result<Vec<(i32, i64, i64)>, BrokerError> {
        let deadline = Instant::now() + self.timeout();
        loop {
            match self.asking(move |broker, client| ends_of(broker, client, topic)).await {
                Err(error) if error.is_settling() && Instant::now() < deadline => {
                    tokio::time::sleep(SETTLING_WAIT).await;
                }
                answer => return answer,
            }
        }
    }

    /// The last `n` records of a partition, oldest first.
    ///
    /// # Errors
    /// When the broker does not answer in time.
    pub async fn tail(&self, topic: Topic, partition: i32, n: usize) -> Result<Vec<Received>, BrokerError> {
        let ends = self.ends(topic).await?;
        let Some((_, low, high)) = ends.into_iter().find(|(number, _, _)| *number == partition) else {
            return Ok(Vec::new());
        };
        let from = low.max(high.saturating_sub(i64::try_from(n).unwrap_or(i64::MAX)));
        self.read(topic, partition, from..high).await
    }

    /// The records of a range of offsets, all of which the partition must hold.
    ///
    /// # Errors
    /// When the broker gives nothing for as long as a question may take.
    pub async fn read(&self, topic: Topic, partition: i32, offsets: Range<i64>) -> Result<Vec<Received>, BrokerError> {
        let mut records = Vec::new();
        if offsets.is_empty() {
            return Ok(records);
        }
        let consumer = self.consumer("headroom-tail")?;
        consumer.begin_at(&[(topic, partition, Offset::Offset(offsets.start))])?;
        let mut progress = Instant::now();
        while records.last().is_none_or(|last: &Received| last.offset + 1 < offsets.end) {
            let more = consumer.poll(TAIL_RECORDS, TAIL_WAIT).await?;
            if !more.is_empty() {
                progress = Instant::now();
            } else if progress.elapsed() > self.timeout() {
                let timed_out = KafkaError::Global(RDKafkaErrorCode::OperationTimedOut);
                return Err(self.error(&format!("reading {}/{partition}", topic.name()), timed_out));
            }
            records.extend(more);
        }
        records.retain(|record| offsets.contains(&record.offset));
        Ok(records)
    }

    /// Asks on a thread that may block.
    pub(crate) async fn asking<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Broker, &BaseConsumer) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let broker = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            if broker.asking.get().is_none() {
                let created: Result<BaseConsumer, _> = broker.client()?.set("group.id", "headroom-asking").create();
                let client = created.map_err(|e| broker.error("connecting", e))?;
                broker.asking.get_or_init(|| client);
            }
            match broker.asking.get() {
                Some(client) => question(&broker, client),
                None => Err(BrokerError::Embedded("no client to ask with".to_owned())),
            }
        });
        asked.await.map_err(|error| BrokerError::Embedded(format!("a request was abandoned: {error}")))?
    }

    pub(crate) fn client(&self) -> Result<ClientConfig, BrokerError> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &*self.servers)
            .set("client.id", "headroom")
            .set("message.max.bytes", self.config.message_max_bytes.to_string())
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &self.config.properties {
            if name == "compression.type" && value == "snappy" {
                return Err(BrokerError::Settings(
                    "compression.type snappy stops the embedded broker: use lz4, or none".to_owned(),
                ));
            }
            client.set(name, value);
        }
        Ok(client)
    }

    pub(crate) fn config(&self) -> &BrokerConfig {
        &self.config
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.config.request_timeout_ms)
    }

    pub(crate) fn error(&self, action: &str, source: KafkaError) -> BrokerError {
        if let KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) = source {
            return BrokerError::Settings(source.to_string());
        }
        BrokerError::Kafka { action: action.to_owned(), servers: self.servers.to_string(), source }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// The names of all topics: the embedded broker complains in the log of those that are made twice.
fn topics_of(broker: &Broker, client: &BaseConsumer) -> Result<Vec<String>, BrokerError> {
    let metadata =
        client.fetch_metadata(None, broker.timeout()).map_err(|e| broker.error("reading the names of topics", e))?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}

fn ends_of(broker: &Broker, client: &BaseConsumer, topic: Topic) -> Result<Vec<(i32, i64, i64)>, BrokerError> {
    let name = topic.name();
    let metadata = client
        .fetch_metadata(Some(name), broker.timeout())
        .map_err(|e| broker.error(&format!("reading the partitions of {name}"), e))?;
    if let Some(error) = metadata.topics().iter().find_map(|topic| topic.error()) {
        let code = RDKafkaErrorCode::from(error);
        return Err(broker.error(&format!("reading the partitions of {name}"), KafkaError::MetadataFetch(code)));
    }
    let mut ends = Vec::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (low, high) = client
            .fetch_watermarks(name, partition.id(), broker.timeout())
            .map_err(|e| broker.error(&format!("reading the ends of {name}/{}", partition.id()), e))?;
        ends.push((partition.id(), low, high));
    }
    ends.sort_unstable();
    Ok(ends)
}
