//! Reading: partitions are assigned by the caller, who keeps the positions; which they are, a group may say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use headroom_proto::EventTime;
use headroom_proto::topics::Topic;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::group::GroupContext;
use crate::{Broker, BrokerError, Change, Received};

const LEAVING_WAIT: Duration = Duration::from_secs(1);
/// A member that is silent for so long has its partitions given to others.
const SESSION_TIMEOUT_MS: &str = "10000";

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
    /// There until it is dropped.
    inner: Option<Arc<StreamConsumer<GroupContext>>>,
    broker: Broker,
    /// Came behind records that were handed out before it.
    failed: Mutex<Option<BrokerError>>,
}

impl Consumer {
    pub(crate) fn new(broker: &Broker, group: &str, instance: Option<&str>) -> Result<Self, BrokerError> {
        let ahead_kib = (broker.config().fetch_ahead_bytes / 1024).max(1).to_string();
        let mut client = broker.client()?;
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", broker.config().fetch_wait_ms.to_string())
            .set("fetch.error.backoff.ms", "20")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", ahead_kib)
            .set("fetch.message.max.bytes", "1048576")
            .set("allow.auto.create.topics", "false");
        if !broker.config().properties.contains_key("session.timeout.ms") {
            client.set("session.timeout.ms", SESSION_TIMEOUT_MS);
        }
        if let Some(instance) = instance {
            client.set("group.instance.id", instance);
        }
        let inner =
            client.create_with_context(GroupContext::default()).map_err(|e| broker.error("creating a consumer", e))?;
        Ok(Self { inner: Some(Arc::new(inner)), broker: broker.clone(), failed: Mutex::default() })
    }

    /// Replaces what is read.
    ///
    /// # Errors
    /// When the broker cannot tell the offset of a time, a partition does not exist, or it does not hold an offset.
    pub async fn assign(&self, parts: &[(Topic, i32, Start)]) -> Result<(), BrokerError> {
        self.check_offsets(parts).await?;
        let mut offsets = Vec::with_capacity(parts.len());
        for (topic, partition, start) in parts {
            let offset = match start {
                Start::Earliest => Offset::Beginning,
                Start::Latest => Offset::End,
                Start::Offset(offset) => Offset::Offset(*offset),
                Start::At(time) => Offset::Offset(self.offset_at(*topic, *partition, *time).await?),
            };
            offsets.push((*topic, *partition, offset));
        }
        self.begin_at(&offsets)
    }

    /// Kafka would say so with the first fetch, the embedded broker never.
    async fn check_offsets(&self, parts: &[(Topic, i32, Start)]) -> Result<(), BrokerError> {
        let mut ends = BTreeMap::new();
        for (topic, partition, start) in parts {
            let Start::Offset(offset) = start else { continue };
            if !ends.contains_key(topic) {
                ends.insert(*topic, self.broker.ends(*topic).await?);
            }
            let of_partition = ends.get(topic).into_iter().flatten().find(|(number, _, _)| number == partition);
            if let Some((_, low, high)) = of_partition
                && !(low..=high).contains(&offset)
            {
                let what = format!("offset {offset} of {}/{partition} is outside {low} to {high}", topic.name());
                return Err(BrokerError::OutOfRange { what });
            }
        }
        Ok(())
    }

