//! Replays recorded telemetry and its event signals through the topics, at any speed, as if they came in live.
//!
//! Rows travel in rounds: one record a workload, acknowledged before the next round is sent. Each record says how many
//! rows of the file had been read, so after a crash the tail of the topic tells where to go on: nothing is published
//! twice and nothing is missing.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headroom_ingest_broker::{Broker, BrokerError, Producer};
use headroom_proto::codec::CodecError;
use headroom_proto::signal::SignalError;
use headroom_proto::status::{StageState, StageStatus};
use headroom_proto::v1::Signal;
use headroom_proto::{Clock, EventTime, WorkloadId};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::csv_signals::{self, CsvSignalsError};
use super::dead_letter;
use super::trace::{self, Entry, Row, Sample, TraceError};
use resume::Resume;
use round::{Round, end_record};
use rows::Rows;

mod config;
mod resume;
mod round;
mod rows;

pub use config::ReplayConfig;
pub(super) use round::signal_record;

/// How far downstream has come, in event time; nothing when it has not begun.
pub type ReplayGate = Arc<dyn Fn() -> Option<EventTime> + Send + Sync>;

/// How often a closed gate is looked at.
const GATE_POLL: Duration = Duration::from_millis(10);

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

/// How far a replay has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Rows of the file that have been dealt with.
    pub rows_done: u64,
    /// Rows of the file.
    pub rows_total: u64,
    /// Telemetry up to here is on the topic.
    pub event_time: Option<EventTime>,
}

#[derive(Debug, Default)]
struct Shared {
    status: StageStatus,
    rows_done: u64,
    rows_total: u64,
}

/// Watches a replay.
#[derive(Clone, Debug)]
pub struct ReplayHandle {
    shared: Arc<Mutex<Shared>>,
}

impl ReplayHandle {
    /// What the stage says of itself.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        self.with(|shared| shared.status.clone())
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> ReplayProgress {
        self.with(|shared| ReplayProgress {
            rows_done: shared.rows_done,
            rows_total: shared.rows_total,
            event_time: shared.status.event_time,
        })
    }

    fn with<T>(&self, access: impl FnOnce(&mut Shared) -> T) -> T {
        access(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
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
        registry.register("headroom_collect_replay_dead_letters", "Rows that could not be read", counters.dead_letters.clone());
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
        let handle = ReplayHandle { shared: Arc::default() };
        handle.with(|shared| shared.status.stage = "collect".to_owned());
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
        let rows_total = total.await.map_err(|error| ReplayError::Config(format!("reading was abandoned: {error}")))??;
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
        let run = Run {
            producer: self.broker.producer()?,
            round: Round::default(),
            signals: fresh,
            workloads: BTreeSet::new(),
            newest: None,
            published: None,
            baseline: None,
            started: None,
            resume,
            shutdown,
            service: self,
        };
        run.to_the_end(rows).await
    }
}

/// Breaks when told to stop: the rest is left for the next run.
type Flow = Result<ControlFlow<()>, ReplayError>;

/// One run of the service.
struct Run {
    service: ReplayService,
    producer: Producer,
    resume: Resume,
    shutdown: CancellationToken,
    round: Round,
    /// Signals to publish, in the order of their announcement.
    signals: VecDeque<Signal>,
    workloads: BTreeSet<WorkloadId>,
    /// The largest event time read.
    newest: Option<EventTime>,
    /// The largest event time published by this run.
    published: Option<EventTime>,
    /// Where this run began to publish; stands in for a gate that has nothing to say yet.
    baseline: Option<EventTime>,
    /// When the pace was set, and for which event time.
    started: Option<(tokio::time::Instant, EventTime)>,
}

impl Run {
    async fn to_the_end(mut self, mut rows: Rows) -> Result<(), ReplayError> {
        loop {
            let row = tokio::select! {
                () = self.shutdown.cancelled() => return Ok(()),
                row = rows.next() => row,
            };
            let Some(row) = row? else { break };
            if self.take(row).await?.is_break() {
                return Ok(());
            }
        }
        if self.publish_round().await?.is_break() {
            return Ok(());
        }
        self.finish().await
    }

