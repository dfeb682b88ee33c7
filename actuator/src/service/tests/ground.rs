//! What the tests stand on: a broker, a target that can be watched, made-up windows and forecasts.

use std::path::PathBuf;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use headroom_actuator_decide::audit;
use headroom_actuator_decide::policy::Stage;
use headroom_ingest_broker::BrokerConfig;
use headroom_ingest_broker::embedded::Embedded;
use headroom_proto::schema;
use headroom_proto::time::Span;
use headroom_proto::v1::actuator_service_server::ActuatorService as _;
use headroom_proto::v1::{
    ActionRecord, ActionState, ApproveRequest, ListPlansRequest, Outcome, PauseRequest, Plan, PlanView, RejectRequest,
    RollbackPlanRequest, RollbackRequest, ShadowRequest, ShadowResponse, StageStanding, StagesRequest, StatusRequest,
    SwitchState, Verdict, WhyRequest, WhyResponse, WorkloadStatus,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Request, Status};

use super::super::*;
use super::watched::Watched;
use crate::targets::simulated::{SimulatedConfig, SimulatedTarget};
use crate::{ApplyRequest, Fence, Target};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const STEP: Span = Span::from_mins(5);
/// A Monday, 00:00 UTC.
const START_US: i64 = 894_844_800_000_000;

/// A broker, a folder and the settings.
pub(super) struct Ground {
    folder: TempDir,
    _embedded: Embedded,
    pub(super) broker: Broker,
    producer: Producer,
    pub(super) config: ActuatorConfig,
    pub(super) target: Arc<Watched>,
    sent: u64,
}

/// An actuator at work.
pub(super) struct Actuator {
    pub(super) handle: ActuatorHandle,
    task: JoinHandle<Result<(), ActuatorError>>,
    shutdown: CancellationToken,
}

/// The end of window number `step`.
pub(super) fn time(step: i64) -> EventTime {
    EventTime::from_micros(START_US) + STEP.times(step)
}

