//! One run of a replay: from the first row that is not on the topic to the end of the trace.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use headroom_ingest_broker::Producer;
use headroom_proto::v1::Signal;
use headroom_proto::{EventTime, WorkloadId};
use tokio_util::sync::CancellationToken;

use super::config::MAX_WAIT_S;
use super::resume::Resume;
use super::round::{Round, end_record, signal_record};
use super::rows::Rows;
use super::{ReplayError, ReplayService};
use crate::collect::dead_letter;
use crate::collect::trace::{Entry, Row, Sample};

/// How often a closed gate is looked at.
const GATE_POLL: Duration = Duration::from_millis(10);

/// Breaks when told to stop: the rest is left for the next run.
type Flow = Result<ControlFlow<()>, ReplayError>;

/// One run of the service.
pub(super) struct Run {
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
    /// `signals` are those that are not on the topic, in the order of their announcement.
    pub(super) fn new(
        service: ReplayService,
        producer: Producer,
        resume: Resume,
        signals: VecDeque<Signal>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            service,
            producer,
            resume,
            shutdown,
            round: Round::default(),
            signals,
            workloads: BTreeSet::new(),
            newest: None,
            published: None,
            baseline: None,
            started: None,
        }
    }

    pub(super) async fn run_to_end(mut self, mut rows: Rows) -> Result<(), ReplayError> {
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
        if config.from.is_some_and(|from| sample.time < from) || config.until.is_some_and(|until| sample.time >= until)
        {
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
            let wait_s = ((newest - first).as_secs_f64() / speed).clamp(0.0, MAX_WAIT_S);
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
            return Err(ReplayError::Config(format!(
                "{} has no sample between `from` and `until`",
                config.file.display()
            )));
        };
        let watermark = config.until.unwrap_or_else(|| newest.floor(config.close_span) + config.close_span);
        self.publish_signals(watermark).await?;
        let config = &self.service.config;
        let rows = self.round.position();
        let ends = self.workloads.iter().filter(|workload| !self.resume.has_end(workload, rows));
        let records =
            ends.map(|workload| end_record(workload, rows, watermark, config)).collect::<Result<Vec<_>, _>>()?;
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
