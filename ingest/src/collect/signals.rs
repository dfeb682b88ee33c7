//! The entry for event signals: CloudEvents over HTTP and gRPC, checked, and published before the answer is given.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use cloudevents::{AttributesReader, Event};
use headroom_ingest_broker::{Broker, BrokerError, Producer, Record};
use headroom_proto::signal::{SignalError, from_event};
use headroom_proto::v1::Signal;
use headroom_proto::v1::signal_service_server::SignalServiceServer;
use headroom_proto::{Clock, EventTime};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

use super::dead_letter;
use super::replay::signal_record;
use listing::Listing;

mod grpc;
mod http;
mod listing;

/// Limits of the entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignalEntryConfig {
    /// The largest request, in bytes.
    pub max_request_bytes: usize,
    /// The most events in one batch.
    pub max_batch_events: usize,
    /// How long the broker may take to acknowledge before the sender is told to try again, in milliseconds.
    pub acknowledge_timeout_ms: u64,
}

impl Default for SignalEntryConfig {
    fn default() -> Self {
        Self { max_request_bytes: 1 << 20, max_batch_events: 1_000, acknowledge_timeout_ms: 10_000 }
    }
}

/// Why a signal was not taken.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    /// The sender's mistake.
    #[error("{0}")]
    Invalid(SignalError),
    /// More events than a batch may have.
    #[error("a batch of {found} events: send at most {most} at once")]
    TooMany { found: usize, most: usize },
    /// The broker did not acknowledge.
    #[error("the broker did not acknowledge: {0}")]
    Away(String),
    /// It cannot be written, which is our mistake.
    #[error("{0}")]
    Unwritable(String),
}

impl From<BrokerError> for EntryError {
    fn from(error: BrokerError) -> Self {
        Self::Away(error.to_string())
    }
}

/// What the sender is told of a signal that was taken.
#[derive(Clone, Debug, Serialize)]
struct Accepted {
    signal_id: String,
    revision: u64,
}

/// A signal as it came in: who sent it, and the bytes that are kept should it be wrong.
struct Incoming {
    signal: Result<(Signal, String), SignalError>,
    bytes: Bytes,
    origin: &'static str,
}

#[derive(Default)]
struct Counters {
    accepted: Counter,
    invalid: Counter,
    failed: Counter,
}

impl Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register("headroom_collect_signals_accepted", "Signals acknowledged", counters.accepted.clone());
        registry.register(
            "headroom_collect_signals_invalid",
            "Signals sent to the dead letters",
            counters.invalid.clone(),
        );
        registry.register(
            "headroom_collect_signals_failed",
            "Signals that the broker did not acknowledge",
            counters.failed.clone(),
        );
        counters
    }
}

struct Inner {
    config: SignalEntryConfig,
    producer: Producer,
    clock: Clock,
    counters: Counters,
    listing: Listing,
}

/// Takes event signals; cheap to clone.
#[derive(Clone)]
pub struct SignalEntry {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for SignalEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalEntry").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl SignalEntry {
    /// An entry that publishes to this broker.
    ///
    /// # Errors
    /// When the broker's settings are refused.
    pub fn new(
        config: SignalEntryConfig,
        broker: Broker,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Self, BrokerError> {
        let (producer, listing) = (broker.producer()?, Listing::new(broker));
        Ok(Self { inner: Arc::new(Inner { config, producer, clock, counters: Counters::register(registry), listing }) })
    }

    /// `POST /v1/signals` for one CloudEvent (structured or binary) or a batch of them, `GET /v1/signals` for what is
    /// known.
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// The gRPC service `headroom.v1.SignalService`.
    #[must_use]
    pub fn grpc(&self) -> SignalServiceServer<Self> {
        SignalServiceServer::new(self.clone()).max_decoding_message_size(self.inner.config.max_request_bytes)
    }

    /// Checks all, then publishes all: either every signal is taken, or none is and the wrong ones are kept as dead
    /// letters.
    async fn accept(&self, incoming: Vec<Incoming>) -> Result<Vec<Accepted>, EntryError> {
        let inner = &self.inner;
        if incoming.len() > inner.config.max_batch_events {
            return Err(EntryError::TooMany { found: incoming.len(), most: inner.config.max_batch_events });
        }
        let now = inner.clock.now();
        let (mut records, mut accepted, mut letters, mut first_error) = (Vec::new(), Vec::new(), Vec::new(), None);
        for Incoming { signal, bytes, origin } in incoming {
            match signal {
                Ok((signal, source)) => {
                    let record = signal_record(&signal, &source, now)
                        .map_err(|error| EntryError::Unwritable(error.to_string()))?;
                    records.push(record);
                    accepted.push(Accepted { signal_id: signal.signal_id, revision: signal.revision });
                }
                Err(error) => {
                    letters.push(dead_letter::record(bytes, &error.to_string(), origin, now));
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error {
            inner.counters.invalid.inc_by(letters.len() as u64);
            self.send(letters).await?;
            return Err(EntryError::Invalid(error));
        }
        let count = records.len() as u64;
        match self.send(records).await {
            Ok(()) => inner.counters.accepted.inc_by(count),
            Err(error) => {
                inner.counters.failed.inc_by(count);
                return Err(error);
            }
        };
        Ok(accepted)
    }

    async fn send(&self, records: Vec<Record>) -> Result<(), EntryError> {
        let limit = Duration::from_millis(self.inner.config.acknowledge_timeout_ms);
        match tokio::time::timeout(limit, self.inner.producer.send_all(records)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(EntryError::Away(format!("no answer within {} ms", limit.as_millis()))),
        }
    }

    fn now(&self) -> EventTime {
        self.inner.clock.now()
    }
}

/// The signal and its source, from one structured CloudEvent.
fn parse_structured(json: &[u8], now: EventTime) -> Result<(Signal, String), SignalError> {
    let event: Event = serde_json::from_slice(json).map_err(|error| SignalError::NotCloudEvent(error.to_string()))?;
    Ok((from_event(&event, now)?, event.source().to_string()))
}

#[cfg(test)]
mod tests;