impl Ground {
    /// One unit serves 100; sized for 70 %; units are ready after 10 minutes and measured for 15.
    pub(super) async fn new(stage: Stage) -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("a broker");
        let settings = BrokerConfig { partitions: 2, linger_ms: 0, ..BrokerConfig::default() };
        let broker = Broker::new(embedded.bootstrap_servers(), &settings);
        broker.ensure_topics().await.expect("topics");
        let mut config = ActuatorConfig { stage: stage.into(), hold: Span::from_mins(15), ..ActuatorConfig::default() };
        config.planner.lead_time = Span::from_mins(10);
        let file = folder.path().join("target.json");
        let settings = SimulatedConfig { lead_time: config.planner.lead_time, ..SimulatedConfig::default() };
        let inner = SimulatedTarget::open(settings, &file).expect("a target");
        let target = Arc::new(Watched::new(inner, file, broker.clone()));
        let producer = broker.producer().expect("a producer");
        Self { folder, _embedded: embedded, broker, producer, config, target, sent: 0 }
    }

    /// Starts an actuator with the settings of now.
    pub(super) fn start(&self) -> Actuator {
        let target: Arc<dyn Target> = Arc::<Watched>::clone(&self.target);
        self.start_over(Targets::new(target))
    }

    /// Starts one over those targets.
    pub(super) fn start_over(&self, targets: Targets) -> Actuator {
        self.start_as(Membership::Alone, targets)
    }

    /// Starts one that waits for its turn.
    pub(super) fn start_in_group(&self) -> Actuator {
        let target: Arc<dyn Target> = Arc::<Watched>::clone(&self.target);
        self.start_as(Membership::Group, Targets::new(target))
    }

    fn start_as(&self, membership: Membership, targets: Targets) -> Actuator {
        let (config, broker) = (self.config.clone(), self.broker.clone());
        let made = ActuatorService::new(config, broker, Clock::replay(), targets, &mut Registry::default());
        let (service, handle) = made.expect("legal settings");
        let service = service.with_membership(membership);
        let shutdown = CancellationToken::new();
        Actuator { handle, task: tokio::spawn(service.run(shutdown.clone())), shutdown }
    }

    /// A target of its own on paper.
    pub(super) fn another(&self) -> Arc<dyn Target> {
        let file = self.folder.path().join("another.json");
        Arc::new(SimulatedTarget::open(SimulatedConfig::default(), &file).expect("a target"))
    }

    /// Has checkpoints signed from now on; gives the key's file.
    pub(super) fn signs(&mut self) -> PathBuf {
        let file = self.folder.path().join("signing.key");
        self.config.audit.key_file = Some(file.clone());
        file
    }

    pub(super) fn policy(&mut self, text: &str) {
        let file = self.folder.path().join("test.cedar");
        std::fs::write(&file, text).expect("writes");
        self.config.policy_file = Some(file);
    }

    /// A file of that text.
    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).expect("writes");
        file
    }

    pub(super) async fn send(&self, records: Vec<Record>) {
        self.producer.send_all(records).await.expect("acknowledged");
    }

    /// Closes window `step` of a workload with that load.
    pub(super) async fn window(&mut self, workload: &str, step: i64, load: f64) {
        self.window_of(workload, step, &[("requests_per_s", load)]).await;
    }

    /// Closes window `step` of a workload with those feature columns.
    pub(super) async fn window_of(&mut self, workload: &str, step: i64, columns: &[(&str, f64)]) {
        self.sent += 1;
        let record = Record::new(Topic::Windows, window_bytes(workload, step, columns))
            .key(workload.to_owned())
            .header(headers::SHARD, format!("test/{workload}"))
            .header(headers::SEQUENCE, self.sent.to_string())
            .time(time(step));
        self.send(vec![record]).await;
    }

    /// Closes windows with that load, and that latency in a record of its own, as another feature has it.
    pub(super) async fn slow_windows(&mut self, workload: &str, steps: impl Iterator<Item = (i64, f64, f64)>) {
        let mut records = Vec::new();
        for (step, load, latency) in steps {
            for (column, value) in [("p99_ms", latency), ("requests_per_s", load)] {
                self.sent += 1;
                let record = Record::new(Topic::Windows, window_bytes(workload, step, &[(column, value)]))
                    .key(workload.to_owned())
                    .header(headers::SHARD, format!("test/{workload}"))
                    .header(headers::SEQUENCE, self.sent.to_string());
                records.push(record.time(time(step)));
            }
        }
        self.send(records).await;
    }

    /// A fresh forecast of the same load at every step, made at the end of window `step`.
    pub(super) async fn forecast(&self, workload: &str, step: i64, load: f32) {
        self.judged(workload, step, load, Verdict::Fresh).await;
    }

    pub(super) async fn judged(&self, workload: &str, step: i64, load: f32, verdict: Verdict) {
        self.of_column("requests_per_s", workload, step, load, verdict).await;
    }

    /// A forecast of that feature column.
    pub(super) async fn of_column(&self, column: &str, workload: &str, step: i64, load: f32, verdict: Verdict) {
        let mut forecast = Forecast {
            workload: workload.to_owned(),
            target: column.to_owned(),
            origin_us: time(step).micros(),
            step_us: STEP.micros(),
            levels: vec![0.5, 0.9],
            values: vec![load; 24],
            model_version: "model-1".to_owned(),
            ..Forecast::default()
        };
        forecast.set_verdict(verdict);
        let record = Record::new(Topic::Forecasts, forecast.encode_to_vec()).key(workload.to_owned()).time(time(step));
        self.send(vec![record]).await;
    }

    /// Windows with their forecasts, one after the other.
    pub(super) async fn turns(&mut self, workload: &str, steps: std::ops::RangeInclusive<i64>, load: f64, ahead: f32) {
        for step in steps {
            self.forecast(workload, step, ahead).await;
            self.window(workload, step, load).await;
        }
    }

    async fn read<T: Message + Default>(&self, topic: Topic, message: &str) -> Vec<T> {
        let mut found = Vec::new();
        for record in records(&self.broker, topic).await {
            if record.header(headers::MESSAGE) == Some(message) {
                found.push(T::decode(&*record.value).expect("decodes"));
            }
        }
        found
    }

    /// The moves of a workload on the topic that count; their chain holds.
    pub(super) async fn moves(&self, workload: &str) -> Vec<ActionRecord> {
        let (mut moves, mut successions) = (Vec::new(), Successions::default());
        for record in records(&self.broker, Topic::Actions).await {
            if !successions.take(&record) && record.header(headers::MESSAGE) == Some("ActionRecord") {
                let action = ActionRecord::decode(&*record.value).expect("decodes");
                moves.extend(Some(action).filter(|action| successions.counts(&record, action.term)));
            }
        }
        moves.retain(|record| record.workload == workload);
        let mut before = (0, String::new());
        for record in &moves {
            audit::verify(record, before.0, &before.1).expect("the chain holds");
            before = (record.sequence, record.hash.clone());
        }
        moves
    }

    /// The states that a workload's actions went through.
    pub(super) async fn states(&self, workload: &str) -> Vec<ActionState> {
        self.moves(workload).await.iter().map(ActionRecord::state).collect()
    }

    pub(super) async fn plans(&self) -> Vec<Plan> {
        self.read(Topic::Plans, "Plan").await
    }

    pub(super) async fn outcomes(&self) -> Vec<Outcome> {
        self.read(Topic::Outcomes, "Outcome").await
    }

    /// Somebody else sets the target to that many units, at the end of window `step`.
    pub(super) async fn by_hand(&self, workload: &str, step: i64, units: u32) {
        let (workload, at) = (workload.to_owned(), time(step));
        let (idempotency_key, fence) = (format!("by hand {step}"), Fence::new(at, 1_000_000));
        let request = ApplyRequest { workload, units, idempotency_key, fence, undoes: None, at, begin_at: None };
        self.target.inner.apply(&request).await.expect("takes it");
    }

    /// Units commanded of the target at the end of window `step`.
    pub(super) async fn units(&self, workload: &str, step: i64) -> u32 {
        self.target.observe(workload, time(step)).await.expect("answers").commanded
    }
}