    async fn take(&mut self, row: Row) -> Flow {
        self.service.handle.with(|shared| {
            shared.rows_done = row.number;
            shared.status.records_in += 1;
        });
        match row.entry {
            Entry::Gap(_) => {
                self.service.counters.gaps.inc();
            }
            Entry::Rejected(rejected) => {
                if !self.resume.has_dead_letter(row.number) {
                    self.round.reject(row.number, rejected);
                }
            }
            Entry::Sample(sample) => return self.take_sample(row.number, sample).await,
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn take_sample(&mut self, row: u64, sample: Sample) -> Flow {
        let config = &self.service.config;
        if config.from.is_some_and(|from| sample.time < from) || config.until.is_some_and(|until| sample.time >= until) {
            return Ok(ControlFlow::Continue(()));
        }
        self.newest = self.newest.max(Some(sample.time));
        if !self.workloads.contains(&sample.workload) {
            self.workloads.insert(sample.workload.clone());
        }
        if self.resume.has_row(&sample.workload, row) {
            self.round.read_to(row);
            return Ok(ControlFlow::Continue(()));
        }
        let is_due = |signal: &Signal| signal.announced_at_us <= sample.time.micros();
        let signals_due = self.signals.front().is_some_and(is_due);
        // While the round that the crash cut short is mended, it is not cut again: positions never go back.
        let may_cut = self.round.position() >= self.resume.last_rows();
        let must_cut = signals_due || self.round.is_full(sample.time, config);
        if may_cut && must_cut && self.publish_round().await?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        self.publish_signals(sample.time).await?;
        self.round.push(row, sample);
        Ok(ControlFlow::Continue(()))
    }

    /// Sends what was read, once its time has come and downstream is near enough.
    async fn publish_round(&mut self) -> Flow {
        if self.round.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let shutdown = self.shutdown.clone();
        let newest = self.round.newest();
        if let Some(newest) = newest {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(ControlFlow::Break(())),
                () = self.wait_for_turn(newest) => {}
            }
            self.service.clock.advance(newest);
        }
        let round = self.round.take();
        let (source, now) = (self.service.config.source(), self.service.clock.now());
        let letters = round.rejected().map(|(row, rejected)| {
            tracing::warn!(error = %rejected.error, "a row went to the dead letters");
            dead_letter::record(rejected.raw.clone(), &rejected.error.to_string(), &format!("{source}/{row}"), now)
        });
        self.producer.send_all(letters.collect()).await?;
        self.producer.send_all(round.records(&self.service.config)?).await?;
        self.published = self.published.max(newest);
        let (rows, rejected) = (round.row_count(), round.rejected().count() as u64);
        self.service.counters.rows.inc_by(rows);
        self.service.counters.dead_letters.inc_by(rejected);
        self.service.handle.with(|shared| {
            shared.status.event_time = shared.status.event_time.max(newest);
            shared.status.records_out += rows;
            shared.status.set_aside += rejected;
        });
        Ok(ControlFlow::Continue(()))
    }

    /// Keeps to the speed, and to the distance from downstream.
    async fn wait_for_turn(&mut self, newest: EventTime) {
        let baseline = *self.baseline.get_or_insert(newest);
        let (started, first) = *self.started.get_or_insert_with(|| (tokio::time::Instant::now(), newest));
        let speed = self.service.config.speed;
        if speed > 0.0 {
            let wait_s = ((newest - first).as_secs_f64() / speed).clamp(0.0, config::MAX_WAIT_S);
            tokio::time::sleep_until(started + Duration::from_secs_f64(wait_s)).await;
        }
        let (Some(gate), Some(published)) = (self.service.gate.clone(), self.published) else { return };
        // What is out already counts, not what comes next: a hole in the trace must not hold the replay for ever.
        while published > gate().unwrap_or(baseline) + self.service.config.max_ahead {
            tokio::time::sleep(GATE_POLL).await;
        }
    }

    /// Publishes every signal that is announced by `time`, each at the moment of its announcement.
    async fn publish_signals(&mut self, time: EventTime) -> Result<(), ReplayError> {
        while let Some(signal) = self.signals.pop_front_if(|signal| signal.announced_at_us <= time.micros()) {
            self.service.clock.advance(EventTime::from_micros(signal.announced_at_us));
            let record = signal_record(&signal, &self.service.config.source(), self.service.clock.now())?;
            self.producer.send(record).await?.await?;
            self.service.counters.signals.inc();
        }
        Ok(())
    }

    /// Promises that the trace is complete, so that the last windows close.
    async fn finish(mut self) -> Result<(), ReplayError> {
        let config = &self.service.config;
        let Some(newest) = self.newest else {
            return Err(ReplayError::Config(format!("{} has no sample between `from` and `until`", config.file.display())));
        };
        let watermark = config.until.unwrap_or_else(|| newest.floor(config.close_span) + config.close_span);
        self.publish_signals(watermark).await?;
        let config = &self.service.config;
        let rows = self.round.position();
        let ends = self.workloads.iter().filter(|workload| !self.resume.has_end(workload, rows));
        let records = ends.map(|workload| end_record(workload, rows, watermark, config)).collect::<Result<Vec<_>, _>>()?;
        self.service.clock.advance(watermark);
        self.producer.send_all(records).await?;
        tracing::info!(file = %config.file.display(), %watermark, "the trace is replayed");
        self.service.handle.with(|shared| {
            shared.status.event_time = Some(watermark);
            shared.status.note = format!("replayed to {watermark}");
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
