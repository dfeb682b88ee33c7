//! Sending: idempotent, acknowledged by all replicas, with a bounded queue.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};

use crate::{Broker, BrokerError, Record};

const QUEUE_FULL_WAIT: Duration = Duration::from_millis(5);

/// Sends records; cheap to clone, each clone shares the queue.
#[derive(Clone)]
pub struct Producer {
    inner: FutureProducer,
    broker: Broker,
}

/// Resolves to the record's offset once all replicas have it.
pub struct Delivery {
    topic: &'static str,
    bytes: usize,
    inner: DeliveryFuture,
}

impl Producer {
    pub(crate) fn new(broker: &Broker) -> Result<Self, BrokerError> {
        let config = broker.config();
        let mut client = broker.client()?;
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", config.linger_ms.to_string())
            .set("queue.buffering.max.kbytes", (config.queue_max_bytes / 1024).max(1).to_string())
            .set("batch.size", "1000000")
            .set("message.timeout.ms", config.delivery_timeout_ms.to_string());
        if !config.properties.contains_key("compression.type") {
            client.set("compression.type", "none");
        }
        let inner = client.create().map_err(|e| broker.error("creating a producer", e))?;
        Ok(Self { inner, broker: broker.clone() })
    }

    /// Queues a record, waiting while the queue is full.
    ///
    /// # Errors
    /// When the record is too large or the client has failed for good.
    pub async fn send(&self, record: Record) -> Result<Delivery, BrokerError> {
        let (topic, bytes) = (record.topic.name(), record.value.len());
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value.as_ref()) });
        }
        let mut outgoing: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(topic).payload(record.value.as_ref()).headers(headers);
        outgoing.key = record.key.as_deref();
        outgoing.partition = record.partition;
        outgoing.timestamp = record.time.map(|time| time.millis());
        loop {
            match self.inner.send_result(outgoing) {
                Ok(inner) => return Ok(Delivery { topic, bytes, inner }),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    outgoing = returned;
                    tokio::time::sleep(QUEUE_FULL_WAIT).await;
                }
                Err((error, _)) => {
                    return Err(refusal(topic, bytes, &error));
                }
            }
        }
    }

    /// Sends all records; every one is acknowledged when it returns.
    ///
    /// # Errors
    /// The first that was not acknowledged; others may have been.
    pub async fn send_all(&self, records: Vec<Record>) -> Result<(), BrokerError> {
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            deliveries.push(self.send(record).await?);
        }
        for delivery in deliveries {
            delivery.await?;
        }
        Ok(())
    }

    /// Waits until everything that was queued is acknowledged or has failed.
    ///
    /// # Errors
    /// When that takes longer than the delivery timeout.
    pub async fn flush(&self) -> Result<(), BrokerError> {
        let (inner, broker) = (self.inner.clone(), self.broker.clone());
        let timeout = Duration::from_millis(broker.config().delivery_timeout_ms);
        let flushed = tokio::task::spawn_blocking(move || inner.flush(timeout));
        let flushed =
            flushed.await.map_err(|error| BrokerError::Embedded(format!("a flush was abandoned: {error}")))?;
        flushed.map_err(|e| self.broker.error("flushing a producer", e))
    }
}

impl Future for Delivery {
    type Output = Result<i64, BrokerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (topic, bytes) = (self.topic, self.bytes);
        Pin::new(&mut self.inner).poll(context).map(|outcome| match outcome {
            Ok(Ok(delivery)) => Ok(delivery.offset),
            Ok(Err((error, _))) => Err(refusal(topic, bytes, &error)),
            Err(_) => {
                let reason = "the producer has ended".to_owned();
                Err(BrokerError::NotAcknowledged { topic, bytes, reason })
            }
        })
    }
}

fn refusal(topic: &'static str, bytes: usize, error: &KafkaError) -> BrokerError {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
        return BrokerError::TooLarge { topic, bytes };
    }
    BrokerError::NotAcknowledged { topic, bytes, reason: error.to_string() }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("servers", &self.broker.bootstrap_servers()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("topic", &self.topic).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
