//! `ForecastService`: the newest forecasts, as they are made, and the models behind them.

use std::pin::Pin;
use std::sync::Arc;

use headroom_proto::v1::forecast_service_server::ForecastService;
use headroom_proto::v1::{
    Forecast, LatestForecastRequest, ListModelsRequest, ListModelsResponse, WatchForecastsRequest,
};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, async_trait};

use crate::ForecasterHandle;

/// The gRPC face of a [`ForecasterHandle`].
#[derive(Clone, Debug)]
pub struct ForecastGrpc {
    handle: ForecasterHandle,
}

impl ForecastGrpc {
    pub(crate) fn new(handle: ForecasterHandle) -> Self {
        Self { handle }
    }

    fn known(&self) -> String {
        let workloads = self.handle.workloads();
        if workloads.is_empty() { "none yet".to_owned() } else { workloads.join(", ") }
    }
}

#[async_trait]
impl ForecastService for ForecastGrpc {
    async fn latest(&self, request: Request<LatestForecastRequest>) -> Result<Response<Forecast>, Status> {
        let workload = request.into_inner().workload;
        if workload.is_empty() {
            return Err(Status::invalid_argument(format!("`workload` is empty: name one of: {}", self.known())));
        }
        let latest = self.handle.latest(&workload);
        let latest = latest.ok_or_else(|| {
            Status::not_found(format!("no forecast of workload `{workload}`; there are forecasts of: {}", self.known()))
        })?;
        Ok(Response::new(Forecast::clone(&latest)))
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
