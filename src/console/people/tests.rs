//! Requests of the page at a real actuator, over gRPC and an embedded broker.

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use headroom_actuator::targets::simulated::{SimulatedConfig, SimulatedTarget};
use headroom_actuator::{ActuatorConfig, ActuatorService, Target};
use headroom_ingest_broker::embedded::Embedded;
use headroom_ingest_broker::{Broker, BrokerConfig, Record};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Forecast, Verdict};
use headroom_proto::{Clock, EventTime, Message, Span, codec, schema};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);
/// A Monday, 00:05 UTC: the end of the one window.
const END_US: i64 = 894_845_100_000_000;

/// An actuator with one plan that waits, and the page's routes over it.
struct Ground {
    url: String,
    shutdown: CancellationToken,
    _embedded: Embedded,
    _folder: tempfile::TempDir,
}

impl Ground {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("a broker");
        let settings = BrokerConfig { partitions: 1, linger_ms: 0, ..BrokerConfig::default() };
        let broker = Broker::new(embedded.bootstrap_servers(), &settings);
        broker.ensure_topics().await.expect("topics");
        broker.producer().expect("a producer").send_all(vec![forecast(), window()]).await.expect("sent");

        let file = folder.path().join("target.json");
        let target: Arc<dyn Target> =
            Arc::new(SimulatedTarget::open(SimulatedConfig::default(), &file).expect("a target"));
        let (config, registry) = (ActuatorConfig::default(), &mut Registry::default());
        let made = ActuatorService::new(config, broker, Clock::replay(), target, registry);
        let (service, handle) = made.expect("legal settings");
        let shutdown = CancellationToken::new();
        tokio::spawn(service.run(shutdown.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let actuator = listener.local_addr().expect("an address").to_string();
        let server = tonic::transport::Server::builder().add_service(handle.grpc());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let url = serve_over(Some(&actuator)).await;
        Self { url, shutdown, _embedded: embedded, _folder: folder }
    }

    async fn told(&self) -> Value {
        let response = reqwest::get(format!("{}/api/governance", self.url)).await.expect("answers");
        response.json().await.expect("JSON")
    }

    /// Waits until that is told.
    async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            let told = self.told().await;
            if is_so(&told) {
                return told;
            }
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}: {told}");
            ticks.tick().await;
        }
    }

    async fn post(&self, path: &str, body: Value) -> (u16, String) {
        let sent = reqwest::Client::new().post(format!("{}/api/{path}", self.url)).json(&body).send();
        let response = sent.await.expect("answers");
        (response.status().as_u16(), response.text().await.expect("text"))
    }
}

async fn serve_over(actuator: Option<&str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let router = router(actuator);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn forecast() -> Record {
    let mut forecast = Forecast {
        workload: "shop".to_owned(),
        target: "requests_per_s".to_owned(),
        origin_us: END_US,
        step_us: Span::from_mins(5).micros(),
        levels: vec![0.5, 0.9],
        values: vec![300.0; 24],
        ..Forecast::default()
    };
    forecast.set_verdict(Verdict::Fresh);
    Record::new(Topic::Forecasts, forecast.encode_to_vec()).key("shop").time(EventTime::from_micros(END_US))
}

fn window() -> Record {
    let mut fields = schema::window_envelope();
    fields.push(Field::new("requests_per_s", DataType::Float64, true));
    let schema = Arc::new(Schema::new(fields));
    let at = |us: i64| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC")) };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["load"])),
        Arc::new(Int32Array::from(vec![300])),
        at(END_US - 300_000_000),
        at(END_US),
        Arc::new(StringArray::from(vec!["shop"])),
        Arc::new(Int32Array::from(vec![0])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Float64Array::from(vec![50.0])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("the columns fit");
    let bytes = codec::encode_stream(&schema, &[batch]).expect("encodes");
    Record::new(Topic::Windows, bytes.to_vec()).key("shop").time(EventTime::from_micros(END_US))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_approve_what_they_see_and_stop_and_resume_automation() {
    let ground = Ground::new().await;
    let told = ground.until("a plan waits", |told| told["waiting"].as_array().is_some_and(|all| all.len() == 1)).await;
    let plan = &told["waiting"][0];
    assert_eq!((&plan["workload"], &plan["before"], &plan["after"]), (&json!("shop"), &json!(1), &json!(5)));
    assert_eq!(told["stages"][0]["stage"], "recommend");

    let (status, body) = ground.post("pause", json!({ "actor": "bob", "reason": "a drill" })).await;
    assert_eq!(status, 200, "{body}");
    let told = ground.until("it is stopped", |told| told["stopped"] != json!([])).await;
    assert_eq!(told["stopped"], json!([{ "workload": "", "by": "bob", "reason": "a drill", "warning": "" }]));
    assert_eq!(ground.post("resume", json!({ "actor": "bob" })).await.0, 200);
    ground.until("it is on", |told| told["stopped"] == json!([])).await;

    let nobody = json!({ "plan_id": plan["plan_id"], "plan_hash": plan["plan_hash"], "actor": " " });
    assert_eq!(ground.post("approve", nobody).await.0, 400);
    let changed = json!({ "plan_id": plan["plan_id"], "plan_hash": "of another", "actor": "bob" });
    let (status, body) = ground.post("approve", changed).await;
    assert_eq!(status, 409, "{body}");
    assert!(body.contains("changed since"), "{body}");
    let approval =
        json!({ "plan_id": plan["plan_id"], "plan_hash": plan["plan_hash"], "actor": "bob", "comment": "fine" });
    let (status, body) = ground.post("approve", approval.clone()).await;
    assert_eq!(status, 200, "{body}");
    ground.until("nothing waits", |told| told["waiting"] == json!([])).await;
    assert_eq!(ground.post("approve", approval).await.0, 409, "it waits no more");
    assert_eq!(ground.post("reject", json!({ "plan_id": "nothing", "actor": "bob" })).await.0, 404);
    ground.shutdown.cancel();
}

#[tokio::test]
async fn pages_of_other_sites_and_forms_are_refused() {
    let url = serve_over(Some("127.0.0.1:1")).await;
    let client = reqwest::Client::new();
    let body = json!({ "plan_id": "p1", "plan_hash": "h1", "actor": "bob" });
    let foreign = client.post(format!("{url}/api/approve")).header("origin", "https://evil.example.org").json(&body);
    assert_eq!(foreign.send().await.expect("answers").status(), 403);
    let form = client.post(format!("{url}/api/approve")).header("content-type", "text/plain").body(body.to_string());
    assert_eq!(form.send().await.expect("answers").status(), 415);
    // That of this page goes on, to an actuator that is not there.
    let own = client.post(format!("{url}/api/approve")).header("origin", url.as_str()).json(&body);
    assert_eq!(own.send().await.expect("answers").status(), 503);
    let told: Value = reqwest::get(format!("{url}/api/governance")).await.expect("answers").json().await.expect("JSON");
    assert_eq!(told["available"], false, "told, and no error of the page");
}

#[tokio::test]
async fn without_an_actuator_nothing_waits_and_nothing_can_be_asked() {
    let url = serve_over(None).await;
    let told: Value = reqwest::get(format!("{url}/api/governance")).await.expect("answers").json().await.expect("JSON");
    assert_eq!(told, json!({ "available": false }));
    let client = reqwest::Client::new();
    let asked = client.post(format!("{url}/api/pause")).json(&json!({ "actor": "bob" })).send().await.expect("answers");
    assert_eq!(asked.status(), 503);
}
