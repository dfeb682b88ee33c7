//! `/v1/signals` in the three content modes of the CloudEvents HTTP binding:
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>.

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use headroom_proto::EventTime;
use headroom_proto::signal::{STRUCTURED, SignalError, from_record, to_event};
use headroom_proto::v1::Signal;
use serde::Serialize;
use serde_json::Value;

use super::{EntryError, Incoming, SignalEntry, parse_structured};

const BATCH: &str = "application/cloudevents-batch+json";
const ORIGIN: &str = "http:/v1/signals";
/// The source of the events that `GET` gives.
const LIST_SOURCE: &str = "/headroom/signals";
const EVENT_HOW: &str = "send a CloudEvent 1.0 (specversion, id, source, type, data) as application/cloudevents+json, \
                         several as application/cloudevents-batch+json, or the data with ce- headers";

/// The answer to a request that was refused.
#[derive(Debug, Serialize)]
struct Refusal {
    /// What is wrong.
    error: String,
    /// The field that is wrong, empty when it is the whole.
    field: String,
    /// How to mend it.
    how: String,
}

pub(super) fn router(entry: SignalEntry) -> Router {
    let limit = DefaultBodyLimit::max(entry.inner.config.max_request_bytes);
    Router::new().route("/v1/signals", get(list).post(publish)).layer(limit).with_state(entry)
}

async fn list(State(entry): State<SignalEntry>) -> Response {
    let signals = match entry.inner.listing.signals().await {
        Ok(signals) => signals,
        Err(error) => return refuse(error.into()),
    };
    let events: Result<Vec<_>, _> = signals.iter().map(|signal| to_event(signal, LIST_SOURCE)).collect();
    match events {
        Ok(events) => ([(header::CONTENT_TYPE, BATCH)], Json(events).into_response().into_body()).into_response(),
        Err(error) => refuse(EntryError::Unwritable(error.to_string())),
    }
}

async fn publish(
    State(entry): State<SignalEntry>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let limit = entry.inner.config.max_request_bytes;
            return refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("more than {limit} bytes"),
                "",
                "send fewer events at once",
            );
        }
        Err(rejection) => return refusal(rejection.status(), rejection.body_text(), "", "send the whole body"),
    };
    let now = entry.now();
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let single = |signal| vec![Incoming { signal, bytes: body.clone(), origin: ORIGIN }];
    let (incoming, is_batch) = match media_type.as_str() {
        STRUCTURED => (single(parse_structured(&body, now)), false),
        BATCH => (parse_batch(&body, now), true),
        _ if headers.contains_key("ce-type") || headers.contains_key("ce-specversion") => {
            (single(parse_binary(&headers, &body, now)), false)
        }
        _ => {
            let found = format!("content-type `{content_type}` is no CloudEvent");
            return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, found, "content-type", EVENT_HOW);
        }
    };
    match entry.accept(incoming).await {
        Ok(accepted) if is_batch => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted.into_iter().next())).into_response(),
        Err(error) => refuse(error),
    }
}

/// Each element on its own, so that one that is wrong is kept alone.
fn parse_batch(body: &Bytes, now: EventTime) -> Vec<Incoming> {
    let events: Vec<Value> = match serde_json::from_slice(body) {
        Ok(events) => events,
        Err(error) => {
            let signal = Err(SignalError::NotCloudEvent(format!("not a JSON array of events: {error}")));
            return vec![Incoming { signal, bytes: body.clone(), origin: ORIGIN }];
        }
    };
    let one = |event: Value| {
        let bytes = Bytes::from(event.to_string());
        Incoming { signal: parse_structured(&bytes, now), bytes, origin: ORIGIN }
    };
    events.into_iter().map(one).collect()
}

fn parse_binary(headers: &HeaderMap, body: &Bytes, now: EventTime) -> Result<(Signal, String), SignalError> {
    let attributes: Vec<(String, Bytes)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let attribute = name.as_str().strip_prefix("ce-")?;
            Some((format!("ce_{attribute}"), Bytes::from(percent_decoded(value.as_bytes()))))
        })
        .collect();
    let attribute = |name: &str| {
        let found = attributes.iter().find(|(key, _)| key.strip_prefix("ce_") == Some(name));
        let text = found.and_then(|(_, value)| std::str::from_utf8(value).ok()).filter(|text| !text.is_empty());
        text.ok_or_else(|| SignalError::NotCloudEvent(format!("header ce-{name} is missing")))
    };
    if attribute("specversion")? != "1.0" {
        return Err(SignalError::NotCloudEvent("header ce-specversion must be 1.0".to_owned()));
    }
    attribute("id")?;
    attribute("type")?;
    let source = attribute("source")?;
    Ok((from_record(&attributes, body, now)?, source.to_owned()))
}

/// Section 3.1.3.2 of the binding: attributes outside printable ASCII are percent-encoded.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let escape = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn refuse(error: EntryError) -> Response {
    match error {
        EntryError::Invalid(error) => {
            let (field, how) = match &error {
                SignalError::NotCloudEvent(_) => ("", EVENT_HOW.to_owned()),
                SignalError::Type(_) => ("type", "use the type that fits what happened to the event".to_owned()),
                SignalError::Data(_) => (
                    "data",
                    "send signal_id, kind, starts_at, ends_at and what else is known as a JSON object".to_owned(),
                ),
                SignalError::Field { field, problem } => (*field, problem.clone()),
            };
            refusal(StatusCode::BAD_REQUEST, error.to_string(), field, &how)
        }
        EntryError::TooMany { .. } => {
            refusal(StatusCode::PAYLOAD_TOO_LARGE, error.to_string(), "", "send fewer events at once")
        }
        EntryError::Away(reason) => {
            tracing::warn!(reason, "a signal was not taken");
            refusal(StatusCode::SERVICE_UNAVAILABLE, "the broker is away".to_owned(), "", "send the signal again")
        }
        EntryError::Unwritable(reason) => {
            tracing::error!(reason, "a signal could not be written");
            let message = "the signal could not be written".to_owned();
            refusal(StatusCode::INTERNAL_SERVER_ERROR, message, "", "see the log of headroom")
        }
    }
}

fn refusal(status: StatusCode, error: String, field: &str, how: &str) -> Response {
    (status, Json(Refusal { error, field: field.to_owned(), how: how.to_owned() })).into_response()
}
