//! The actuator's loop: windows and forecasts in, plans and actions out, people's commands in between.
//!
//! For each window that closes, once its forecast is there, the planner decides. A decision that changes units becomes a
//! plan and an action. Its moves up to `intended` are acknowledged by the broker before the target is asked; a crash in
//! between is mended by replaying the actions topic and asking again under the same key.

mod act;
mod ahead;
mod board;
mod budgets;
mod commands;
mod effect;
mod explain;
mod foreign;
mod governance;
mod learn;
mod recover;
mod settle;
mod shadow;
mod standing;
mod term;
mod turn;
mod undo;
mod verify;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headroom_actuator_decide::policy::{self, Policy};
use headroom_actuator_decide::stage::Kind;
use headroom_actuator_decide::track::Earned;
use headroom_ingest_broker::{Broker, Consumer, Producer, Received, Record};
use headroom_proto::status::{StageState, StageStatus};
use headroom_proto::topics::Topic;
use headroom_proto::v1::actuator_service_server::ActuatorServiceServer;
use headroom_proto::v1::audit_service_server::AuditServiceServer;
use headroom_proto::v1::{Approval, Forecast};
use headroom_proto::{Clock, EventTime, codec, headers};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::AuditRpc;
use crate::grpc::Rpc;
use crate::notary::{Notary, NotaryHandle};
use crate::notify::{Courier, Notifier};
use crate::workload::Workload;
use crate::{ActuatorConfig, ActuatorError, Targets};
pub(crate) use board::Board;
pub(crate) use commands::Command;
pub(crate) use recover::all;
pub(crate) use settle::Unsure;
pub(crate) use term::Successions;
pub use turn::Membership;
use turn::Turn;
use verify::values_of;

const POLL: Duration = Duration::from_millis(20);
const MAX_COMMANDS: usize = 64;

/// Counted since the start.
#[derive(Clone, Debug, Default)]
struct Counters {
    decisions: Counter,
    actions: Counter,
    outcomes: Counter,
    guard_alone: Counter,
    target_failures: Counter,
    held: Counter,
    harmful: Counter,
    set_aside: Counter,
}

/// Asks the actuator and says how it is doing.
#[derive(Clone, Debug)]
pub struct ActuatorHandle {
    commands: mpsc::Sender<Command>,
    board: Board,
    status: Arc<Mutex<StageStatus>>,
    broker: Broker,
    notary: Option<NotaryHandle>,
}

/// The actuator.
pub struct ActuatorService {
    config: ActuatorConfig,
    broker: Broker,
    clock: Clock,
    targets: Targets,
    policy: Arc<Policy>,
    membership: Membership,
    commands: mpsc::Receiver<Command>,
    handle: ActuatorHandle,
    notifier: Notifier,
    couriers: Vec<Courier>,
    notary: Option<Notary>,
    counters: Counters,
}

/// Everything that can happen.
enum Event {
    Records(Vec<Received>),
    Command(Command),
    Shutdown,
}

/// What the loop works on.
struct Work {
    config: ActuatorConfig,
    clock: Clock,
    targets: Targets,
    policy: Arc<Policy>,
    producer: Producer,
    term: term::Term,
    counters: Counters,
    workloads: BTreeMap<String, Workload>,
    /// What is stopped.
    board: Board,
    notifier: Notifier,
    /// The track record of each workload and kind of action.
    tracks: BTreeMap<(String, Kind), Earned>,
    /// Approvals that are not enough yet, by the action's id.
    approvals: BTreeMap<String, Vec<Approval>>,
    /// When changes of all workloads began, oldest first.
    began: VecDeque<EventTime>,
    /// What was seen until then was decided, if only to do nothing: automation of all was resumed at that time.
    decided_before: EventTime,
    /// Windows up to then are read for their course alone.
    course_until: EventTime,
    /// Actions whose outcome is on its topic, and hashes of the plans that are on theirs.
    known_outcomes: BTreeSet<String>,
    known_plans: BTreeSet<String>,
    /// Last sequence seen of each shard in each partition of windows: a shard's numbers run across partitions.
    shards: BTreeMap<(i32, String), u64>,
    /// Records to send, in order, at the end of the turn or before an effect.
    outbox: Vec<Record>,
    notary: Option<NotaryHandle>,
    reached: Option<EventTime>,
    lessons: learn::Lessons,
    budget_log: budgets::BudgetLog,
}