    pub(crate) fn begin_at(&self, parts: &[(Topic, i32, Offset)]) -> Result<(), BrokerError> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in parts {
            list.add_partition_offset(topic.name(), *partition, *offset)
                .map_err(|e| self.broker.error(&format!("assigning {}/{partition}", topic.name()), e))?;
        }
        self.inner()?.assign(&list).map_err(|e| self.broker.error("assigning partitions", e))
    }

    /// Joins the group: from then on [`Consumer::changes`] says which partitions of these topics to assign.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn join(&self, topics: &[Topic]) -> Result<(), BrokerError> {
        let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        self.inner()?.subscribe(&names).map_err(|e| self.broker.error("joining the group", e))
    }

    /// What the group has decided since the last call. It decides while [`Consumer::poll`] waits.
    ///
    /// # Errors
    /// When the consumer has ended.
    pub fn changes(&self) -> Result<Vec<Change>, BrokerError> {
        Ok(self.inner()?.context().changes())
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
    /// When the client has failed for good, or an offset that was asked for is not kept; a broker that is away for a
    /// while is waited for. Records that came before the error are handed out first.
    pub async fn poll(&self, max: usize, wait: Duration) -> Result<Vec<Received>, BrokerError> {
        if let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let (mut received, deadline) = (Vec::new(), Instant::now() + wait);
        let mut stream = self.inner()?.stream();
        while received.len() < max {
            let next = if received.is_empty() {
                tokio::time::timeout_at(deadline, stream.next()).await.ok().flatten()
            } else {
                stream.next().now_or_never().flatten()
            };
            match next {
                None => break,
                Some(Ok(message)) => received.extend(owned(&message)),
                Some(Err(error)) if passes(&error) => tracing::debug!(%error, "the broker is away"),
                Some(Err(error)) => {
                    let error = self.failure(error);
                    if received.is_empty() {
                        return Err(error);
                    }
                    *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    break;
                }
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
        self.inner()?.commit(&list, CommitMode::Async).map_err(|e| self.broker.error("committing", e))
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
        let (inner, broker) = (Arc::clone(self.inner()?), self.broker.clone());
        let asked = tokio::task::spawn_blocking(move || inner.committed_offsets(list, broker.timeout()));
        let committed = asked
            .await
            .map_err(|error| BrokerError::Embedded(format!("a request was abandoned: {error}")))?
            .map_err(|e| self.broker.error("reading commits", e))?;
        let mut found = Vec::new();
        for element in committed.elements() {
            let Some(topic) = Topic::from_name(element.topic()) else { continue };
            let offset = if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
            found.push((topic, element.partition(), offset));
        }
        Ok(found)
    }

    /// The offset of the first record that is not older than `time`, or the end. The embedded broker answers with the
    /// first offset when there is no such record: that answer is believed only if the record is young enough.
    async fn offset_at(&self, topic: Topic, partition: i32, time: EventTime) -> Result<i64, BrokerError> {
        let ends = self.broker.ends(topic).await?;
        let (low, end) =
            ends.into_iter().find(|(p, _, _)| *p == partition).map_or((0, 0), |(_, low, high)| (low, high));
        let answer = self.broker.asking(move |broker, client| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic.name(), partition, Offset::Offset(time.millis().max(0)))
                .and_then(|()| client.offsets_for_times(list, broker.timeout()))
                .map_err(|e| broker.error(&format!("finding {time} in {}/{partition}", topic.name()), e))
        });
        let found = answer.await?.elements().first().map(|element| element.offset());
        let Some(Offset::Offset(offset)) =
            found.filter(|found| matches!(found, Offset::Offset(o) if (low..end).contains(o)))
        else {
            return Ok(end);
        };
        if offset > low {
            return Ok(offset);
        }
        let first = self.broker.read(topic, partition, offset..offset + 1).await?;
        let is_young =
            first.first().and_then(|record| record.time).is_some_and(|first| first.millis() >= time.millis());
        Ok(if is_young { offset } else { end })
    }

    fn inner(&self) -> Result<&Arc<StreamConsumer<GroupContext>>, BrokerError> {
        self.inner.as_ref().ok_or_else(|| BrokerError::Embedded("the consumer has ended".to_owned()))
    }

    fn failure(&self, error: KafkaError) -> BrokerError {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            let what = format!("an offset at {} is not kept any more", self.broker.bootstrap_servers());
            return BrokerError::OutOfRange { what };
        }
        self.broker.error("reading", error)
    }
}

/// Leaving waits for a broker that may be gone: its user's time is bounded.
impl Drop for Consumer {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let (sender, left) = std::sync::mpsc::channel::<()>();
        let leaving = std::thread::Builder::new().name("leaving-broker".to_owned());
        let spawned = leaving.spawn(move || {
            drop(inner);
            drop(sender);
        });
        if spawned.is_ok() {
            // The channel closes when it has left.
            left.recv_timeout(LEAVING_WAIT).ok();
        }
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
                | RDKafkaErrorCode::AutoOffsetReset
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
