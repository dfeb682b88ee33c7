//! Event signals: CloudEvents 1.0 whose data says what will move load, when, and how much.
//!
//! `type` is `io.headroom.signal.<status>.v1`, `subject` the signal's id. On the topic a signal is a CloudEvent in the
//! JSON format (structured) or with its attributes in `ce_` headers (binary), as the Kafka protocol binding defines:
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>.

use cloudevents::event::{AttributeValue, Data};
use cloudevents::{AttributesReader, Event, EventBuilder, EventBuilderV10};
use serde::{Deserialize, Serialize};

use crate::EventTime;
use crate::v1::{AudienceQuality, Signal, SignalKind, SignalStatus};

/// Media type of a structured CloudEvent.
pub const STRUCTURED: &str = "application/cloudevents+json";
const TYPE_PREFIX: &str = "io.headroom.signal.";
const TYPE_SUFFIX: &str = ".v1";
const MAX_ID_CHARS: usize = 200;

/// What is wrong with a signal, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// Not a CloudEvent at all.
    #[error("not a CloudEvent: {0}")]
    NotCloudEvent(String),
    /// A CloudEvent of a type that is not ours.
    #[error("type `{0}` is not a signal: use io.headroom.signal.{{announced,rescheduled,cancelled,started,ended}}.v1")]
    Type(String),
    /// The data are missing or not JSON of the expected form.
    #[error("data: {0}")]
    Data(String),
    /// A field holds what it must not.
    #[error("`{field}`: {problem}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong, and what is expected.
        problem: String,
    },
}

/// The `data` of a signal's CloudEvent. Unknown fields are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct SignalData {
    signal_id: String,
    revision: u64,
    kind: String,
    starts_at: Option<String>,
    ends_at: Option<String>,
    announced_at: Option<String>,
    name: String,
    channel: String,
    audience_size: Option<u64>,
    audience_quality: Option<String>,
    send_rate_per_s: Option<f64>,
    expected_response_ratio: Option<f64>,
    weight: Option<f64>,
    workloads: Vec<String>,
}

/// Reads a signal from a CloudEvent; `received_at` stands in for an `announced_at` and a `time` that are missing.
///
/// # Errors
/// When the event is of another type, or its data are missing or out of range.
pub fn from_event(event: &Event, received_at: EventTime) -> Result<Signal, SignalError> {
    let status = status_of_type(event.ty())?;
    let data = match event.data() {
        Some(Data::Json(value)) => serde_json::from_value::<SignalData>(value.clone()),
        Some(Data::Binary(bytes)) => serde_json::from_slice(bytes),
        Some(Data::String(text)) => serde_json::from_str(text),
        None => return Err(SignalError::Data("missing: send the signal's fields as JSON".to_owned())),
    };
    let data = data.map_err(|error| SignalError::Data(error.to_string()))?;
    let event_time = event.time().map_or(received_at, |time| EventTime::from_micros(time.timestamp_micros()));
    build(data, status, event.subject(), event_time)
}

/// Reads a structured CloudEvent in JSON.
///
/// # Errors
/// As [`from_event`], and when the text is not a CloudEvent.
pub fn from_structured(json: &[u8], received_at: EventTime) -> Result<Signal, SignalError> {
    let event: Event = serde_json::from_slice(json).map_err(|error| SignalError::NotCloudEvent(error.to_string()))?;
    from_event(&event, received_at)
}

/// Reads a record of the signals topic: binary mode when a `ce_type` header is there, structured mode otherwise.
///
/// # Errors
/// As [`from_event`], and when neither mode fits.
pub fn from_record(
    headers: &[(String, bytes::Bytes)],
    value: &[u8],
    received_at: EventTime,
) -> Result<Signal, SignalError> {
    let header =
        |name: &str| headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| std::str::from_utf8(value).ok());
    let Some(event_type) = header("ce_type") else { return from_structured(value, received_at) };
    let data = serde_json::from_slice(value).map_err(|error| SignalError::Data(error.to_string()))?;
    let event_time = match header("ce_time") {
        Some(text) => EventTime::parse(text).map_err(|error| field("time", error.to_string()))?,
        None => received_at,
    };
    build(data, status_of_type(event_type)?, header("ce_subject"), event_time)
}

/// Writes a signal as a CloudEvent from `source`, a URI reference.
///
/// # Errors
/// When `source` is no URI reference.
pub fn to_event(signal: &Signal, source: &str) -> Result<Event, SignalError> {
    let text = |micros: i64| EventTime::from_micros(micros).to_string();
    let data = SignalData {
        signal_id: signal.signal_id.clone(),
        revision: signal.revision,
        kind: word(signal.kind().as_str_name(), "SIGNAL_KIND_"),
        starts_at: Some(text(signal.starts_at_us)),
        ends_at: Some(text(signal.ends_at_us)),
        announced_at: Some(text(signal.announced_at_us)),
        name: signal.name.clone(),
        channel: signal.channel.clone(),
        audience_size: signal.audience_size,
        audience_quality: Some(word(signal.audience_quality().as_str_name(), "AUDIENCE_QUALITY_")),
        send_rate_per_s: signal.send_rate_per_s,
        expected_response_ratio: signal.expected_response_ratio,
        weight: Some(signal.weight),
        workloads: signal.workloads.clone(),
    };
    let data = serde_json::to_value(data).map_err(|error| SignalError::Data(error.to_string()))?;
    EventBuilderV10::new()
        .id(format!("{}/{}", signal.signal_id, signal.revision))
        .source(source)
        .ty(format!("{TYPE_PREFIX}{}{TYPE_SUFFIX}", word(signal.status().as_str_name(), "SIGNAL_STATUS_")))
        .subject(signal.signal_id.clone())
        .time(text(signal.announced_at_us))
        .data("application/json", data)
        .build()
        .map_err(|error| SignalError::NotCloudEvent(error.to_string()))
}