impl ActuatorService {
    /// An actuator over its targets.
    ///
    /// # Errors
    /// When a setting is out of range or the policy cannot be used.
    pub fn new(
        config: ActuatorConfig,
        broker: Broker,
        clock: Clock,
        targets: impl Into<Targets>,
        registry: &mut Registry,
    ) -> Result<(Self, ActuatorHandle), ActuatorError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(ActuatorError::Config(problems.join("; ")));
        }
        let policy = match &config.policy_file {
            None => Policy::parse(policy::DEFAULT)?,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| ActuatorError::PolicyFile {
                    path: path.display().to_string(),
                    problem: error.to_string(),
                })?;
                Policy::parse(&text)?
            }
        };
        let counters = Counters::default();
        for (name, help, counter) in [
            ("headroom_actuate_decisions", "decisions made", &counters.decisions),
            ("headroom_actuate_actions", "changes applied to targets", &counters.actions),
            ("headroom_actuate_outcomes", "outcomes measured", &counters.outcomes),
            ("headroom_actuate_guard_alone", "decisions without a forecast to trust", &counters.guard_alone),
            (
                "headroom_actuate_target_failures",
                "questions and changes that a target failed",
                &counters.target_failures,
            ),
            ("headroom_actuate_held", "actions that a limit over all workloads has held back", &counters.held),
            ("headroom_actuate_harmful_changes", "changes that were found to do harm", &counters.harmful),
            (
                "headroom_actuate_set_aside_records",
                "records not used: repeats and what cannot be read",
                &counters.set_aside,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let status = StageStatus { stage: "actuate".to_owned(), ..StageStatus::default() };
        let (notifier, couriers) = Notifier::new(&config.notify, registry);
        let holder = turn::holder(config.instance.as_deref());
        let board = Board::new(broker.clone(), clock.clone(), notifier.clone(), holder);
        board.know(config.workloads.keys().chain(config.planners.keys()).chain(config.stages.keys()));
        let (notary, notary_handle) = Notary::new(&config.audit, &broker)?.unzip();
        let status = Arc::new(Mutex::new(status));
        let handle = ActuatorHandle { commands: sender, board, status, broker: broker.clone(), notary: notary_handle };
        let (targets, service_handle) = (targets.into(), handle.clone());
        let service = Self {
            config,
            broker,
            clock,
            targets,
            policy: Arc::new(policy),
            membership: Membership::Alone,
            commands,
            handle: service_handle,
            notifier,
            couriers,
            notary,
            counters,
        };
        Ok((service, handle))
    }

    /// With another way to its turn than being alone.
    #[must_use]
    pub fn with_membership(mut self, membership: Membership) -> Self {
        self.membership = membership;
        self
    }

    /// Runs until shutdown.
    ///
    /// # Errors
    /// When the broker fails for good, or the record of actions does not hold.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), ActuatorError> {
        let handle = self.handle.clone();
        let told = CancellationToken::new();
        let ended = told.clone().drop_guard();
        let outcome = match self.notary.take() {
            None => self.actuate(shutdown, told).await,
            Some(notary) => self.actuate_with(notary, shutdown, told).await,
        };
        drop(ended);
        handle.update(|status| match &outcome {
            Ok(()) => status.state = StageState::Drained,
            Err(error) => {
                status.state = StageState::Failed;
                status.note = error.to_string();
            }
        });
        outcome
    }

    /// With a notary beside the loop, which signs once more when the loop has ended.
    async fn actuate_with(
        self,
        mut notary: Notary,
        shutdown: CancellationToken,
        told: CancellationToken,
    ) -> Result<(), ActuatorError> {
        notary.open().await?;
        let end = CancellationToken::new();
        let signing = tokio::spawn(notary.run(end.clone()));
        let outcome = self.actuate(shutdown, told).await;
        end.cancel();
        let signed = signing.await.unwrap_or_else(|error| Err(ActuatorError::Log(format!("the notary: {error}"))));
        outcome.and(signed)
    }

    /// Acts whenever it is its turn.
    async fn actuate(mut self, shutdown: CancellationToken, told: CancellationToken) -> Result<(), ActuatorError> {
        for courier in std::mem::take(&mut self.couriers) {
            tokio::spawn(courier.run(told.clone()));
        }
        let targets = self.targets.clone();
        tokio::spawn(async move { targets.probe().await });
        let waiting = shutdown.child_token();
        let _ends_waiting = waiting.clone().drop_guard();
        let mut turn = Turn::new(self.membership, &self.broker, self.config.instance.as_deref(), waiting)?;
        let mut why = "another acts".to_owned();
        self.handle.acts(false);
        loop {
            self.handle.update(|status| status.note = format!("stands by: {why}"));
            if !turn::stand_by(&mut turn, &mut self.commands, &shutdown, &why).await {
                return Ok(());
            }
            match self.act(&shutdown).await {
                Err(ActuatorError::Succeeded { by }) => why = format!("{by} acts"),
                ended => return ended,
            }
            tracing::warn!(why, "this actuator stands by");
            self.handle.acts(false);
        }
    }

    /// Acts for a term.
    async fn act(&mut self, shutdown: &CancellationToken) -> Result<(), ActuatorError> {
        let (broker, handle) = (self.broker.clone(), self.handle.clone());
        let producer = broker.producer()?;
        handle.board.begin().await;
        handle.board.send_with(producer.clone()).await;
        let (term, records) = term::Term::begin(&broker, &producer, handle.board.holder(), self.clock.now()).await?;
        let mut work = Work::new(self, producer, term);
        let starts = work.recover(&broker, records).await?;
        let consumer = broker.consumer("headroom-actuate")?;
        consumer.assign(&starts).await?;
        handle.acts(true);
        handle.update(|status| status.state = StageState::Running);
        loop {
            match next(&consumer, &mut self.commands, shutdown, work.config.max_poll_records).await? {
                Event::Records(records) => {
                    work.listen().await?;
                    work.settle().await?;
                    handle.update(|status| status.records_in += u64::try_from(records.len()).unwrap_or(0));
                    for record in records {
                        work.take_in(record);
                    }
                    work.decide_due().await?;
                }
                Event::Command(command) => work.obey(command).await?,
                Event::Shutdown => return work.flush().await,
            }
            work.flush().await?;
            work.board.reach(work.reached);
            work.board.know(work.workloads.keys());
            handle.update(|status| {
                status.event_time = work.reached;
                status.records_out = work.counters.actions.get();
                status.set_aside = work.counters.set_aside.get();
                status.note = work.summary();
            });
        }
    }
}

