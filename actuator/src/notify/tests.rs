//! Notices at a real HTTP listener, which checks the signature.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use headroom_proto::Span;
use prometheus_client::registry::Registry;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::targets::SecretSettings;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What came, in order: the message's id and body; and how it is to be answered, the next first.
#[derive(Default)]
struct Inbox {
    came: Vec<(String, Value)>,
    answers: Vec<StatusCode>,
}

type Shared = Arc<Mutex<Inbox>>;

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Inbox> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(State(inbox): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let webhook = Webhook::new(SECRET).expect("a secret");
    if webhook.verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let mut inbox = lock(&inbox);
    let answer = inbox.answers.pop().unwrap_or(StatusCode::NO_CONTENT);
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).expect("an id").to_owned();
    inbox.came.push((id, serde_json::from_slice(&body).expect("JSON")));
    answer
}

struct Bench {
    folder: tempfile::TempDir,
    inbox: Shared,
    url: String,
    registry: Registry,
    shutdown: CancellationToken,
}

impl Bench {
    async fn new(answers: &[StatusCode]) -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        std::fs::write(folder.path().join("secret"), SECRET).expect("writes");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let inbox = Shared::default();
        lock(&inbox).answers = answers.iter().rev().copied().collect();
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&inbox));
        let shutdown = CancellationToken::new();
        let stopped = shutdown.clone();
        tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned()).await.expect("serves");
        });
        Self { folder, inbox, url, registry: Registry::default(), shutdown }
    }

    fn config(&self, format: NotifyFormat) -> NotifyConfig {
        NotifyConfig {
            url: Some(self.url.clone()),
            url_from: SecretSettings::default(),
            format,
            secret: SecretSettings { file: Some(self.folder.path().join("secret")), env: None },
            kinds: Vec::new(),
            timeout: Span::from_secs(5),
            attempts: 3,
            pause: Span::from_micros(1_000),
        }
    }

    fn notifier(&mut self, configs: &[NotifyConfig]) -> (Notifier, Vec<Courier>) {
        assert!(configs.iter().all(|config| config.problems().is_empty()), "{configs:?}");
        Notifier::new(configs, &mut self.registry)
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while !is_so() {
                ticks.tick().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not in time: {what}: {:?}", lock(&self.inbox).came));
    }

    fn came(&self) -> Vec<(String, Value)> {
        lock(&self.inbox).came.clone()
    }
}

fn notice(kind: NoticeKind, workload: &str) -> Notice {
    Notice::new(kind, workload, EventTime::from_micros(1_000_000))
        .with("plan_id", "plan-1")
        .with("empty", "")
        .saying(format!("{workload}: 2 -> 5 units <now> & then"))
}

#[tokio::test]
async fn bodies_are_signed_and_sent_again_under_the_same_id() {
    let mut bench = Bench::new(&[StatusCode::BAD_GATEWAY, StatusCode::OK]).await;
    let (notifier, couriers) = bench.notifier(&[bench.config(NotifyFormat::Generic)]);
    for courier in couriers {
        tokio::spawn(courier.run(bench.shutdown.clone()));
    }
    notifier.tell(notice(NoticeKind::Waits, "shop"));
    bench.until("both attempts", || bench.came().len() == 2).await;
    bench.until("it is counted", || notifier.counters.delivered.get() == 1).await;
    let came = bench.came();
    assert_eq!(came[0], came[1], "the same id and body");
    let body = &came[0].1;
    assert_eq!(body["type"], "headroom.notice.waits.v1");
    assert_eq!(body["timestamp"], "1970-01-01T00:00:01Z");
    assert_eq!((&body["data"]["workload"], &body["data"]["plan_id"]), (&"shop".into(), &"plan-1".into()));
    assert_eq!(body["data"].get("empty"), None);
    assert_eq!(notifier.counters.dropped.get(), 0);

    notifier.tell(notice(NoticeKind::Waits, "bank"));
    bench.until("the other", || bench.came().len() == 3).await;
    assert_ne!(bench.came()[2].0, came[0].0, "another notice has another id");
    bench.shutdown.cancel();
}

