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
    /// A record is larger than the broker takes: it will never be taken.
    #[error(
        "a record of {bytes} bytes for {topic} is too large: raise broker.message_max_bytes and the broker's limit"
    )]
    TooLarge {
        /// The topic's name.
        topic: &'static str,
        /// The value's size.
        bytes: usize,
    },
    /// What is to be read is not kept any more, or not yet written.
    #[error("{what}: the broker has lost or deleted records that were not read yet")]
    OutOfRange {
        /// Which offset.
        what: String,
    },
    /// The embedded broker cannot have its address.
    #[error("cannot listen on {listen}: {problem}: choose another broker.embedded_listen")]
    Listen {
        /// The address.
        listen: String,
        /// What the system said.
        problem: String,
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
            Self::Settings(_)
            | Self::Embedded(_)
            | Self::Listen { .. }
            | Self::TooLarge { .. }
            | Self::OutOfRange { .. } => false,
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

    /// Can whoever runs this mend it by other settings?
    #[must_use]
    pub fn is_users_fault(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Listen { .. } | Self::TooLarge { .. })
    }

    /// Is a partition without a leader for a moment, as after its creation?
    pub(crate) fn is_settling(&self) -> bool {
        let Self::Kafka { source, .. } = self else { return false };
        matches!(
            source.rdkafka_error_code(),
            Some(RDKafkaErrorCode::LeaderNotAvailable | RDKafkaErrorCode::NotLeaderForPartition)
        )
    }
}