/// Every record of a topic, partition by partition.
pub(super) async fn records(broker: &Broker, topic: Topic) -> Vec<Received> {
    let mut found = Vec::new();
    for (partition, _, _) in broker.ends(topic).await.expect("ends") {
        // All of it: more may have come since.
        found.extend(broker.tail(topic, partition, usize::MAX).await.expect("reads"));
    }
    found
}

/// The record as it was sent.
pub(super) fn again(record: &Received) -> Record {
    let Received { topic, key, value, headers, time, .. } = record.clone();
    Record { topic, partition: None, key, value, headers, time }
}

fn window_bytes(workload: &str, step: i64, features: &[(&str, f64)]) -> Vec<u8> {
    let mut fields = schema::window_envelope();
    fields.extend(features.iter().map(|(name, _)| Field::new(*name, DataType::Float64, true)));
    let schema = Arc::new(Schema::new(fields));
    let at = |time: EventTime| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![time.micros()]).with_timezone("UTC"))
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["load"])),
        Arc::new(Int32Array::from(vec![300])),
        at(time(step - 1)),
        at(time(step)),
        Arc::new(StringArray::from(vec![workload])),
        Arc::new(Int32Array::from(vec![0])),
        Arc::new(BooleanArray::from(vec![true])),
    ];
    columns.extend(features.iter().map(|(_, value)| -> ArrayRef { Arc::new(Float64Array::from(vec![*value])) }));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("the columns fit");
    codec::encode_stream(&schema, &[batch]).expect("encodes").to_vec()
}

impl Actuator {
    fn rpc(&self) -> Rpc {
        Rpc::new(self.handle.commands.clone(), self.handle.board.clone())
    }

    /// Waits until window `step` is decided and what follows from it is acknowledged.
    pub(super) async fn reaches(&self, step: i64) {
        self.until("the window is decided", |status| status.event_time >= Some(time(step))).await;
    }

    /// Waits until window `step` of that workload is decided.
    pub(super) async fn knows(&self, workload: &str, step: i64) {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(LOOK_AGAIN);
        while self.decided(workload).await < time(step).micros() {
            assert!(Instant::now() < deadline, "{workload} is not decided in time: {:?}", self.handle.status());
            ticks.tick().await;
        }
    }

    async fn decided(&self, workload: &str) -> i64 {
        let statuses = self.statuses().await;
        statuses.iter().find(|status| status.workload == workload).map_or(i64::MIN, |status| status.event_time_us)
    }

    async fn statuses(&self) -> Vec<WorkloadStatus> {
        self.rpc().status(Request::new(StatusRequest {})).await.expect("answers").into_inner().workloads
    }

    /// Every switch that is set.
    pub(super) async fn stopped(&self) -> Vec<SwitchState> {
        self.rpc().status(Request::new(StatusRequest {})).await.expect("answers").into_inner().stopped
    }

