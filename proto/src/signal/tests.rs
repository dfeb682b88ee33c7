use bytes::Bytes;
use serde_json::{Value, json};

use super::*;

fn announced(data: Value) -> Vec<u8> {
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/marketing", "type": "io.headroom.signal.announced.v1",
        "subject": "black-friday", "time": "2026-11-01T00:00:00Z", "data": data,
    });
    event.to_string().into_bytes()
}

fn valid() -> Value {
    json!({ "revision": 3, "kind": "sale", "starts_at": "2026-11-27T08:00:00Z", "ends_at": "2026-11-27T20:00:00+01:00",
        "audience_size": 120_000, "expected_response_ratio": 0.04, "name": "Black Friday" })
}

#[test]
fn an_event_comes_back_equal_in_both_modes() {
    let signal = from_structured(&announced(valid()), EventTime::MIN).expect("valid");
    assert_eq!(signal.signal_id, "black-friday");
    assert_eq!(signal.announced_at_us, EventTime::parse("2026-11-01").expect("a date").micros());
    let event = to_event(&signal, "/headroom").expect("builds");
    let structured = serde_json::to_vec(&event).expect("serialises");
    assert_eq!(from_structured(&structured, EventTime::MIN).expect("valid"), signal);
    let headers: Vec<(String, Bytes)> =
        binary_headers(&event).into_iter().map(|(name, value)| (name, value.into())).collect();
    let Some(Data::Json(data)) = event.data() else { unreachable!("to_event writes JSON") };
    assert_eq!(from_record(&headers, data.to_string().as_bytes(), EventTime::MIN).expect("valid"), signal);
}

#[test]
fn a_cancellation_is_not_known_before_it_was_told() {
    let told = |event_type: &str| {
        let mut data = valid();
        data["announced_at"] = json!("2026-10-01T00:00:00Z");
        let text = String::from_utf8(announced(data)).expect("text").replace("announced.v1", event_type);
        from_structured(text.as_bytes(), EventTime::MIN).expect("valid").announced_at_us
    };
    let day = |text: &str| EventTime::parse(text).expect("a date").micros();
    assert_eq!(told("announced.v1"), day("2026-10-01"));
    assert_eq!(told("cancelled.v1"), day("2026-11-01"));
    assert_eq!(told("rescheduled.v1"), day("2026-11-01"));
}

#[test]
fn each_mistake_is_named() {
    for (field, value, expected) in [
        ("starts_at", json!("tomorrow"), "starts_at"),
        ("starts_at", Value::Null, "missing"),
        ("ends_at", json!("2026-11-27T08:00:00Z"), "later than starts_at"),
        ("expected_response_ratio", json!(1.5), "between 0 and 1"),
        ("weight", json!(-1), "positive"),
        ("signal_id", json!("another"), "differs"),
        ("audience_quality", json!("guess"), "exact, estimate or unknown"),
        ("audience_size", json!(-4), "data"),
    ] {
        let mut data = valid();
        data[field] = value;
        let error = from_structured(&announced(data), EventTime::MIN).expect_err(field).to_string();
        assert!(error.contains(expected), "{field}: {error}");
    }
    assert!(matches!(from_structured(b"{}", EventTime::MIN), Err(SignalError::NotCloudEvent(_))));
    let foreign = String::from_utf8(announced(valid())).expect("UTF-8").replace("headroom.signal.announced", "other");
    assert!(matches!(from_structured(foreign.as_bytes(), EventTime::MIN), Err(SignalError::Type(_))));
}