/// Checks a signal however it came in: ids, times in order, ratios and weights in range.
///
/// # Errors
/// Names the first field that is out of range.
pub fn validate(signal: Signal) -> Result<Signal, SignalError> {
    if signal.signal_id.trim().is_empty() || signal.signal_id.chars().count() > MAX_ID_CHARS {
        return Err(field("signal_id", format!("must have 1 to {MAX_ID_CHARS} characters")));
    }
    if signal.ends_at_us <= signal.starts_at_us {
        return Err(field("ends_at", "must be later than starts_at".to_owned()));
    }
    if signal.expected_response_ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
        return Err(field("expected_response_ratio", "must be between 0 and 1".to_owned()));
    }
    if !(signal.weight.is_finite() && signal.weight > 0.0) {
        return Err(field("weight", "must be a positive number; 1 is an ordinary event".to_owned()));
    }
    if signal.send_rate_per_s.is_some_and(|rate| !(rate.is_finite() && rate >= 0.0)) {
        return Err(field("send_rate_per_s", "must not be negative".to_owned()));
    }
    Ok(signal)
}

/// The kind of that name; unknown words are `other`.
#[must_use]
pub fn kind_of(word: &str) -> SignalKind {
    SignalKind::from_str_name(&format!("SIGNAL_KIND_{}", word.trim().to_ascii_uppercase())).unwrap_or(SignalKind::Other)
}

/// The kind as it is written in events: `campaign`, `match`, ...
#[must_use]
pub fn kind_word(kind: SignalKind) -> String {
    word(kind.as_str_name(), "SIGNAL_KIND_")
}

fn build(
    data: SignalData,
    status: SignalStatus,
    subject: Option<&str>,
    event_time: EventTime,
) -> Result<Signal, SignalError> {
    let signal_id = match (data.signal_id.is_empty(), subject) {
        (true, Some(subject)) => subject.to_owned(),
        (false, Some(subject)) if subject != data.signal_id => {
            return Err(field(
                "subject",
                format!("`{subject}` differs from the data's signal_id `{}`", data.signal_id),
            ));
        }
        _ => data.signal_id,
    };
    let starts_at_us = required_time("starts_at", data.starts_at.as_deref())?;
    let ends_at_us = required_time("ends_at", data.ends_at.as_deref())?;
    let announced_at_us = match data.announced_at.as_deref() {
        Some(text) => required_time("announced_at", Some(text))?,
        None => event_time.micros(),
    };
    // A change is known from when it was told, whatever its sender repeats of the first announcement.
    let is_change = status != SignalStatus::Announced;
    let announced_at_us = if is_change { announced_at_us.max(event_time.micros()) } else { announced_at_us };
    let quality = data.audience_quality.as_deref().unwrap_or("unknown").to_ascii_uppercase();
    let audience_quality = AudienceQuality::from_str_name(&format!("AUDIENCE_QUALITY_{quality}"))
        .ok_or_else(|| field("audience_quality", "must be exact, estimate or unknown".to_owned()))?;
    validate(Signal {
        signal_id,
        revision: data.revision,
        kind: kind_of(&data.kind).into(),
        status: status.into(),
        starts_at_us,
        ends_at_us,
        announced_at_us,
        name: data.name,
        channel: data.channel,
        audience_size: data.audience_size,
        audience_quality: audience_quality.into(),
        send_rate_per_s: data.send_rate_per_s,
        expected_response_ratio: data.expected_response_ratio,
        weight: data.weight.unwrap_or(1.0),
        workloads: data.workloads,
    })
}

fn status_of_type(event_type: &str) -> Result<SignalStatus, SignalError> {
    event_type
        .strip_prefix(TYPE_PREFIX)
        .and_then(|rest| rest.strip_suffix(TYPE_SUFFIX))
        .and_then(|status| SignalStatus::from_str_name(&format!("SIGNAL_STATUS_{}", status.to_ascii_uppercase())))
        .filter(|status| *status != SignalStatus::Unspecified)
        .ok_or_else(|| SignalError::Type(event_type.to_owned()))
}

fn required_time(name: &'static str, text: Option<&str>) -> Result<i64, SignalError> {
    let text = text.ok_or_else(|| field(name, "missing: write RFC 3339, such as 2026-11-27T08:00:00Z".to_owned()))?;
    EventTime::parse(text).map(EventTime::micros).map_err(|error| field(name, error.to_string()))
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

fn field(field: &'static str, problem: String) -> SignalError {
    SignalError::Field { field, problem }
}

/// The headers of a CloudEvent in binary mode, for producers that want them: `ce_id`, `ce_type`, `ce_source`, ...
#[must_use]
pub fn binary_headers(event: &Event) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in event.iter() {
        let value = match value {
            AttributeValue::SpecVersion(version) => version.to_string(),
            AttributeValue::String(text) => text.to_owned(),
            AttributeValue::URI(uri) => uri.to_string(),
            AttributeValue::URIRef(uri) => uri.to_string(),
            AttributeValue::Boolean(flag) => flag.to_string(),
            AttributeValue::Integer(number) => number.to_string(),
            AttributeValue::Time(time) => time.to_rfc3339(),
            AttributeValue::Binary(_) => continue,
        };
        let name = if name == "datacontenttype" { "content-type".to_owned() } else { format!("ce_{name}") };
        headers.push((name, value));
    }
    headers
}

#[cfg(test)]
mod tests;
