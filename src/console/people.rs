//! What people do from the page: approve, reject, stop and resume. The console asks the actuator for it over gRPC, like any
//! client; it may run in another process.
//!
//! A request says who asks, and must be JSON from this page: another site's page cannot send that without being asked
//! first, which is answered to nobody.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use headroom_proto::v1::actuator_service_client::ActuatorServiceClient;
use headroom_proto::v1::{ApproveRequest, ListPlansRequest, PauseRequest, RejectRequest, StagesRequest, StatusRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::bearer::{Bearer, Server};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Plans that wait, at most, on the page.
const MAX_SHOWN: u32 = 100;

type Client = ActuatorServiceClient<Server>;
type Actuator = Arc<Option<Channel>>;

/// A plan that is approved or rejected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPlan {
    plan_id: String,
    /// Of the plan that was seen.
    #[serde(default)]
    plan_hash: String,
    /// Empty where a token says it.
    #[serde(default)]
    actor: String,
    #[serde(default)]
    comment: String,
}

/// A switch that is set or lifted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfWorkload {
    /// Empty for all.
    #[serde(default)]
    workload: String,
    /// Empty where a token says it.
    #[serde(default)]
    actor: String,
    #[serde(default)]
    reason: String,
}

/// The routes; without an actuator's address nothing waits and nothing can be asked.
pub(crate) fn router(actuator: Option<&str>) -> Router {
    let endpoint = actuator.and_then(|address| Endpoint::from_shared(format!("http://{address}")).ok());
    let actuator: Actuator =
        Arc::new(endpoint.map(|endpoint| endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT).connect_lazy()));
    Router::new()
        .route("/api/governance", get(governance))
        .route("/api/approve", post(approve))
        .route("/api/reject", post(reject))
        .route("/api/pause", post(pause))
        .route("/api/resume", post(resume))
        .with_state(actuator)
}

/// What waits, which stages hold and why, and what is stopped.
async fn governance(State(actuator): State<Actuator>, headers: HeaderMap) -> Response {
    let Some(channel) = actuator.as_ref().clone() else { return Json(json!({ "available": false })).into_response() };
    match governed(Client::new(sending(&headers).over(channel))).await {
        Ok(told) => Json(told).into_response(),
        Err(status) => Json(refused(&status)).into_response(),
    }
}

/// Why there is nothing to show, and whether a token would help.
pub(super) fn refused(status: &Status) -> Value {
    let needs_token = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
    json!({ "available": false, "problem": status.message(), "needs_token": needs_token })
}

/// The token of the page, passed on.
pub(super) fn sending(headers: &HeaderMap) -> Bearer {
    let header = headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    header.and_then(Bearer::of_header).unwrap_or_default()
}

async fn governed(mut client: Client) -> Result<Value, Status> {
    let request = ListPlansRequest { pending: true, limit: MAX_SHOWN, ..ListPlansRequest::default() };
    let plans = client.list_plans(request).await?.into_inner().plans;
    let stages = client.stages(StagesRequest::default()).await?.into_inner().stages;
    let stopped = client.status(StatusRequest {}).await?.into_inner().stopped;
    let waiting: Vec<Value> = plans
        .iter()
        .filter_map(|view| {
            let plan = view.plan.as_ref()?;
            Some(json!({
                "plan_id": plan.plan_id, "plan_hash": plan.plan_hash, "workload": plan.workload,
                "at": millis(plan.decided_at_us), "before": plan.units_before, "after": plan.units_now,
                "reason": plan.reason, "state_reason": view.state_reason, "approvals": view.approvals,
                "expires": millis(view.expires_at_us),
            }))
        })
        .collect();
    let stopped: Vec<Value> = stopped
        .iter()
        .map(|s| json!({ "workload": s.workload, "by": s.actor, "reason": s.reason, "warning": s.warning }))
        .collect();
    Ok(json!({ "available": true, "waiting": waiting, "stages": stages, "stopped": stopped }))
}

async fn approve(State(actuator): State<Actuator>, headers: HeaderMap, Json(asked): Json<OfPlan>) -> Response {
    let OfPlan { plan_id, plan_hash, actor, comment } = asked;
    let request = ApproveRequest { plan_id, plan_hash, actor, comment };
    ask(&actuator, &headers, |mut client| async move { client.approve(request).await }).await
}

async fn reject(State(actuator): State<Actuator>, headers: HeaderMap, Json(asked): Json<OfPlan>) -> Response {
    let request = RejectRequest { plan_id: asked.plan_id, actor: asked.actor, comment: asked.comment };
    ask(&actuator, &headers, |mut client| async move { client.reject(request).await }).await
}

async fn pause(State(actuator): State<Actuator>, headers: HeaderMap, Json(asked): Json<OfWorkload>) -> Response {
    let request = PauseRequest { workload: asked.workload, actor: asked.actor, reason: asked.reason };
    ask(&actuator, &headers, |mut client| async move { client.pause(request).await }).await
}

async fn resume(State(actuator): State<Actuator>, headers: HeaderMap, Json(asked): Json<OfWorkload>) -> Response {
    let request = PauseRequest { workload: asked.workload, actor: asked.actor, reason: asked.reason };
    ask(&actuator, &headers, |mut client| async move { client.resume(request).await }).await
}

async fn ask<T, F>(actuator: &Actuator, headers: &HeaderMap, call: impl FnOnce(Client) -> F) -> Response
where
    T: Serialize,
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    if !is_from_here(headers) {
        return (StatusCode::FORBIDDEN, "asked by the page of another site").into_response();
    }
    let Some(channel) = actuator.as_ref().clone() else {
        let message = "this console knows no actuator: set console.actuator to its HOST:PORT";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    match call(Client::new(sending(headers).over(channel))).await {
        Ok(response) => Json(response.into_inner()).into_response(),
        Err(status) => (code_of(&status), status.message().to_owned()).into_response(),
    }
}

/// Browsers say from which page a request comes; programs need not.
fn is_from_here(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, from)| Some(from) == host)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there will be is no fault of the person's")]
fn code_of(status: &Status) -> StatusCode {
    match status.code() {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn millis(micros: i64) -> i64 {
    micros.div_euclid(1_000)
}

#[cfg(test)]
mod tests;
