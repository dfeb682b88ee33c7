//! The listeners: HTTP for people and marketing systems, gRPC for programs, Flight SQL for planners.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

use crate::auth::{self, Auth};
use crate::cli::UserError;
use crate::telemetry::{Metrics, OPEN_METRICS};

/// Binds a listener; a port in use is the user's to mend.
pub(crate) async fn bind(address: &str, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        UserError::new(format!(
            "cannot listen on {address}: {error}: choose another with `{key}` (port 0 takes a free one)"
        ))
    })
}

/// `/metrics` and `/healthz`.
pub(crate) fn operations(metrics: Metrics) -> Router {
    let text = move || async move {
        match metrics.text() {
            Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    Router::new().route("/metrics", get(text)).route("/healthz", get(|| async { "ok\n" }))
}

/// Serves HTTP until shutdown; event streams that are open then are cut after a second.
pub(crate) async fn http(listener: TcpListener, router: Router, shutdown: CancellationToken) -> anyhow::Result<()> {
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        outcome = async { server.await } => outcome.context("the HTTP listener failed"),
        () = grace_after(shutdown) => Ok(()),
    }
}

/// Serves gRPC with health and reflection until shutdown; with `auth`, to those whose token gives them the role.
pub(crate) async fn grpc(
    listener: TcpListener,
    routes: Routes,
    auth: Option<Auth>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(headroom_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = routes
        .add_service(health_service)
        .add_service(reflection().build_v1().context("gRPC reflection")?)
        // Most clients still ask for the version before.
        .add_service(reflection().build_v1alpha().context("gRPC reflection")?);
    let routes = match auth {
        None => routes,
        Some(auth) => {
            let guard = axum::middleware::from_fn_with_state(Arc::new(auth), auth::guard);
            Routes::from(routes.into_axum_router().layer(guard))
        }
    };
    let server = tonic::transport::Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), shutdown.clone().cancelled_owned());
    tokio::select! {
        outcome = server => outcome.context("the gRPC listener failed"),
        () = grace_after(shutdown) => Ok(()),
    }
}

async fn grace_after(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
}

/// The address that a listener got.
pub(crate) fn address_of(listener: &TcpListener) -> anyhow::Result<SocketAddr> {
    listener.local_addr().context("reading a listener's address")
}
