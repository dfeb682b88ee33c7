//! Tells what is derived to who asks over gRPC, and keeps it in the table `derived`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::array::{ArrayRef, Date32Array, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use headroom_ingest_lake::{Commit, Lake, Table, date_of};
use headroom_proto::v1::outlook_service_server::{OutlookService, OutlookServiceServer};
use headroom_proto::v1::{DeriveRequest, DeriveResponse, Derived, DerivedStep};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

use super::{derive, sources};
use crate::config::Config;
use crate::lake_command::told;

/// Outlooks are looked for so often, by the wall clock.
const LOOK: Duration = Duration::from_secs(60);

/// The gRPC face.
#[derive(Clone)]
pub(crate) struct DerivedGrpc {
    lake: Arc<Lake>,
    config: Arc<Config>,
}

impl DerivedGrpc {
    /// The gRPC service over a lake.
    pub(crate) fn server(lake: Arc<Lake>, config: Arc<Config>) -> OutlookServiceServer<Self> {
        OutlookServiceServer::new(Self { lake, config })
    }
}

#[async_trait]
impl OutlookService for DerivedGrpc {
    async fn derive(&self, request: Request<DeriveRequest>) -> Result<Response<DeriveResponse>, Status> {
        let workload = request.into_inner().workload;
        let derived = derive(&self.lake, &self.config, &workload).await;
        let derived = derived.map_err(|error| {
            tracing::warn!(workload, error = format!("{error:#}"), "cannot derive");
            Status::internal("the lake cannot be read: the log says why")
        })?;
        let unknown = || Status::not_found(format!("the lake has no outlook of workload `{workload}` yet"));
        Ok(Response::new(DeriveResponse { derived: derived.ok_or_else(unknown)? }))
    }
}

/// Adds to the table `derived` as outlooks come, until told to stop. What fails is tried again.
pub(crate) async fn keep_up(lake: Arc<Lake>, config: Arc<Config>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let kept = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            kept = keep(&lake, &config) => kept,
        };
        if let Err(error) = kept {
            tracing::warn!(error = format!("{error:#}"), "cannot derive, trying again");
        }
    }
}

/// One look: every workload whose newest outlook is far enough behind the one that was derived from.
pub(super) async fn keep(lake: &Lake, config: &Config) -> anyhow::Result<usize> {
    let newest = sources::origins(lake, Table::Outlooks).await?;
    let done = sources::origins(lake, Table::Derived).await?;
    let every_us = config.derived.every.micros();
    let due = newest.iter().filter(|(workload, origin_us)| {
        done.get(*workload).is_none_or(|done_us| done_us.saturating_add(every_us) <= **origin_us)
    });
    let mut kept = 0;
    for (workload, origin_us) in due {
        let Some(derived) = derive(lake, config, workload).await? else { continue };
        let batches = derived.iter().map(|one| rows(one, *origin_us)).collect::<anyhow::Result<Vec<_>>>()?;
        // A position makes a repeat, by another program too, be skipped.
        let commit = Commit { positions: [(format!("derived:{workload}"), *origin_us)].into() };
        lake.append(Table::Derived, batches, commit).await.map_err(told)?;
        kept += 1;
    }
    Ok(kept)
}

/// A row for each step, or one for an abstention. `origin` is that of the outlook, also where the steps are days.
fn rows(derived: &Derived, origin_us: i64) -> anyhow::Result<RecordBatch> {
    let abstention = [DerivedStep { at_us: derived.origin_us, low: f64::NAN, middle: f64::NAN, high: f64::NAN }];
    let steps: &[DerivedStep] = if derived.steps.is_empty() { &abstention } else { &derived.steps };
    let rows = steps.len();
    let text = |value: &str| -> ArrayRef {
        if value.is_empty() {
            Arc::new(StringArray::new_null(rows))
        } else {
            Arc::new(StringArray::new_repeated(value, rows))
        }
    };
    let number = |of: fn(&DerivedStep) -> f64| -> ArrayRef {
        // What is beyond the capacity is null, as what is not known; `finding` tells which.
        Arc::new(steps.iter().map(|step| Some(of(step)).filter(|value| value.is_finite())).collect::<Float64Array>())
    };
    #[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
    let step_s = derived.step_us as f64 / 1e6;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from_value(date_of(origin_us), rows)),
        text(&derived.workload),
        text(&derived.quantity),
        text(&derived.unit),
        Arc::new(TimestampMicrosecondArray::from_value(origin_us, rows).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from_iter_values(steps.iter().map(|step| step.at_us)).with_timezone("UTC")),
        Arc::new(Float64Array::from_value(step_s, rows)),
        number(|step| step.low),
        number(|step| step.middle),
        number(|step| step.high),
        text(&derived.rests_on),
        text(&derived.finding),
        text(&derived.abstains),
    ];
    RecordBatch::try_new(Table::Derived.schema(), columns).context("rows of what is derived")
}
