//! `externalscaler.ExternalScaler`, as KEDA's operator and its metrics server ask it.
//!
//! The one metric is the number of replicas that are wanted, of which one replica stands for 1: with KEDA's default kind of
//! target, `AverageValue`, the autoscaler's arithmetic then gives that number. Before the first change there is no number,
//! and the answer is an error: KEDA leaves the replicas alone then, where a zero would remove them.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use headroom_proto::externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use headroom_proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Served;
use crate::ActuatorConfig;
use crate::targets::TargetSettings;

/// The one metric.
const METRIC: &str = "headroom-replicas";
/// The key of a trigger's metadata that names the workload.
const WORKLOAD: &str = "workload";
/// How often a stream looks for a change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service: which workload is served from where.
#[derive(Clone, Debug)]
pub struct Scaler {
    served: BTreeMap<String, Served>,
    questions: Family<Asked, Counter>,
}

/// Labels of the questions; the workloads are those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    workload: String,
}

impl ActuatorConfig {
    /// The external scaler, when a workload has a target of kind `keda`; `folder` is that of [`Self::open_targets`].
    #[must_use]
    pub fn external_scaler(&self, folder: &Path, registry: &mut Registry) -> Option<ExternalScalerServer<Scaler>> {
        let of_keda =
            self.workloads.iter().filter_map(|(workload, settings)| match self.targets.get(&settings.target) {
                Some(TargetSettings::Keda(_)) => Some((workload.clone(), Served::new(&settings.target, folder))),
                _ => None,
            });
        let served: BTreeMap<String, Served> = of_keda.collect();
        if served.is_empty() {
            return None;
        }
        let questions = Family::default();
        registry.register(
            "headroom_actuate_keda_questions",
            "metrics and activity that KEDA asked for",
            questions.clone(),
        );
        Some(ExternalScalerServer::new(Scaler { served, questions }))
    }
}

impl Scaler {
    /// What the trigger's metadata means.
    fn asked(&self, object: &ScaledObjectRef) -> Result<(String, &Served), Status> {
        let who = format!("the trigger of {}/{}", object.namespace, object.name);
        let known = self.served.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let Some(workload) = object.scaler_metadata.get(WORKLOAD) else {
            return Err(Status::invalid_argument(format!("{who} must name its `{WORKLOAD}` in `metadata`: {known}")));
        };
        match self.served.get(workload) {
            Some(served) => Ok((workload.clone(), served)),
            None => {
                let problem =
                    format!("{who} names the workload `{workload}`, which has no target of kind `keda`: {known}");
                Err(Status::not_found(problem))
            }
        }
    }

    fn number(&self, object: &ScaledObjectRef) -> Result<u64, Status> {
        let (workload, served) = self.asked(object)?;
        self.questions.get_or_create(&Asked { workload: workload.clone() }).inc();
        number(&workload, served)
    }
}

fn number(workload: &str, served: &Served) -> Result<u64, Status> {
    match served.number(workload) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(Status::unavailable(format!("nothing has been decided for `{workload}` yet"))),
        Err(failure) => {
            tracing::error!(workload, problem = failure.problem, "the number that KEDA asks for cannot be read");
            Err(Status::internal("the number cannot be read; the log says why"))
        }
    }
}

fn specs() -> GetMetricSpecResponse {
    let spec = MetricSpec { metric_name: METRIC.to_owned(), target_size: 1, target_size_float: 1.0 };
    GetMetricSpecResponse { metric_specs: vec![spec] }
}

/// Says it at once, and then whenever it is different, until nobody listens. What cannot be said ends the stream, and KEDA
/// asks again.
fn follow<T: Send + 'static>(
    look: impl Fn() -> Result<u64, Status> + Send + 'static,
    say: impl Fn(u64) -> T + Send + 'static,
) -> Streamed<T> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut said = None;
        loop {
            let seen = look();
            if let Ok(now) = seen
                && said == Some(now)
            {
                tokio::select! {
                    () = sender.closed() => return,
                    () = tokio::time::sleep(LOOK_AGAIN) => continue,
                }
            }
            let is_last = seen.is_err();
            said = seen.as_ref().ok().copied();
            if sender.send(seen.map(&say)).await.is_err() || is_last {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = Streamed<IsActiveResponse>;
    type StreamMetricSpecStream = Streamed<GetMetricSpecResponse>;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let number = self.number(request.get_ref())?;
        Ok(Response::new(IsActiveResponse { result: number > 0 }))
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        self.number(request.get_ref())?;
        let (workload, served) = self.asked(request.get_ref())?;
        let served = served.clone();
        let look = move || number(&workload, &served).map(|number| number.min(1));
        Ok(Response::new(follow(look, |number| IsActiveResponse { result: number > 0 })))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        self.asked(request.get_ref())?;
        Ok(Response::new(specs()))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let request = request.into_inner();
        if request.metric_name != METRIC {
            let problem = format!("there is no metric `{}`: `{METRIC}` is the one", request.metric_name);
            return Err(Status::invalid_argument(problem));
        }
        let number = self.number(&request.scaled_object_ref.unwrap_or_default())?;
        let value = MetricValue {
            metric_name: METRIC.to_owned(),
            metric_value: i64::try_from(number).unwrap_or(i64::MAX),
            metric_value_float: f64::from(u32::try_from(number).unwrap_or(u32::MAX)),
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        self.asked(request.get_ref())?;
        // The specs never change; KEDA opens a stream that has ended again, so this one stays open.
        Ok(Response::new(follow(|| Ok(1), |_| specs())))
    }
}
