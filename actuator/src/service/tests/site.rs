//! A broker, a target that counts its effects, and an actuator between them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use headroom_actuator_decide::PlannerConfig;
use headroom_actuator_decide::policy::Stage;
use headroom_ingest_broker::BrokerConfig;
use headroom_ingest_broker::embedded::Embedded;
use headroom_proto::time::Span;
use headroom_proto::v1::actuator_service_server::ActuatorService as _;
use headroom_proto::v1::{
    ActionRecord, ActionState, ApproveRequest, ListActionsRequest, ListPlansRequest, Outcome, PauseRequest, Plan,
    PlanView, RejectRequest, RollbackRequest, StatusRequest, Verdict, WorkloadStatus,
};
use tokio::task::JoinHandle;
use tonic::{Request, Status};

use super::super::*;
use crate::targets::simulated::{SimulatedConfig, SimulatedTarget};
use crate::{ApplyRequest, TargetError, TargetState};

const WORKLOAD: &str = "orders";
const STEP: Span = Span::from_mins(5);
const START: &str = "2026-01-01T00:00:00Z";
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// One unit serves 5 at its target; a decision waits 300 ms for its forecast.
pub(super) fn config(stage: Stage) -> ActuatorConfig {
    let planner = PlannerConfig {
        unit_capacity: 10.0,
        target_utilisation: 0.5,
        dwell: Span::from_mins(10),
        quantile: Some(0.75),
        ..PlannerConfig::default()
    };
    ActuatorConfig {
        stage,
        planner,
        hold: Span::from_mins(30),
        forecast_patience: Span::from_micros(300_000),
        ..ActuatorConfig::default()
    }
}

pub(super) fn automate() -> ActuatorConfig {
    config(Stage::Automate)
}

/// The simulated target, with what it was asked.
pub(super) struct Counting {
    inner: SimulatedTarget,
    known: Mutex<(BTreeSet<String>, Vec<u32>)>,
    refuses: AtomicBool,
}

impl Counting {
    /// Units of each change that took effect, in order.
    pub(super) fn effects(&self) -> Vec<u32> {
        self.known.lock().expect("no panic").1.clone()
    }

    pub(super) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    /// What the actuator had asked before it crashed.
    pub(super) async fn apply_as_before(&self, action: &ActionRecord) {
        let request = ApplyRequest {
            workload: action.workload.clone(),
            units: action.units_after,
            idempotency_key: action.idempotency_key.clone(),
            at: EventTime::from_micros(action.decided_at_us),
        };
        self.apply(&request).await.expect("takes it");
    }
}

#[async_trait]
impl Target for Counting {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn apply(&self, request: &ApplyRequest) -> Result<(), TargetError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(TargetError { target: self.name().to_owned(), problem: "it refuses".to_owned() });
        }
        self.inner.apply(request).await?;
        let mut known = self.known.lock().expect("no panic");
        if known.0.insert(request.idempotency_key.clone()) {
            known.1.push(request.units);
        }
        Ok(())
    }

    async fn observe(&self, workload: &str, at: EventTime) -> Result<TargetState, TargetError> {
        self.inner.observe(workload, at).await
    }
}

pub(super) struct Site {
    _folder: tempfile::TempDir,
    _embedded: Embedded,
    broker: Broker,
    pub(super) target: Arc<Counting>,
    steps: AtomicI64,
}

