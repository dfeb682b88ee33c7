use headroom_proto::headers;
use headroom_proto::topics::Topic;
use headroom_proto::v1::signal_service_server::SignalService;
use headroom_proto::v1::{ListSignalsRequest, PublishSignalRequest};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::test_broker::TestBroker;

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

struct Served {
    broker: TestBroker,
    entry: SignalEntry,
    url: String,
    client: reqwest::Client,
}

impl Served {
    async fn start() -> Self {
        let broker = TestBroker::start().await;
        let config = SignalEntryConfig { max_request_bytes: 4_096, max_batch_events: 3, acknowledge_timeout_ms: 5_000 };
        let entry =
            SignalEntry::new(config, broker.broker.clone(), Clock::Wall, &mut Registry::default()).expect("connects");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}/v1/signals", listener.local_addr().expect("an address"));
        let router = entry.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { broker, entry, url, client: reqwest::Client::new() }
    }

    async fn post(&self, headers: &[(&str, &str)], body: String) -> (StatusCode, Value) {
        let mut request = self.client.post(&self.url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("answers");
        (answer.status(), answer.json().await.expect("JSON"))
    }

    async fn post_event(&self, event: &Value) -> (StatusCode, Value) {
        self.post(&[("content-type", STRUCTURED)], event.to_string()).await
    }

    async fn listed(&self) -> Vec<Value> {
        let answer = self.client.get(&self.url).send().await.expect("answers");
        assert_eq!(answer.headers()["content-type"], BATCH);
        answer.json().await.expect("events")
    }
}

fn data() -> Value {
    json!({ "kind": "sale", "starts_at": "2026-11-27T08:00:00Z", "ends_at": "2026-11-27T20:00:00Z", "name": "Black Friday" })
}

fn event(id: &str, revision: u64) -> Value {
    let mut data = data();
    data["revision"] = json!(revision);
    json!({ "specversion": "1.0", "id": "1", "source": "/marketing", "type": "io.headroom.signal.announced.v1",
            "subject": id, "time": "2026-11-01T00:00:00Z", "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_come_in_by_http_in_every_mode() {
    let served = Served::start().await;
    let (status, answer) = served.post_event(&event("friday", 2)).await;
    assert_eq!((status, answer), (StatusCode::ACCEPTED, json!({ "signal_id": "friday", "revision": 2 })));
    // A repeat and an older revision are normal input.
    assert_eq!(served.post_event(&event("friday", 2)).await.0, StatusCode::ACCEPTED);
    assert_eq!(served.post_event(&event("friday", 1)).await.0, StatusCode::ACCEPTED);

    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/marketing"),
        ("ce-type", "io.headroom.signal.cancelled.v1"),
        ("ce-subject", "caf%C3%A9"),
        ("ce-time", "2026-11-01T00:00:00Z"),
    ];
    let (status, answer) = served.post(&headers, data().to_string()).await;
    assert_eq!((status, answer), (StatusCode::ACCEPTED, json!({ "signal_id": "café", "revision": 0 })));

    let batch = json!([event("one", 1), event("two", 1)]).to_string();
    let (status, answer) =
        served.post(&[("content-type", "application/cloudevents-batch+json; charset=utf-8")], batch).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(answer, json!([{ "signal_id": "one", "revision": 1 }, { "signal_id": "two", "revision": 1 }]));

    let listed = served.listed().await;
    let ids: Vec<(&str, u64)> = listed
        .iter()
        .map(|event| (event["subject"].as_str().expect("an id"), event["data"]["revision"].as_u64().expect("a number")))
        .collect();
    assert_eq!(ids, [("café", 0), ("friday", 2), ("one", 1), ("two", 1)]);
    assert_eq!(listed[0]["type"], "io.headroom.signal.cancelled.v1");
    assert_eq!(served.broker.records(Topic::Signals).await.len(), 6);
    assert!(served.broker.records(Topic::DeadLetter).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_and_kept() {
    let served = Served::start().await;
    let mut wrong = event("friday", 1);
    wrong["data"]["ends_at"] = json!("2026-11-01T00:00:00Z");
    let (status, answer) = served.post_event(&wrong).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["field"], "ends_at");
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("later than starts_at")), "{answer}");
    assert!(answer["how"].is_string());

    let (status, _) = served.post(&[("content-type", STRUCTURED)], "not JSON".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) =
        served.post(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-type", "x")], "{}".to_owned()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("ce-source")), "{answer}");
    // One that is wrong spoils its batch, and it alone is kept.
    let batch = json!([event("one", 1), wrong]).to_string();
    assert_eq!(served.post(&[("content-type", BATCH)], batch).await.0, StatusCode::BAD_REQUEST);

    let letters = served.broker.records(Topic::DeadLetter).await;
    let bytes: Vec<&[u8]> = letters.iter().map(|letter| letter.value.as_ref()).collect();
    let kept = wrong.to_string();
    assert_eq!(bytes, [kept.as_bytes(), b"not JSON", b"{}", kept.as_bytes()]);
    assert_eq!(letters[0].header(headers::DEAD_ORIGIN), Some("http:/v1/signals"));
    assert_eq!(letters[0].header(headers::DEAD_REASON), Some("`ends_at`: must be later than starts_at"));
    assert!(served.broker.records(Topic::Signals).await.is_empty());

    let too_many = json!([event("1", 1), event("2", 1), event("3", 1), event("4", 1)]).to_string();
    assert_eq!(served.post(&[("content-type", BATCH)], too_many).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, answer) = served.post(&[("content-type", STRUCTURED)], "x".repeat(5_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer["error"].as_str().is_some_and(|error| error.contains("4096")), "{answer}");
    assert_eq!(
        served.post(&[("content-type", "text/plain")], "hello".to_owned()).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_come_in_by_grpc() {
    let served = Served::start().await;
    let publish =
        |event: String| served.entry.publish(tonic::Request::new(PublishSignalRequest { cloud_event_json: event }));
    let answer = publish(event("friday", 3).to_string()).await.expect("taken").into_inner();
    assert_eq!((answer.signal_id.as_str(), answer.revision), ("friday", 3));
    let refused = publish("{}".to_owned()).await.expect_err("no event");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let listed = served.entry.list(tonic::Request::new(ListSignalsRequest {})).await.expect("answers").into_inner();
    assert_eq!(listed.signals.len(), 1);
    assert_eq!(listed.signals[0].name, "Black Friday");
    assert_eq!(served.broker.records(Topic::DeadLetter).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_the_sender_is_told_to_come_back() {
    let broker = TestBroker::start().await;
    let config = SignalEntryConfig { acknowledge_timeout_ms: 300, ..SignalEntryConfig::default() };
    let entry =
        SignalEntry::new(config, broker.broker.clone(), Clock::Wall, &mut Registry::default()).expect("connects");
    let _folder = broker.stop().await;
    let request = PublishSignalRequest { cloud_event_json: event("friday", 1).to_string() };
    let refused = entry.publish(tonic::Request::new(request)).await.expect_err("nobody acknowledges");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
}
