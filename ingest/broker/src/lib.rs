//! The only user of Kafka clients: producer, consumer and admin over librdkafka, and an embedded broker for machines
//! with nothing installed.
//!
//! Producers are idempotent and wait for all replicas. Consumers are assigned their partitions, by the caller or by their
//! group, since each stage keeps its own positions; the offsets that are committed to the broker are advisory. No guarantee rests on transactions.

mod client;
mod config;
mod consumer;
#[cfg(feature = "embedded-broker")]
pub mod embedded;
mod error;
mod group;
mod producer;
mod record;

pub use client::Broker;
pub use config::BrokerConfig;
pub use consumer::{Consumer, Start};
pub use error::BrokerError;
pub use group::Change;
pub use producer::{Delivery, Producer};
pub use record::{Received, Record};
