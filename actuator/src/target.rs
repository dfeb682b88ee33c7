//! What has capacity that can be changed.

use async_trait::async_trait;
use headroom_proto::EventTime;

/// A change that is asked of a target.
#[derive(Clone, Debug)]
pub struct ApplyRequest {
    /// Whose capacity.
    pub workload: String,
    /// Units to have from now on.
    pub units: u32,
    /// The same key is the same change: it happens once.
    pub idempotency_key: String,
    /// When it is asked.
    pub at: EventTime,
}

/// What a target reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// Units that serve.
    pub ready: u32,
    /// Units that were asked for, those on their way included.
    pub commanded: u32,
}

/// A target that did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("target {target}: {problem}")]
pub struct TargetError {
    /// The target's name.
    pub target: String,
    /// What went wrong, and how to mend it.
    pub problem: String,
}

/// A system whose capacity can be changed. Changes are idempotent by their key.
#[async_trait]
pub trait Target: Send + Sync {
    /// Its name in records.
    fn name(&self) -> &str;

    /// Asks for a change; it has happened, or was known already, when this returns.
    ///
    /// # Errors
    /// When the target did not take it; asking again with the same key is safe.
    async fn apply(&self, request: &ApplyRequest) -> Result<(), TargetError>;

    /// The state at a time.
    ///
    /// # Errors
    /// When the target cannot be asked.
    async fn observe(&self, workload: &str, at: EventTime) -> Result<TargetState, TargetError>;
}
