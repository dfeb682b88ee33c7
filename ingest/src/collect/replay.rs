//! Replays recorded telemetry and its event signals through the topics, at any speed, as if they came in live.
//!
//! Rows travel in rounds: one record a workload, acknowledged before the next round is sent. Each record says how many
//! rows of the file had been read, so after a crash the tail of the topic tells where to go on: nothing is published
//! twice and nothing is missing.

use std::sync::Arc;

use headroom_ingest_broker::{Broker, BrokerError};
use headroom_proto::codec::CodecError;
use headroom_proto::signal::SignalError;
use headroom_proto::status::StageState;
use headroom_proto::{Clock, EventTime};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::csv_signals::{self, CsvSignalsError};
use super::trace::{self, TraceError};
use resume::Resume;
use rows::Rows;
use run::Run;

mod config;
mod handle;
mod resume;
mod round;
mod rows;
mod run;

pub use config::ReplayConfig;
pub use handle::{ReplayHandle, ReplayProgress};
pub(super) use round::signal_record;

/// How far downstream has come, in event time; nothing when it has not begun.
pub type ReplayGate = Arc<dyn Fn() -> Option<EventTime> + Send + Sync>;

/// A replay that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The configuration cannot be used.
    #[error("collect.replay: {0}")]
    Config(String),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The signals cannot be read.
    #[error(transparent)]
    Signals(#[from] CsvSignalsError),
    /// The broker refused or did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A batch could not be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A signal could not be written.
    #[error(transparent)]
    Signal(#[from] SignalError),
}

impl ReplayError {
    /// Is it for the user to mend?
    #[must_use]
    pub fn is_users_fault(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Trace(_) | Self::Signals(_))
    }
}

#[derive(Default)]
struct Counters {
    rows: Counter,
    gaps: Counter,
    dead_letters: Counter,
    signals: Counter,
}

impl Counters {
    fn register(registry: &mut Registry) -> Self {
        let counters = Self::default();
        registry.register("headroom_collect_replay_rows", "Rows published", counters.rows.clone());
        registry.register("headroom_collect_replay_gap_rows", "Rows that mark a gap", counters.gaps.clone());
        registry.register(
            "headroom_collect_replay_dead_letters",
            "Rows that could not be read",
            counters.dead_letters.clone(),
        );
        registry.register("headroom_collect_replay_signals", "Signals published", counters.signals.clone());
        counters
    }
}

/// Replays one trace.
pub struct ReplayService {
    config: ReplayConfig,
    broker: Broker,
    clock: Clock,
    gate: Option<ReplayGate>,
    counters: Counters,
    handle: ReplayHandle,
}

impl std::fmt::Debug for ReplayService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayService").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ReplayService {
    /// Checks the configuration; nothing is read yet.
    ///
    /// # Errors
    /// Every problem of the configuration, in one message.
    pub fn new(
        config: ReplayConfig,
        broker: Broker,
        clock: Clock,
        gate: Option<ReplayGate>,
        registry: &mut Registry,
    ) -> Result<(Self, ReplayHandle), ReplayError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ReplayError::Config(problems.join("; ")));
        }
        let handle = ReplayHandle::new();
        let counters = Counters::register(registry);
        Ok((Self { config, broker, clock, gate, counters, handle: handle.clone() }, handle))
    }

    /// Publishes the trace and its signals; ends when all of it is acknowledged, or soon after `shutdown`.
    ///
    /// # Errors
    /// When a file cannot be read to its end or the broker fails for good. What was acknowledged stays, and the next
    /// run goes on behind it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ReplayError> {
        let handle = self.handle.clone();
        let outcome = self.replay(shutdown).await;
        handle.with(|shared| match &outcome {
            Ok(()) => shared.status.state = StageState::Drained,
            Err(error) => {
                shared.status.state = StageState::Failed;
                shared.status.note = error.to_string();
            }
        });
        outcome
    }

    async fn replay(self, shutdown: CancellationToken) -> Result<(), ReplayError> {
        let file = self.config.file.clone();
        let total = tokio::task::spawn_blocking(move || trace::count_rows(&file));
        let rows_total =
            total.await.map_err(|error| ReplayError::Config(format!("reading was abandoned: {error}")))??;
        let signals = match &self.config.signals {
            Some(path) => csv_signals::read(path)?,
            None => Vec::new(),
        };
        let rows = Rows::open(&self.config.file, &self.config.columns())?;
        let resume = Resume::read(&self.broker, &self.config.source()).await?;
        let fresh = signals.into_iter().filter(|signal| !resume.has_signal(signal)).collect();
        self.handle.with(|shared| {
            shared.rows_total = rows_total;
            shared.status.state = StageState::Running;
            shared.status.note = format!("replaying {}", self.config.file.display());
        });
        let producer = self.broker.producer()?;
        Run::new(self, producer, resume, fresh, shutdown).run_to_end(rows).await
    }
}

#[cfg(test)]
mod tests;
