//! What can go wrong in the forecaster.

use std::path::PathBuf;

use headroom_ingest_broker::BrokerError;
use headroom_models::ModelError;

/// A failure that ends the forecaster, or keeps it from starting. What is durable stays so: it may be started again.
#[derive(Debug, thiserror::Error)]
pub enum ForecasterError {
    /// Settings out of range.
    #[error("forecaster settings: {0}")]
    Config(String),
    /// The engine refuses its settings.
    #[error("forecaster engine: {0}")]
    Engine(#[from] ModelError),
    /// The broker failed.
    #[error("forecaster: {0}")]
    Broker(#[from] BrokerError),
    /// The state cannot be written.
    #[error("cannot write the forecaster's state to {}: {problem}; check free space and permissions", path.display())]
    Snapshot {
        /// The file or folder.
        path: PathBuf,
        /// What the system, or the encoder, said.
        problem: String,
    },
    /// A task of the forecaster ended early: a defect.
    #[error("forecaster: {0} stopped unexpectedly; its log line above says why")]
    Stopped(&'static str),
}
