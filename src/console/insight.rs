//! What the page shows of the planner and the forecaster beyond the topics: what would have been done beside what was, and
//! what event signals do to the load. Both are asked over gRPC when a page asks; they may run in other processes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headroom_proto::v1::actuator_service_client::ActuatorServiceClient;
use headroom_proto::v1::forecast_service_client::ForecastServiceClient;
use headroom_proto::v1::{
    Lift, LiftRange, ListLiftsRequest, ShadowRequest, ShadowResponse, ShadowUnits, ShadowWindow, SignalLift,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use super::people::{refused, sending};

const TIMEOUT: Duration = Duration::from_secs(20);
/// An answer of the forecaster or the actuator is no longer; a week of windows is 150 kB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

#[derive(Clone)]
struct Sources {
    actuator: Option<Channel>,
    forecaster: Option<Channel>,
}

#[derive(Debug, Deserialize)]
struct OfWorkload {
    workload: String,
}

/// The routes; what has no address is told as not available.
pub(crate) fn router(actuator: Option<&str>, forecaster: Option<&str>) -> Router {
    let channel = |address: &str| {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
        Some(endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT).connect_lazy())
    };
    let sources = Sources { actuator: actuator.and_then(channel), forecaster: forecaster.and_then(channel) };
    Router::new().route("/api/shadow", get(shadow)).route("/api/lifts", get(lifts)).with_state(Arc::new(sources))
}

async fn shadow(
    State(sources): State<Arc<Sources>>,
    headers: HeaderMap,
    Query(OfWorkload { workload }): Query<OfWorkload>,
) -> Response {
    let Some(channel) = sources.actuator.clone() else { return absent("console.actuator") };
    let client = ActuatorServiceClient::new(sending(&headers).over(channel));
    let asked = ShadowRequest { workload, since_us: i64::MIN };
    match client.max_decoding_message_size(MAX_ANSWER).shadow(asked).await {
        Ok(told) => Json(shadow_shown(&told.into_inner())).into_response(),
        Err(status) => Json(refused(&status)).into_response(),
    }
}

async fn lifts(
    State(sources): State<Arc<Sources>>,
    headers: HeaderMap,
    Query(OfWorkload { workload }): Query<OfWorkload>,
) -> Response {
    let Some(channel) = sources.forecaster.clone() else { return absent("console.forecaster") };
    let client = ForecastServiceClient::new(sending(&headers).over(channel));
    let asked = ListLiftsRequest { workload, ..ListLiftsRequest::default() };
    match client.max_decoding_message_size(MAX_ANSWER).list_lifts(asked).await {
        Ok(told) => {
            let lifts: Vec<Value> = told.into_inner().lifts.iter().map(lift_shown).collect();
            Json(json!({ "available": true, "lifts": lifts })).into_response()
        }
        Err(status) => Json(refused(&status)).into_response(),
    }
}

fn absent(setting: &str) -> Response {
    let problem = format!("it runs in another process: set {setting} to its HOST:PORT");
    Json(json!({ "available": false, "problem": problem })).into_response()
}

/// Windows in which nothing changes are left out; the first and the last stay.
fn shadow_shown(shadow: &ShadowResponse) -> Value {
    let last = shadow.windows.last().map(|window| window.end_us);
    let mut before: Option<&ShadowWindow> = None;
    let mut steps = Vec::new();
    for window in &shadow.windows {
        let is_same = before.is_some_and(|before| (before.was, before.would) == (window.was, window.would));
        if !is_same || Some(window.end_us) == last {
            let (was, would) = (units(window.was), units(window.would));
            steps.push(json!({ "end": millis(window.end_us), "load": window.load, "was": was, "would": would }));
        }
        before = Some(window);
    }
    json!({
        "available": true, "stage": shadow.stage, "method": shadow.method, "window": millis(shadow.window_us),
        "violation_minutes": [shadow.violation_minutes_was, shadow.violation_minutes_would],
        "unit_hours": [shadow.unit_hours_was, shadow.unit_hours_would], "steps": steps,
    })
}

fn units(units: Option<ShadowUnits>) -> Value {
    let ShadowUnits { ready, paid, violated } = units.unwrap_or_default();
    json!([ready, paid, violated])
}

fn lift_shown(lift: &SignalLift) -> Value {
    let range = |range: Option<LiftRange>| {
        let LiftRange { lift, low, high } = range.unwrap_or_default();
        json!([lift, low, high])
    };
    json!({
        "id": lift.signal_id, "kind": lift.kind, "name": lift.name, "weight": lift.weight,
        "starts": millis(lift.starts_at_us), "ends": millis(lift.ends_at_us), "peak": range(lift.peak),
        "window": range(lift.window), "observed": lift.observed.map(|Lift { peak, window }| json!([peak, window])),
        "unlike": lift.unlike, "past": lift.past_events,
    })
}

fn millis(micros: i64) -> i64 {
    micros.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_in_which_nothing_changes_are_left_out() {
        let units = |ready| Some(ShadowUnits { ready, paid: ready, violated: false });
        let window = |step: i64, was, would| ShadowWindow { end_us: step * 300_000_000, load: 1.5, was, would };
        let windows = vec![
            window(1, units(1), units(1)),
            window(2, units(1), units(1)),
            window(3, units(1), units(2)),
            window(4, units(1), units(2)),
            window(5, units(1), units(2)),
        ];
        let shadow = ShadowResponse { windows, window_us: 300_000_000, unit_hours_would: 0.75, ..Default::default() };
        let told = shadow_shown(&shadow);
        let ends: Vec<i64> =
            told["steps"].as_array().expect("steps").iter().filter_map(|s| s["end"].as_i64()).collect();
        assert_eq!(ends, [300_000, 900_000, 1_500_000]);
        assert_eq!(told["steps"][1]["would"], json!([2, 2, false]));
        assert_eq!(told["unit_hours"], json!([0.0, 0.75]));
    }

    #[test]
    fn a_lift_carries_its_interval_and_what_came() {
        let lift = SignalLift {
            signal_id: "m2".to_owned(),
            peak: Some(LiftRange { lift: 2.2, low: 1.5, high: 3.1 }),
            observed: Some(Lift { peak: 2.0, window: 1.5 }),
            past_events: 7,
            ..SignalLift::default()
        };
        let told = lift_shown(&lift);
        assert_eq!((&told["peak"], &told["observed"]), (&json!([2.2, 1.5, 3.1]), &json!([2.0, 1.5])));
        assert_eq!((&told["past"], &told["window"]), (&json!(7), &json!([0.0, 0.0, 0.0])));
        assert_eq!(lift_shown(&SignalLift::default())["observed"], Value::Null);
    }

    #[tokio::test]
    async fn what_has_no_address_says_which_setting_names_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        // An actuator that is not there, and no forecaster.
        let routes = router(Some("127.0.0.1:1"), None);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        for (path, said) in [("shadow", "connect"), ("lifts", "console.forecaster")] {
            let response = reqwest::get(format!("{url}/api/{path}?workload=shop")).await.expect("answers");
            let told: Value = response.json().await.expect("JSON");
            assert_eq!(told["available"], false);
            assert!(told["problem"].as_str().is_some_and(|problem| problem.contains(said)), "{path}: {told}");
        }
    }
}