impl Site {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("starts");
        let settings = BrokerConfig { partitions: 1, fetch_wait_ms: 10, ..BrokerConfig::default() };
        let broker = Broker::new(embedded.bootstrap_servers(), &settings);
        broker.ensure_topics().await.expect("creates the topics");
        let simulated = SimulatedConfig { unit_capacity: 10.0, initial_units: 2, ..SimulatedConfig::default() };
        let inner = SimulatedTarget::open(simulated, &folder.path().join("target.json")).expect("opens");
        let target = Arc::new(Counting { inner, known: Mutex::default(), refuses: AtomicBool::new(false) });
        Self { _folder: folder, _embedded: embedded, broker, target, steps: AtomicI64::new(0) }
    }

    /// A new site on which the plans and the first `length` moves of another stand.
    pub(super) async fn after(other: &Site, length: usize) -> Self {
        let moves = other.moves().await.into_iter().take(length).collect();
        Self::with_moves(other, moves).await
    }

    /// The same with all moves, and one reason changed.
    pub(super) async fn tampered(other: &Site, at: usize) -> Self {
        let mut moves = other.moves().await;
        moves[at].reason.push('!');
        Self::with_moves(other, moves).await
    }

    async fn with_moves(other: &Site, moves: Vec<ActionRecord>) -> Self {
        let site = Self::new().await;
        let plans = other.all(Topic::Plans).await.into_iter();
        let plans = plans.map(|record| crate::journal::plan(&Plan::decode(&*record.value).expect("a plan")));
        let moves = moves.iter().map(crate::journal::action);
        site.send(plans.chain(moves).collect()).await;
        // The windows and forecasts stay on their topics too.
        for topic in [Topic::Windows, Topic::Forecasts] {
            let records = other.all(topic).await.into_iter().map(|received| {
                let mut record = Record::new(topic, received.value);
                (record.headers, record.time) = (received.headers, received.time);
                record
            });
            site.send(records.collect()).await;
        }
        site.steps.store(other.steps.load(Ordering::SeqCst), Ordering::SeqCst);
        site
    }

    fn service(&self, config: ActuatorConfig) -> (ActuatorService, ActuatorHandle) {
        let target: Arc<dyn Target> = Arc::clone(&self.target) as _;
        ActuatorService::new(config, self.broker.clone(), Clock::replay(), target, &mut Registry::default())
            .expect("legal settings")
    }

    pub(super) async fn start(&self, config: ActuatorConfig) -> Running {
        let (service, handle) = self.service(config);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(service.run(shutdown.clone()));
        let running = Running { task, rpc: Rpc::new(handle.commands.clone()), handle, shutdown };
        let handle = running.handle.clone();
        wait_for("the actuator to run", || handle.status().state == StageState::Running).await;
        running
    }

    /// The message with which an actuator ends that cannot start here.
    pub(super) async fn fails(&self, config: ActuatorConfig) -> String {
        self.service(config).0.run(CancellationToken::new()).await.expect_err("fails").to_string()
    }

    /// Closes one more window with its forecast, flat at a peak, and waits until it is decided.
    pub(super) async fn step(&self, actuator: &Running, load: f64, forecast: Option<(f64, Verdict)>) {
        let number = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        let end = EventTime::parse(START).expect("a time") + STEP.times(number);
        let mut records: Vec<Record> =
            forecast.map(|(peak, verdict)| forecast_record(end, peak, verdict)).into_iter().collect();
        records.push(window_record(number, end, load));
        self.send(records).await;
        let handle = actuator.handle.clone();
        wait_for("the decision", || handle.status().event_time == Some(end)).await;
    }

    async fn send(&self, records: Vec<Record>) {
        self.broker.producer().expect("a producer").send_all(records).await.expect("acknowledged");
    }

    async fn all(&self, topic: Topic) -> Vec<Received> {
        self.broker.tail(topic, 0, usize::MAX).await.expect("reads")
    }

    /// Every move on the record, in order.
    pub(super) async fn moves(&self) -> Vec<ActionRecord> {
        let is_move = |record: &Received| record.header(headroom_proto::headers::MESSAGE) == Some("ActionRecord");
        let records = self.all(Topic::Actions).await.into_iter().filter(is_move);
        records.map(|record| ActionRecord::decode(&*record.value).expect("a move")).collect()
    }

    pub(super) async fn states_of(&self, action_id: &str) -> Vec<ActionState> {
        let moves = self.moves().await.into_iter();
        moves.filter(|action| action.action_id == action_id).map(|action| action.state()).collect()
    }

    pub(super) async fn outcomes(&self) -> Vec<Outcome> {
        let records = self.all(Topic::Outcomes).await.into_iter();
        records.map(|record| Outcome::decode(&*record.value).expect("an outcome")).collect()
    }

    pub(super) async fn only_action(&self, actuator: &Running) -> ActionRecord {
        let mut actions = actuator.actions().await;
        assert_eq!(actions.len(), 1, "{actions:?}");
        actions.remove(0)
    }
}

/// An actuator at work.
pub(super) struct Running {
    task: JoinHandle<Result<(), ActuatorError>>,
    rpc: Rpc,
    handle: ActuatorHandle,
    shutdown: CancellationToken,
}