async fn next(
    consumer: &Consumer,
    commands: &mut mpsc::Receiver<Command>,
    shutdown: &CancellationToken,
    max: usize,
) -> Result<Event, ActuatorError> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(Event::Shutdown),
        Some(command) = commands.recv() => Ok(Event::Command(command)),
        records = consumer.poll(max, POLL) => Ok(Event::Records(records?)),
    }
}

impl Work {
    /// One that knows nothing yet.
    fn new(service: &ActuatorService, producer: Producer, term: term::Term) -> Self {
        Self {
            producer,
            term,
            config: service.config.clone(),
            clock: service.clock.clone(),
            targets: service.targets.clone(),
            policy: Arc::clone(&service.policy),
            counters: service.counters.clone(),
            workloads: BTreeMap::new(),
            board: service.handle.board.clone(),
            notifier: service.notifier.clone(),
            tracks: BTreeMap::new(),
            approvals: BTreeMap::new(),
            began: VecDeque::new(),
            decided_before: EventTime::MIN,
            course_until: EventTime::MIN,
            known_outcomes: BTreeSet::new(),
            known_plans: BTreeSet::new(),
            shards: BTreeMap::new(),
            outbox: Vec::new(),
            notary: service.handle.notary.clone(),
            reached: None,
            lessons: learn::Lessons::default(),
            budget_log: budgets::BudgetLog::default(),
        }
    }

    /// Files a record under its workload; what cannot be used is counted.
    fn take_in(&mut self, record: Received) {
        let taken =
            if record.topic == Topic::Forecasts { self.take_forecast(&record) } else { self.take_windows(&record) };
        if let Err(reason) = taken {
            self.counters.set_aside.inc();
            tracing::debug!(reason, origin = record.origin(), "record not used");
        }
    }

