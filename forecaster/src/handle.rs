//! What others may ask of a running forecaster.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headroom_proto::status::{StageState, StageStatus};
use headroom_proto::v1::forecast_service_server::ForecastServiceServer;
use headroom_proto::v1::{Forecast, ListLiftsRequest, Model, SignalLift};
use headroom_proto::{Clock, EventTime};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::ForecasterConfig;
use crate::grpc::ForecastGrpc;
use crate::learner::LiftError;
use crate::lifts::Question;
use crate::view::{ScoreView, View};

/// Questions that may wait for the loop.
const MAX_QUESTIONS: usize = 16;

/// A handle on the forecaster; cheap to clone.
#[derive(Clone, Debug)]
pub struct ForecasterHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    status: Mutex<StageStatus>,
    view: Mutex<View>,
    questions: mpsc::Sender<Question>,
    clock: Clock,
    /// Gone once the forecaster has ended, which ends the watchers' streams.
    watchers: Mutex<Option<broadcast::Sender<Arc<Forecast>>>>,
}

impl ForecasterHandle {
    /// With the questions that the loop is to answer.
    pub(crate) fn new(config: &ForecasterConfig, clock: Clock) -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(MAX_QUESTIONS);
        let status = StageStatus { stage: "forecast".to_owned(), ..StageStatus::default() };
        let shared = Shared {
            status: Mutex::new(status),
            view: Mutex::new(View::new(config.kept_models, config.kept_scores)),
            questions,
            clock,
            watchers: Mutex::new(Some(broadcast::Sender::new(config.watch_lag))),
        };
        (Self { shared: Arc::new(shared) }, asked)
    }

    /// State and progress. Its event time is that of the newest window whose forecasts are durable.
    #[must_use]
    pub fn status(&self) -> StageStatus {
        locked(&self.shared.status).clone()
    }

    /// The workloads that have a forecast.
    #[must_use]
    pub fn workloads(&self) -> Vec<String> {
        locked(&self.shared.view).workloads()
    }

    /// The newest durable forecast of a workload.
    #[must_use]
    pub fn latest(&self, workload: &str) -> Option<Arc<Forecast>> {
        locked(&self.shared.view).latest(workload)
    }

    /// The newest durable outlook of a workload, by the hour.
    #[must_use]
    pub fn outlook(&self, workload: &str) -> Option<Arc<Forecast>> {
        locked(&self.shared.view).latest_outlook(workload)
    }

    /// The time that forecasts are old by: the wall clock's, or in a replay that of the newest window handled.
    pub(crate) fn now(&self) -> Option<EventTime> {
        if self.shared.clock.is_replay() { self.status().event_time } else { Some(self.shared.clock.now()) }
    }

    /// The newest model records of a workload, or of every one when none is named; each workload's oldest first.
    #[must_use]
    pub fn models(&self, workload: &str) -> Vec<Model> {
        locked(&self.shared.view).models(workload)
    }

    /// The newest hourly scores of every workload; each workload's oldest first.
    #[must_use]
    pub fn scores(&self) -> Vec<ScoreView> {
        locked(&self.shared.view).scores()
    }

    /// Each forecast from now on, once it is durable. The receiver's channel closes when the forecaster ends.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<Forecast>> {
        let watchers = locked(&self.shared.watchers);
        watchers.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    /// What event signals do to the load; none when the forecaster does not answer any more.
    pub(crate) async fn lifts(&self, request: ListLiftsRequest) -> Option<Result<Vec<SignalLift>, LiftError>> {
        let (answer, answered) = oneshot::channel();
        self.shared.questions.send(Question { request, answer }).await.ok()?;
        answered.await.ok()
    }

    /// The gRPC service.
    #[must_use]
    pub fn grpc(&self) -> ForecastServiceServer<ForecastGrpc> {
        ForecastServiceServer::new(ForecastGrpc::new(self.clone()))
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut StageStatus)) {
        change(&mut locked(&self.shared.status));
    }

    pub(crate) fn show(&self, change: impl FnOnce(&mut View)) {
        change(&mut locked(&self.shared.view));
    }

    /// Shows a durable forecast; that nobody watches is no fault.
    pub(crate) fn publish(&self, forecast: &Arc<Forecast>) {
        self.show(|view| view.forecast(Arc::clone(forecast)));
        if let Some(watchers) = locked(&self.shared.watchers).as_ref() {
            watchers.send(Arc::clone(forecast)).ok();
        }
    }

    pub(crate) fn end(&self, state: StageState, note: String) {
        self.update(|status| {
            status.state = state;
            status.note = note;
        });
        locked(&self.shared.watchers).take();
    }
}

/// What is guarded is replaced as a whole, so a panic elsewhere cannot leave it half written.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
