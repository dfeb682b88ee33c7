//! `ForecastService`: the newest forecasts, as they are made, and the models behind them.

use std::pin::Pin;
use std::sync::Arc;

use headroom_proto::EventTime;
use headroom_proto::v1::forecast_service_server::ForecastService;
use headroom_proto::v1::{
    Forecast, LatestForecastRequest, ListLiftsRequest, ListLiftsResponse, ListModelsRequest, ListModelsResponse, Mark,
    MarkKind, Verdict, WatchForecastsRequest,
};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, async_trait};

use crate::ForecasterHandle;
use crate::learner::LiftError;

/// A forecast is stale when so many windows should have come since.
const STALE_STEPS: i64 = 3;

/// The gRPC face of a [`ForecasterHandle`].
#[derive(Clone, Debug)]
pub struct ForecastGrpc {
    handle: ForecasterHandle,
}

impl ForecastGrpc {
    pub(crate) fn new(handle: ForecasterHandle) -> Self {
        Self { handle }
    }

    fn newest(
        &self,
        what: &str,
        workload: &str,
        find: fn(&ForecasterHandle, &str) -> Option<Arc<Forecast>>,
    ) -> Result<Response<Forecast>, Status> {
        if workload.is_empty() {
            return Err(Status::invalid_argument(format!("`workload` is empty: name one of: {}", self.known())));
        }
        let found = find(&self.handle, workload);
        let found = found.ok_or_else(|| {
            Status::not_found(format!("no {what} of workload `{workload}`; there are forecasts of: {}", self.known()))
        })?;
        let mut forecast = Forecast::clone(&found);
        if let Some(now) = self.handle.now() {
            mark_stale(&mut forecast, now);
        }
        Ok(Response::new(forecast))
    }

    fn known(&self) -> String {
        let workloads = self.handle.workloads();
        if workloads.is_empty() { "none yet".to_owned() } else { workloads.join(", ") }
    }
}

#[async_trait]
impl ForecastService for ForecastGrpc {
    async fn latest(&self, request: Request<LatestForecastRequest>) -> Result<Response<Forecast>, Status> {
        self.newest("forecast", &request.into_inner().workload, ForecasterHandle::latest)
    }

    async fn outlook(&self, request: Request<LatestForecastRequest>) -> Result<Response<Forecast>, Status> {
        self.newest("outlook", &request.into_inner().workload, ForecasterHandle::outlook)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<Forecast, Status>> + Send>>;

    /// Forecasts of one workload, or of every one when none is named. A watcher that falls too far behind is told so,
    /// which ends its stream, rather than left without some forecasts.
    async fn watch(&self, request: Request<WatchForecastsRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let workload = request.into_inner().workload;
        let forecasts = BroadcastStream::new(self.handle.watch());
        Ok(Response::new(Box::pin(forecasts.filter_map(move |forecast| watched(forecast, &workload)))))
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.handle.models(&request.into_inner().workload);
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn list_lifts(&self, request: Request<ListLiftsRequest>) -> Result<Response<ListLiftsResponse>, Status> {
        let request = request.into_inner();
        let what = format!("{}{}", request.signal_id, request.kind);
        let answer = self.handle.lifts(request).await;
        match answer.ok_or_else(|| Status::unavailable("the forecaster has stopped"))? {
            Ok(lifts) if lifts.is_empty() && !what.is_empty() => Err(Status::not_found(format!(
                "nothing can be said of `{what}`: no workload that it concerns has enough history, or no such signal \
                 stands"
            ))),
            Ok(lifts) => Ok(Response::new(ListLiftsResponse { lifts })),
            Err(error @ LiftError::Unknown(_)) => Err(Status::not_found(error.to_string())),
            Err(error @ LiftError::TooEarly(_)) => Err(Status::failed_precondition(error.to_string())),
        }
    }
}

/// Windows have ceased to come: what was forecast then may not hold now.
fn mark_stale(forecast: &mut Forecast, now: EventTime) {
    let age = now - EventTime::from_micros(forecast.origin_us);
    if age.micros() <= STALE_STEPS.saturating_mul(forecast.step_us) {
        return;
    }
    let reason = format!("its newest window ended {age} ago: no window has come since");
    if forecast.verdict() != Verdict::Abstain {
        forecast.set_verdict(Verdict::Stale);
    }
    let before = std::mem::take(&mut forecast.verdict_reason);
    forecast.verdict_reason = if before.is_empty() { reason.clone() } else { format!("{before}; {reason}") };
    forecast.marks.push(Mark { kind: MarkKind::Stale.into(), reason });
}

fn watched(
    forecast: Result<Arc<Forecast>, BroadcastStreamRecvError>,
    workload: &str,
) -> Option<Result<Forecast, Status>> {
    match forecast {
        Ok(forecast) if workload.is_empty() || forecast.workload == workload => Some(Ok(Forecast::clone(&forecast))),
        Ok(_) => None,
        Err(BroadcastStreamRecvError::Lagged(missed)) => Some(Err(Status::resource_exhausted(format!(
            "{missed} forecasts were missed: read faster, and watch again"
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_is_stale_once_windows_should_have_come() {
        let made = Forecast { step_us: 300_000_000, values: vec![1.0], ..Forecast::default() };
        let after = |minutes: i64| {
            let mut forecast = Forecast { verdict: Verdict::Fresh.into(), ..made.clone() };
            mark_stale(&mut forecast, EventTime::from_micros(minutes * 60_000_000));
            (forecast.verdict(), forecast.marks.len(), forecast.verdict_reason)
        };
        assert_eq!(after(15), (Verdict::Fresh, 0, String::new()));
        let (verdict, marks, reason) = after(40);
        assert_eq!((verdict, marks), (Verdict::Stale, 1));
        assert!(reason.contains("40m ago"), "{reason}");
    }
}
