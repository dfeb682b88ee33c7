//! The routes of the console. The page loads nothing from another host and runs no inline code.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::Shared;
use super::page;
use super::stream::{Follower, Told};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// Asks again whether it has changed, so that a newer program shows its own page.
const ASK_AGAIN: &str = "no-cache";
const KEEP_A_DAY: &str = "max-age=86400";

/// Our own parts of the page: path, media type, text.
const PARTS: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/console.css", "text/css; charset=utf-8", include_str!("console.css")),
    ("/console.js", SCRIPT, include_str!("console.js")),
    ("/chart.js", SCRIPT, include_str!("chart.js")),
    ("/series.js", SCRIPT, include_str!("series.js")),
    ("/panels.js", SCRIPT, include_str!("panels.js")),
    ("/insight.js", SCRIPT, include_str!("insight.js")),
    ("/people.js", SCRIPT, include_str!("people.js")),
    ("/scoreboard.js", SCRIPT, include_str!("scoreboard.js")),
];

/// Plotly's JavaScript, out of the crate that carries it as a script element.
static PLOTLY: LazyLock<Bytes> = LazyLock::new(|| {
    let elements = plotly::Plot::offline_js_sources();
    let script = elements.split_once('>').and_then(|(_, rest)| rest.split_once("</script>")).map(|(script, _)| script);
    Bytes::copy_from_slice(script.unwrap_or_default().as_bytes())
});

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for (path, media_type, text) in PARTS {
        router = router.route(path, get(move || async move { asset(media_type, ASK_AGAIN, text.as_bytes().into()) }));
    }
    router
        .route("/plotly.js", get(|| async { asset(SCRIPT, KEEP_A_DAY, PLOTLY.clone()) }))
        .route("/api/state", get(snapshot))
        .route("/api/events", get(events))
        .with_state(shared)
}

fn asset(media_type: &'static str, caching: &'static str, body: Bytes) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn snapshot(State(shared): State<Arc<Shared>>, Query(query): Query<page::Query>) -> Response {
    match query.request(None, &shared.run, shared.config.history) {
        Ok(request) => Json(Told::new(&shared, &request).0).into_response(),
        Err(problem) => refusal(StatusCode::BAD_REQUEST, problem),
    }
}

async fn events(State(shared): State<Arc<Shared>>, headers: HeaderMap, Query(query): Query<page::Query>) -> Response {
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let request = match query.request(last_event_id, &shared.run, shared.config.history) {
        Ok(request) => request,
        Err(problem) => return refusal(StatusCode::BAD_REQUEST, problem),
    };
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "console.streams_limit is reached: close another page");
    };
    let follower = Follower::new(shared, request, permit);
    Sse::new(follower.events()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn refusal(status: StatusCode, problem: impl Into<Cow<'static, str>>) -> Response {
    (status, problem.into()).into_response()
}

#[cfg(test)]
mod tests;