#[tokio::test]
async fn slack_gets_text_and_blocks_that_mention_nobody() {
    let mut bench = Bench::new(&[]).await;
    let mut config = bench.config(NotifyFormat::Slack);
    config.kinds = vec![NoticeKind::KillSwitch];
    // The address of Slack is a secret itself.
    std::fs::write(bench.folder.path().join("url"), &bench.url).expect("writes");
    config.url = None;
    config.url_from = SecretSettings { file: Some(bench.folder.path().join("url")), env: None };
    let (notifier, couriers) = bench.notifier(&[config]);
    for courier in couriers {
        tokio::spawn(courier.run(bench.shutdown.clone()));
    }
    notifier.tell(notice(NoticeKind::Applied, "shop"));
    notifier.tell(notice(NoticeKind::KillSwitch, "shop"));
    bench.until("it came", || !bench.came().is_empty()).await;
    let came = bench.came();
    assert_eq!(came.len(), 1, "only the kind that is wanted: {came:?}");
    let body = &came[0].1;
    let text = body["text"].as_str().expect("text");
    assert!(text.contains("&lt;now&gt; &amp; then") && text.starts_with(":octagonal_sign:"), "{text}");
    assert_eq!(body["blocks"][0]["text"]["text"], body["text"]);
    assert!(body["blocks"][1]["elements"][0]["text"].as_str().is_some_and(|facts| facts.contains("plan-1")));
    bench.shutdown.cancel();
}

#[tokio::test]
async fn what_is_not_taken_is_dropped_and_counted_and_nobody_waits() {
    let refusals = [StatusCode::GONE, StatusCode::BAD_GATEWAY, StatusCode::BAD_GATEWAY, StatusCode::BAD_GATEWAY];
    let mut bench = Bench::new(&refusals).await;
    let (notifier, couriers) = bench.notifier(&[bench.config(NotifyFormat::Generic)]);
    // Nobody empties the queue yet: telling does not wait, and what does not fit is counted.
    for _ in 0..QUEUE + 7 {
        notifier.tell(notice(NoticeKind::Failed, "shop"));
    }
    assert_eq!(notifier.counters.dropped.get(), 7);
    for courier in couriers {
        tokio::spawn(courier.run(bench.shutdown.clone()));
    }
    // One was refused for good, one three times; the others were taken.
    bench.until("all have come", || notifier.counters.delivered.get() == QUEUE as u64 - 2).await;
    assert_eq!(notifier.counters.dropped.get(), 9);
    bench.shutdown.cancel();
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_the_receiver() {
    let mut bench = Bench::new(&[]).await;
    std::fs::write(bench.folder.path().join("secret"), "whsec_AAAA").expect("writes");
    let (notifier, couriers) = bench.notifier(&[bench.config(NotifyFormat::Generic)]);
    for courier in couriers {
        tokio::spawn(courier.run(bench.shutdown.clone()));
    }
    notifier.tell(notice(NoticeKind::Failed, "shop"));
    bench.until("it is dropped", || notifier.counters.dropped.get() == 1).await;
    assert!(bench.came().is_empty());
    bench.shutdown.cancel();
}

#[test]
fn settings_that_cannot_be_used() {
    let read = |text: &str| toml::from_str::<NotifyConfig>(text).expect("parses").problems();
    assert!(read("url = \"https://hooks.example.org/x\"\nformat = \"slack\"").is_empty());
    for (text, said) in [
        ("url = \"https://hooks.example.org/x\"", "secret"),
        ("url = \"http://hooks.example.org/x\"\nformat = \"slack\"", "https"),
        ("format = \"slack\"", "url_from"),
        ("url = \"https://a.example.org\"\nurl_from = { env = \"A\" }\nformat = \"slack\"", "one of them"),
        ("url = \"https://a.example.org\"\nattempts = 0\nformat = \"slack\"", "attempts"),
    ] {
        let problems = read(text).join("\n");
        assert!(problems.contains(said), "{text}: {problems}");
    }
    assert!(toml::from_str::<NotifyConfig>("kinds = [\"sometimes\"]").is_err());
}
