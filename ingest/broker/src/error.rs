//! What can go wrong between us and a broker.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A failure of a broker or of a request to it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A client refused its settings.
    #[error("broker settings: {0}: see broker.properties")]
    Settings(String),
    /// The broker did not answer, or answered with an error.
    #[error("{action} at {servers}: {source}")]
    Kafka {
        /// What was asked.
        action: String,
        /// Of whom.
        servers: String,
        /// The answer.
        source: KafkaError,
    },
    /// A record was not acknowledged.
    #[error("a record of {bytes} bytes for {topic} was not acknowledged: {reason}")]
    NotAcknowledged {
        /// The topic's name.
        topic: &'static str,
        /// The value's size.
        bytes: usize,
        /// What the broker or the client said.
        reason: String,
    },
    /// The embedded broker could not start or has ended.
    #[error("embedded broker: {0}")]
    Embedded(String),
}

impl BrokerError {
    /// May the same request succeed later?
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Embedded(_) => false,
            Self::NotAcknowledged { .. } => true,
            Self::Kafka { source, .. } => !matches!(
                source.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::Authentication
                        | RDKafkaErrorCode::MessageSizeTooLarge
                        | RDKafkaErrorCode::InvalidArgument
                )
            ),
        }
    }
}
