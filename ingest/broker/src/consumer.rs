//! Reading: partitions are assigned by the caller, who keeps the positions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use headroom_proto::EventTime;
use headroom_proto::topics::Topic;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::{Broker, BrokerError, Received};

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is kept.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record whose time is not before this; behind the last when there is none.
    At(EventTime),
}

/// Reads the partitions it was assigned.
pub struct Consumer {
    inner: StreamConsumer,
    broker: Broker,
}

impl Consumer {
    pub(crate) fn new(broker: &Broker, group: &str) -> Result<Self, BrokerError> {
        let ahead_kib = (broker.config().fetch_ahead_bytes / 1024).max(1).to_string();
        let mut client = broker.client()?;
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "20")
            .set("fetch.error.backoff.ms", "20")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", ahead_kib)
            .set("fetch.message.max.bytes", "1048576")
            .set("allow.auto.create.topics", "false");
        let inner = client.create().map_err(|e| broker.error("creating a consumer", e))?;
        Ok(Self { inner, broker: broker.clone() })
    }

    /// Replaces what is read.
    ///
    /// # Errors
    /// When the broker cannot tell the offset of a time, or a partition does not exist.
    pub async fn assign(&self, parts: &[(Topic, i32, Start)]) -> Result<(), BrokerError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, start) in parts {
            let offset = match start {
                Start::Earliest => Offset::Beginning,
                Start::Latest => Offset::End,
                Start::Offset(offset) => Offset::Offset(*offset),
                Start::At(time) => Offset::Offset(self.offset_at(*topic, *partition, *time).await?),
            };
            list.add_partition_offset(topic.name(), *partition, offset)
                .map_err(|e| self.broker.error(&format!("assigning {}/{partition}", topic.name()), e))?;
        }
        self.inner.assign(&list).map_err(|e| self.broker.error("assigning partitions", e))
    }

    /// Reads every partition of these topics.
    ///
    /// # Errors
    /// As [`Consumer::assign`], and when the broker does not tell the partitions in time.
    pub async fn assign_all(&self, topics: &[Topic], start: Start) -> Result<(), BrokerError> {
        let mut parts = Vec::new();
        for topic in topics {
            parts.extend(
                self.broker.ends(*topic).await?.into_iter().map(|(partition, _, _)| (*topic, partition, start)),
            );
        }
        self.assign(&parts).await
    }

    /// What has come, as soon as there is something, `max` records at the most; nothing after `wait`.
    ///
    /// # Errors
    /// When the client has failed for good; a broker that is away for a while is waited for.
    pub async fn poll(&self, max: usize, wait: Duration) -> Result<Vec<Received>, BrokerError> {
        let mut received = Vec::new();
        let mut stream = self.inner.stream();
        let Ok(Some(first)) = tokio::time::timeout(wait, stream.next()).await else { return Ok(received) };
        let mut next = Some(first);
        while let Some(outcome) = next.take() {
            match outcome {
                Ok(message) => received.extend(owned(&message)),
                Err(error) if passes(&error) => tracing::debug!(%error, "the broker is away"),
                Err(error) => return Err(self.broker.error("reading", error)),
            }
            if received.len() < max {
                next = stream.next().now_or_never().flatten();
            }
        }
        Ok(received)
    }

    /// Tells the broker how far the caller has come: the offset after the last handled record. Advisory.
    ///
    /// # Errors
    /// When the request cannot be queued.
    pub fn commit(&self, next_offsets: &[(Topic, i32, i64)]) -> Result<(), BrokerError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in next_offsets {
            list.add_partition_offset(topic.name(), *partition, Offset::Offset(*offset))
                .map_err(|e| self.broker.error("committing", e))?;
        }
        self.inner.commit(&list, CommitMode::Async).map_err(|e| self.broker.error("committing", e))
    }

    /// What was committed for every partition of these topics.
    ///
    /// # Errors
    /// When the broker does not answer in time.
    pub async fn committed(&self, topics: &[Topic]) -> Result<Vec<(Topic, i32, Option<i64>)>, BrokerError> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for (partition, _, _) in self.broker.ends(*topic).await? {
                list.add_partition(topic.name(), partition);
            }
        }
        let committed = tokio::task::block_in_place(|| self.inner.committed_offsets(list, self.broker.timeout()))
            .map_err(|e| self.broker.error("reading commits", e))?;
        let mut found = Vec::new();
        for element in committed.elements() {
            let Some(topic) = Topic::from_name(element.topic()) else { continue };
            let offset = if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
            found.push((topic, element.partition(), offset));
        }
        Ok(found)
    }

    /// The offset of the first record that is not older than `time`. Brokers differ past the end: all of their answers
    /// mean the end here.
    async fn offset_at(&self, topic: Topic, partition: i32, time: EventTime) -> Result<i64, BrokerError> {
        let ends: BTreeMap<i32, i64> =
            self.broker.ends(topic).await?.into_iter().map(|(p, _, high)| (p, high)).collect();
        let end = ends.get(&partition).copied().unwrap_or(0);
        let answer = self.broker.asking(move |broker, client| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic.name(), partition, Offset::Offset(time.millis().max(0)))
                .and_then(|()| client.offsets_for_times(list, broker.timeout()))
                .map_err(|e| broker.error(&format!("finding {time} in {}/{partition}", topic.name()), e))
        });
        let found = answer.await?.elements().first().map(|element| element.offset());
        Ok(match found {
            Some(Offset::Offset(offset)) if (0..=end).contains(&offset) => offset,
            _ => end,
        })
    }
}

fn passes(error: &KafkaError) -> bool {
    !matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
        )
    )
}

fn owned(message: &BorrowedMessage<'_>) -> Option<Received> {
    let topic = Topic::from_name(message.topic())?;
    let headers = message.headers().map(|headers| {
        let copy = |value: Option<&[u8]>| value.map(Bytes::copy_from_slice).unwrap_or_default();
        headers.iter().map(|header| (header.key.to_owned(), copy(header.value))).collect()
    });
    Some(Received {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
        headers: headers.unwrap_or_default(),
        time: message.timestamp().to_millis().map(EventTime::from_millis),
    })
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("servers", &self.broker.bootstrap_servers()).finish_non_exhaustive()
    }
}