    pub(super) async fn runs(&self) {
        self.until("it runs", |status| status.state == StageState::Running).await;
    }

    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&StageStatus) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(LOOK_AGAIN);
        while !is_so(&self.handle.status()) {
            assert!(!self.task.is_finished(), "it has ended: {:?}", self.handle.status());
            assert!(Instant::now() < deadline, "not in time: {what}: {:?}", self.handle.status());
            ticks.tick().await;
        }
    }

    pub(super) async fn plans(&self, pending: bool) -> Vec<PlanView> {
        let request = ListPlansRequest { pending, ..ListPlansRequest::default() };
        self.rpc().list_plans(Request::new(request)).await.expect("answers").into_inner().plans
    }

    /// By ann; without a hash, of the plan as it is.
    pub(super) async fn approve(&self, plan_id: &str, plan_hash: &str) -> Result<ActionRecord, Status> {
        self.approve_as("ann", plan_id, plan_hash).await
    }

    pub(super) async fn approve_as(&self, actor: &str, plan_id: &str, plan_hash: &str) -> Result<ActionRecord, Status> {
        let plans = self.plans(false).await.into_iter().filter_map(|view| view.plan);
        let known = plans.filter(|plan| plan.plan_id == plan_id).map(|plan| plan.plan_hash).next();
        let request = ApproveRequest {
            plan_id: plan_id.to_owned(),
            plan_hash: if plan_hash.is_empty() { known.unwrap_or_default() } else { plan_hash.to_owned() },
            actor: actor.to_owned(),
            comment: "looks right".to_owned(),
        };
        self.approve_exactly(request).await
    }

    pub(super) async fn approve_exactly(&self, request: ApproveRequest) -> Result<ActionRecord, Status> {
        self.rpc().approve(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn why(&self, id: &str) -> Result<WhyResponse, Status> {
        let request = WhyRequest { id: id.to_owned() };
        self.rpc().why(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn stages(&self, workload: &str) -> Vec<StageStanding> {
        let request = StagesRequest { workload: workload.to_owned() };
        self.rpc().stages(Request::new(request)).await.expect("answers").into_inner().stages
    }

    pub(super) async fn shadow(&self, request: ShadowRequest) -> Result<ShadowResponse, Status> {
        self.rpc().shadow(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn reject(&self, plan_id: &str) -> Result<ActionRecord, Status> {
        let request =
            RejectRequest { plan_id: plan_id.to_owned(), actor: "ann".to_owned(), comment: "too dear".to_owned() };
        self.rpc().reject(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn rollback(&self, action_id: &str) -> Result<ActionRecord, Status> {
        let request =
            RollbackRequest { action_id: action_id.to_owned(), actor: "ann".to_owned(), reason: "a drill".to_owned() };
        self.rpc().rollback(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    /// Rolls back a plan or an action with what followed.
    pub(super) async fn roll_back(&self, id: &str) -> Result<Vec<ActionRecord>, Status> {
        let request =
            RollbackPlanRequest { id: id.to_owned(), actor: "ann".to_owned(), ..RollbackPlanRequest::default() };
        self.rpc().rollback_plan(Request::new(request)).await.map(|response| response.into_inner().moves)
    }

    /// Rolls back what was decided for a workload from window `step` on.
    pub(super) async fn roll_back_since(&self, workload: &str, step: i64) -> Result<Vec<ActionRecord>, Status> {
        let (workload, actor) = (workload.to_owned(), "ann".to_owned());
        let since_us = time(step).micros();
        let request = RollbackPlanRequest { workload, actor, since_us, ..RollbackPlanRequest::default() };
        self.rpc().rollback_plan(Request::new(request)).await.map(|response| response.into_inner().moves)
    }

    pub(super) async fn pause(&self, workload: &str) -> SwitchState {
        self.rpc().pause(Request::new(switch(workload))).await.expect("answers").into_inner()
    }

    pub(super) async fn resume(&self, workload: &str) -> SwitchState {
        self.rpc().resume(Request::new(switch(workload))).await.expect("answers").into_inner()
    }

    pub(super) async fn status_of(&self, workload: &str) -> WorkloadStatus {
        let statuses = self.statuses().await;
        statuses.into_iter().find(|status| status.workload == workload).expect("the workload is known")
    }

    /// Ends it in the middle of whatever it does.
    pub(super) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("drains");
        assert_eq!(self.handle.status().state, StageState::Drained);
    }

    /// How it ends by itself.
    pub(super) async fn ends(self) -> Result<(), ActuatorError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("ends in time").expect("no panic")
    }
}

fn switch(workload: &str) -> PauseRequest {
    PauseRequest { workload: workload.to_owned(), actor: "ann".to_owned(), reason: "a drill".to_owned() }
}
