//! A web service that keeps its side of the contract, and checks every signature.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use headroom_actuator::{Fault, Target};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::contract::{self, Bench, Pace, TIMEOUT, Trouble, WORKLOAD};
use super::tap::{Tap, Way};

/// The example key of the Standard Webhooks specification.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the service keeps.
#[derive(Default)]
struct Kept {
    value: Option<String>,
    keys: BTreeSet<String>,
    fence: String,
    ids: Vec<String>,
    trouble: Option<Trouble>,
    answer: Option<StatusCode>,
}

type Shared = Arc<Mutex<Kept>>;

struct Service {
    folder: TempDir,
    kept: Shared,
    tap: Tap,
    section: String,
    server: JoinHandle<()>,
}

fn lock(kept: &Shared) -> MutexGuard<'_, Kept> {
    kept.lock().expect("no panic")
}

async fn obey(State(kept): State<Shared>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    let webhook = Webhook::new(SECRET).expect("a key");
    if webhook.verify(body.as_bytes(), &headers).is_err() {
        return (StatusCode::UNAUTHORIZED, "the signature is wrong".to_owned());
    }
    if lock(&kept).trouble == Some(Trouble::Slow) {
        tokio::time::sleep(TIMEOUT * 20).await;
    }
    let message: Value = serde_json::from_str(&body).expect("JSON");
    let data = message.get("data").expect("data");
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    let kind = message.get("type").and_then(Value::as_str);
    assert_eq!(text("workload"), Some(WORKLOAD));
    let mut kept = lock(&kept);
    if let Some(status) = kept.answer {
        return (status, format!("no,\nsays the service that knows {SECRET}"));
    }
    if kind == Some("headroom.capacity.read.v1") {
        return (StatusCode::OK, json!({ "value": kept.value, "since": "today" }).to_string());
    }
    assert_eq!(kind, Some("headroom.capacity.apply.v1"));
    kept.ids.push(headers.get("webhook-id").and_then(|id| id.to_str().ok()).expect("an id").to_owned());
    let (key, fence) = (text("key").expect("a key"), text("fence").expect("a fence"));
    if fence < kept.fence.as_str() {
        return (StatusCode::CONFLICT, "a newer change was here".to_owned());
    }
    if kept.trouble != Some(Trouble::Lies) && kept.keys.insert(key.to_owned()) {
        fence.clone_into(&mut kept.fence);
        kept.value = text("value").map(str::to_owned);
    }
    (StatusCode::ACCEPTED, String::new())
}

impl Service {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        std::fs::write(folder.path().join("secret"), SECRET).expect("writes");
        let kept = Shared::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let tap = Tap::to(listener.local_addr().expect("an address").port()).await;
        let router = Router::new().route("/capacity", post(obey)).with_state(Arc::clone(&kept));
        let server = tokio::spawn(async { axum::serve(listener, router).await.expect("serves") });
        let section = format!(
            "kind = \"webhook\"\nurl = \"http://127.0.0.1:{}/capacity?token=not-to-be-shown\"\nper_unit = 10\n\
             secret = {{ file = \"{}/secret\" }}\n",
            tap.port,
            folder.path().display()
        );
        Self { folder, kept, tap, section, server }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[async_trait]
impl Bench for Service {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(&self.section, pace, self.folder.path())
    }

    async fn actual(&self) -> String {
        format!("{:?}", lock(&self.kept).value)
    }

    async fn by_hand(&self, number: Option<u64>) {
        lock(&self.kept).value = number.map(|number| number.to_string());
    }

    fn per_unit(&self) -> u64 {
        10
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Away, Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Lies]
    }

    async fn trouble(&self, trouble: Option<Trouble>) {
        self.tap.set(match trouble {
            Some(Trouble::Away) => Way::Shut,
            Some(Trouble::CutBefore) => Way::CutBefore("capacity.apply"),
            Some(Trouble::CutAfter) => Way::CutAfter("capacity.apply"),
            Some(Trouble::Slow | Trouble::Lies) | None => Way::Open,
        });
        lock(&self.kept).trouble = trouble;
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }

    fn printed(&self) -> String {
        contract::printed(&self.section)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_service_keeps_the_contract() {
    let service = Service::start().await;
    contract::holds(&service).await;
    // A change that is sent again bears the same id; no two changes do.
    let kept = lock(&service.kept);
    let different: BTreeSet<&String> = kept.ids.iter().collect();
    assert!(different.len() >= kept.keys.len() && different.len() < kept.ids.len(), "{:?}", kept.ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_told_apart_and_nothing_secret_is_passed_on() {
    let service = Service::start().await;
    for (status, fault) in [
        (StatusCode::CONFLICT, Fault::Fenced),
        (StatusCode::PRECONDITION_FAILED, Fault::Fenced),
        (StatusCode::TOO_MANY_REQUESTS, Fault::Away),
        (StatusCode::BAD_GATEWAY, Fault::Away),
        (StatusCode::NOT_FOUND, Fault::Refused),
        (StatusCode::FOUND, Fault::Refused),
    ] {
        lock(&service.kept).answer = Some(status);
        let error = service.open().probe(WORKLOAD).await.expect_err("an answer that is no yes");
        assert_eq!(error.fault, fault, "{error}");
        let said = error.to_string();
        assert!(said.contains(status.as_str()) && said.contains("no, says the service that knows ***"), "{said}");
    }
    std::fs::write(service.folder.path().join("secret"), "whsec_AAAA").expect("writes");
    let error = service.open().probe(WORKLOAD).await.expect_err("another key");
    assert!(error.to_string().contains("the signature is wrong"), "{error}");
    std::fs::write(service.folder.path().join("secret"), "no base64 at all").expect("writes");
    let error = service.open().probe(WORKLOAD).await.expect_err("no key");
    assert!(error.fault == Fault::Refused && !error.to_string().contains("no base64"), "{error}");
    service.tap.set(Way::Shut);
    std::fs::write(service.folder.path().join("secret"), SECRET).expect("writes");
    let error = service.open().probe(WORKLOAD).await.expect_err("away");
    assert!(!error.to_string().contains("not-to-be-shown"), "{error}");
}
