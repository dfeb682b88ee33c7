//! What the loop tells people elsewhere: at a real HTTP listener, which checks the signature.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use headroom_actuator_decide::stage::{Stage, StageSetting};
use headroom_proto::Span;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::ground::{Actuator, Ground};
use crate::NotifyConfig;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type Inbox = Arc<Mutex<Vec<Value>>>;

async fn take(State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if Webhook::new(SECRET).expect("a secret").verify(&body, &headers).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let notice = serde_json::from_slice(&body).expect("JSON");
    inbox.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    StatusCode::NO_CONTENT
}

/// A receiver, and the settings that name it.
async fn receiver(ground: &mut Ground) -> Inbox {
    let inbox = Inbox::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let secret = ground.file("notify.secret", SECRET);
    let settings = format!(
        "url = \"http://{}/\"\nsecret = {{ file = \"{}\" }}",
        listener.local_addr().expect("an address"),
        secret.display()
    );
    let config: NotifyConfig = toml::from_str(&settings).expect("settings");
    ground.config.notify.push(config);
    let router = Router::new().route("/", post(take)).with_state(Arc::clone(&inbox));
    tokio::spawn(async move { axum::serve(listener, router).await });
    inbox
}

/// Waits until one of that type about that workload has come.
async fn came(inbox: &Inbox, kind: &str, workload: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let kind = format!("headroom.notice.{kind}.v1");
    loop {
        let all = inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of_it = |notice: &&Value| notice["type"] == kind.as_str() && notice["data"]["workload"] == workload;
        if let Some(found) = all.iter().find(of_it) {
            return found["data"].clone();
        }
        assert!(Instant::now() < deadline, "no {kind} about `{workload}` among {all:?}");
        ticks.tick().await;
    }
}

async fn waiting(actuator: &Actuator) -> (String, String) {
    let view = actuator.plans(true).await.remove(0);
    (view.plan.map(|plan| plan.plan_id).unwrap_or_default(), view.action_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_what_waits_what_was_done_and_what_is_stopped() {
    let mut ground = Ground::new(Stage::Recommend).await;
    ground.config.stages.insert("auto".to_owned(), StageSetting::from(Stage::Automate));
    let inbox = receiver(&mut ground).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.knows("shop", 1).await;
    let told = came(&inbox, "waits", "shop").await;
    let (plan_id, action_id) = waiting(&actuator).await;
    assert_eq!((told["plan_id"].as_str(), told["units"].as_str()), (Some(plan_id.as_str()), Some("1 -> 5")));
    assert!(told["plan_hash"].as_str().is_some_and(|hash| hash.len() == 64), "what an approval binds to: {told}");
    assert!(told["text"].as_str().is_some_and(|text| text.contains("nothing permits it")), "{told}");

    actuator.approve(&plan_id, "").await.expect("approved");
    let told = came(&inbox, "applied", "shop").await;
    assert_eq!(told["action_id"], action_id.as_str());
    actuator.rollback(&action_id).await.expect("rolled back");
    assert_eq!(came(&inbox, "rolled_back", "shop").await["actor"], "ann");

    ground.target.refuse(true);
    ground.turns("auto", 1..=1, 50.0, 300.0).await;
    actuator.knows("auto", 1).await;
    assert!(came(&inbox, "failed", "auto").await["reason"].as_str().is_some_and(|why| why.contains("told to refuse")));
    ground.target.refuse(false);
    ground.turns("auto", 2..=2, 50.0, 300.0).await;
    actuator.knows("auto", 2).await;
    ground.by_hand("auto", 2, 9).await;
    ground.turns("auto", 3..=3, 50.0, 300.0).await;
    actuator.knows("auto", 3).await;
    let told = came(&inbox, "paused", "auto").await;
    assert_eq!((told["cause"].as_str(), told["actor"].as_str()), (Some("foreign"), Some("headroom")));

    actuator.pause("").await;
    let told = came(&inbox, "kill_switch", "").await;
    assert!(told["text"].as_str().is_some_and(|text| text.contains("every workload") && text.contains("a drill")));
    actuator.resume("").await;
    came(&inbox, "resumed", "").await;
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_that_nobody_decided_in_time() {
    let mut ground = Ground::new(Stage::Recommend).await;
    ground.config.approval_ttl = Span::from_mins(15);
    let inbox = receiver(&mut ground).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=3, 50.0, 300.0).await;
    actuator.reaches(3).await;
    let (plan_id, _) = waiting(&actuator).await;
    ground.turns("shop", 4..=4, 50.0, 50.0).await;
    let told = came(&inbox, "expired", "shop").await;
    assert_eq!(told["plan_id"].as_str(), Some(plan_id.as_str()));
    assert!(told["text"].as_str().is_some_and(|text| text.contains("nobody decided within")), "{told}");
    actuator.stop().await;
}
