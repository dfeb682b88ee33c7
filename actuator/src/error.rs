//! Why the actuator stops.

use headroom_actuator_decide::audit::BrokenChain;
use headroom_actuator_decide::policy::PolicyError;
use headroom_ingest_broker::BrokerError;

use crate::TargetError;

/// A failure that ends the actuator.
#[derive(Debug, thiserror::Error)]
pub enum ActuatorError {
    /// The broker failed for good.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy file cannot be read.
    #[error("policy file {path}: {problem}")]
    PolicyFile {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The record of what was done has been changed.
    #[error("the record of actions does not hold: {0}; nothing is done on such a record")]
    Chain(#[from] BrokenChain),
    /// A record of what was done cannot be read.
    #[error(
        "the record of actions does not hold: {origin} cannot be read: {problem}; nothing is done on such a record"
    )]
    Unreadable {
        /// Where it stands: `<topic>/<partition>/<offset>`.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// Another actuator acts now.
    #[error("{by} acts now")]
    Succeeded {
        /// Its name on the record.
        by: String,
    },
    /// The topics do not hold what was signed.
    #[error(
        "the record of actions does not hold: {0}; nothing is done on such a record: `headroom audit verify` on an \
             earlier export tells what was changed"
    )]
    Log(String),
    /// The key that signs checkpoints cannot be used.
    #[error("signing key {path}: {problem}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A setting is out of range.
    #[error("settings: {0}")]
    Config(String),
}