    fn take_forecast(&mut self, record: &Received) -> Result<(), String> {
        let forecast = Forecast::decode(&*record.value).map_err(|error| error.to_string())?;
        if forecast.target != self.config.target {
            return Err(format!("a forecast of `{}`, not of `{}`", forecast.target, self.config.target));
        }
        let workload = workload_of(&mut self.workloads, &forecast.workload);
        if forecast.origin_us <= workload.last_decided.micros() {
            return Err("decided already".to_owned());
        }
        workload.forecasts.insert(forecast.origin_us, forecast);
        Ok(())
    }

    fn take_windows(&mut self, record: &Received) -> Result<(), String> {
        let shard = (record.partition, record.header(headers::SHARD).unwrap_or_default().to_owned());
        let sequence: u64 = record.header(headers::SEQUENCE).and_then(|text| text.parse().ok()).unwrap_or(0);
        let last = self.shards.entry(shard).or_default();
        if sequence > 0 && sequence <= *last {
            return Err("a repeat".to_owned());
        }
        *last = sequence.max(*last);
        let size_s = i32::try_from(self.config.window_size.micros() / 1_000_000).unwrap_or(i32::MAX);
        for batch in codec::decode_stream(&record.value).map_err(|error| error.to_string())? {
            self.take_guards(&batch, size_s);
            for (name, end_us, load) in values_of(&batch, &self.config.target, size_s).unwrap_or_default() {
                let workload = workload_of(&mut self.workloads, &name);
                workload.course.load(end_us, load);
                if end_us <= self.course_until.micros() {
                    continue;
                }
                workload.windows.insert(end_us, (load, Instant::now()));
            }
            self.lessons.take_windows(&batch, &self.config, size_s);
        }
        Ok(())
    }

    /// Sends what waits; everything is acknowledged when it returns. Plans and outcomes go before the moves that follow
    /// from them: a move on the record is not made again, so what belongs to it must be there.
    async fn flush(&mut self) -> Result<(), ActuatorError> {
        let outbox = std::mem::take(&mut self.outbox);
        let (moves, others): (Vec<Record>, Vec<Record>) =
            outbox.into_iter().partition(|record| record.topic == Topic::Actions);
        let written = others.len() + moves.len();
        self.producer.send_all(others).await?;
        self.producer.send_all(moves).await?;
        self.notary.iter().for_each(|notary| notary.wrote(written));
        Ok(())
    }

    fn is_paused(&self, workload: &str) -> bool {
        self.board.stopped(workload).is_some()
    }

    fn summary(&self) -> String {
        let units: Vec<String> = self
            .workloads
            .values()
            .take(3)
            .map(|workload| format!("{}: {} units", workload.name, workload.commanded.unwrap_or(0)))
            .collect();
        let told: Vec<String> = [units.join(", "), self.board.told()].into_iter().filter(|t| !t.is_empty()).collect();
        told.join("; ")
    }
}

/// The workload of that name, new when it is seen first.
fn workload_of<'a>(workloads: &'a mut BTreeMap<String, Workload>, name: &str) -> &'a mut Workload {
    workloads.entry(name.to_owned()).or_insert_with(|| Workload::new(name))
}

impl ActuatorHandle {
    /// How the actuator is doing; its event time is the last decision's.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The gRPC service.
    #[must_use]
    pub fn grpc(&self) -> ActuatorServiceServer<Rpc> {
        ActuatorServiceServer::new(Rpc::new(self.commands.clone(), self.board.clone()))
    }

    /// The gRPC service of the record.
    #[must_use]
    pub fn audit_grpc(&self) -> AuditServiceServer<AuditRpc> {
        AuditServiceServer::new(AuditRpc::new(self.broker.clone(), self.notary.clone()))
    }

    /// Whether this actuator acts, or stands by.
    fn acts(&self, acts: bool) {
        self.notary.iter().for_each(|notary| notary.acts(acts));
    }

    fn update(&self, change: impl FnOnce(&mut StageStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl std::fmt::Debug for ActuatorService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActuatorService").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