impl Running {
    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()), "it was running");
    }

    pub(super) async fn drain(self) {
        self.shutdown.cancel();
        self.task.await.expect("ends").expect("drains");
    }

    pub(super) async fn plans(&self) -> Vec<PlanView> {
        let answer = self.rpc.list_plans(Request::new(ListPlansRequest::default())).await;
        answer.expect("answers").into_inner().plans
    }

    pub(super) async fn waiting_plan(&self) -> Plan {
        let request = ListPlansRequest { pending: true, ..ListPlansRequest::default() };
        let mut plans = self.rpc.list_plans(Request::new(request)).await.expect("answers").into_inner().plans;
        assert_eq!(plans.len(), 1, "one plan waits: {plans:?}");
        plans.remove(0).plan.expect("a plan")
    }

    /// Newest first.
    pub(super) async fn actions(&self) -> Vec<ActionRecord> {
        let answer = self.rpc.list_actions(Request::new(ListActionsRequest::default())).await;
        answer.expect("answers").into_inner().actions
    }

    pub(super) async fn approve(&self, plan_id: &str, plan_hash: &str) -> Result<ActionRecord, Status> {
        let (plan_id, plan_hash) = (plan_id.to_owned(), plan_hash.to_owned());
        let request = ApproveRequest { plan_id, plan_hash, actor: "ann".to_owned(), ..ApproveRequest::default() };
        self.rpc.approve(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn reject(&self, plan_id: &str) -> Result<ActionRecord, Status> {
        let (plan_id, actor) = (plan_id.to_owned(), "ann".to_owned());
        let request = RejectRequest { plan_id, actor, ..RejectRequest::default() };
        self.rpc.reject(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn rollback(&self, action_id: &str) -> Result<ActionRecord, Status> {
        let (action_id, actor) = (action_id.to_owned(), "ann".to_owned());
        let request = RollbackRequest { action_id, actor, ..RollbackRequest::default() };
        self.rpc.rollback(Request::new(request)).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn switch(&self, workload: &str, paused: bool) {
        let (workload, actor) = (workload.to_owned(), "ann".to_owned());
        let request = Request::new(PauseRequest { workload, actor, ..PauseRequest::default() });
        let answer = if paused { self.rpc.pause(request).await } else { self.rpc.resume(request).await };
        assert_eq!(answer.expect("answers").into_inner().paused, paused);
    }

    pub(super) async fn status(&self) -> WorkloadStatus {
        let answer = self.rpc.status(Request::new(StatusRequest::default())).await.expect("answers");
        answer.into_inner().workloads.into_iter().find(|status| status.workload == WORKLOAD).expect("the workload")
    }
}

async fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
}

fn forecast_record(origin: EventTime, peak: f64, verdict: Verdict) -> Record {
    #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
    let row = [0.5, 0.75, 0.9].map(|level: f64| (peak * (1.0 + (level - 0.75))) as f32);
    let forecast = Forecast {
        workload: WORKLOAD.to_owned(),
        target: "requests_per_s".to_owned(),
        origin_us: origin.micros(),
        step_us: STEP.micros(),
        levels: vec![0.5, 0.75, 0.9],
        values: row.repeat(24),
        model_version: "test-1".to_owned(),
        verdict: verdict.into(),
        ..Forecast::default()
    };
    Record::new(Topic::Forecasts, forecast.encode_to_vec()).key(WORKLOAD).time(origin)
}

fn window_record(number: i64, end: EventTime, load: f64) -> Record {
    let time = |time: EventTime| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![time.micros()]).with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["load"])),
        Arc::new(Int32Array::from(vec![300])),
        time(end - STEP),
        time(end),
        Arc::new(StringArray::from(vec![WORKLOAD])),
        Arc::new(Int32Array::from(vec![0])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Float64Array::from(vec![load])),
    ];
    let mut fields = schema::window_envelope();
    fields.push(Field::new("requests_per_s", DataType::Float64, true));
    let fields = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&fields), columns).expect("a window");
    Record::new(Topic::Windows, codec::encode_stream(&fields, &[batch]).expect("encodes"))
        .key(WORKLOAD)
        .header(headroom_proto::headers::SHARD, "metrics/0")
        .header(headroom_proto::headers::SEQUENCE, number.to_string())
        .time(end)
}
