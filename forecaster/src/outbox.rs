//! Forecasts on their way to the broker: many at a time, acknowledged in order.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use headroom_ingest_broker::{BrokerError, Delivery, Producer, Record};
use headroom_proto::topics::Topic;
use headroom_proto::v1::Forecast;
use headroom_proto::{EventTime, headers};
use prost::Message;

/// The queue of forecasts that are sent and not yet acknowledged.
#[derive(Debug)]
pub(crate) struct Outbox {
    producer: Producer,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    forecast: Arc<Forecast>,
    handled_us: Option<i64>,
}

/// A forecast that is durable, and so is every one sent before it.
#[derive(Debug)]
pub(crate) struct Acked {
    pub(crate) forecast: Arc<Forecast>,
    /// When it is the last of its batch: the event time that has been handled.
    pub(crate) handled_us: Option<i64>,
}

impl Outbox {
    pub(crate) fn new(producer: Producer) -> Self {
        Self { producer, waiting: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sends records that must be durable before any later forecast.
    pub(crate) async fn send_first(&self, records: Vec<Record>) -> Result<(), BrokerError> {
        if records.is_empty() { Ok(()) } else { self.producer.send_all(records).await }
    }

    /// Queues a forecast.
    pub(crate) async fn send(&mut self, forecast: Forecast) -> Result<(), BrokerError> {
        let record = message(Topic::Forecasts, "Forecast", &forecast, &forecast.workload, forecast.origin_us);
        let delivery = self.producer.send(record).await?;
        self.waiting.push_back(Waiting { delivery, forecast: Arc::new(forecast), handled_us: None });
        Ok(())
    }

    /// Notes that everything up to `handled_us` is durable with the last forecast that waits. False when none does.
    pub(crate) fn mark(&mut self, handled_us: i64) -> bool {
        let Some(last) = self.waiting.back_mut() else { return false };
        last.handled_us = Some(handled_us);
        true
    }

    /// The next acknowledgement; never when none is awaited. Loses nothing when it is dropped.
    pub(crate) async fn acked(&mut self) -> Result<Acked, BrokerError> {
        let Some(first) = self.waiting.front_mut() else { return pending().await };
        (&mut first.delivery).await?;
        match self.waiting.pop_front() {
            Some(Waiting { forecast, handled_us, .. }) => Ok(Acked { forecast, handled_us }),
            None => pending().await,
        }
    }
}

/// A protobuf record of ours.
pub(crate) fn message(topic: Topic, name: &'static str, body: &impl Message, workload: &str, at_us: i64) -> Record {
    Record::new(topic, body.encode_to_vec())
        .key(workload.to_owned())
        .header(headers::MESSAGE, name)
        .time(EventTime::from_micros(at_us))
}
