use std::sync::Mutex;

use futures::StreamExt;
use headroom_proto::Span;
use headroom_proto::status::StageStatus;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::console::view::{Limits, LoadPoint, Update, View};
use crate::console::{ConsoleConfig, ConsoleSources, Scale};

const DEADLINE: Duration = Duration::from_secs(10);

fn shared(scoreboard: watch::Receiver<Option<Value>>) -> Arc<Shared> {
    let scale = Scale {
        target: "requests_per_s".to_owned(),
        window: Span::from_mins(5),
        unit_capacity: 50.0,
        violation_utilisation: 0.85,
    };
    let stages = Arc::new(|| vec![StageStatus { stage: "process".to_owned(), ..StageStatus::default() }]);
    let limits = Limits { points: 100, actions: 10, signals: 10, workloads: 2 };
    Arc::new(Shared {
        view: Mutex::new(View::new(limits, Span::from_hours(1), scale.window)),
        config: ConsoleConfig { update_interval_ms: 5, ..ConsoleConfig::default() },
        sources: ConsoleSources { stages, scoreboard, scale },
        run: "run".to_owned(),
        streams: Arc::new(Semaphore::new(1)),
        closed: CancellationToken::new(),
    })
}

fn load(shared: &Shared, minute: i64, load: f64) {
    let start_us = minute * 60_000_000;
    let point = LoadPoint { workload: "shop".to_owned(), start_us, revision: 0, load: Some(load) };
    shared.view().apply(Update::Load(point)).expect("makes sense");
}

async fn serve(shared: &Arc<Shared>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = router(Arc::clone(shared));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Reads events `(name, id, data)` of a stream until one has this name.
async fn until_event(response: reqwest::Response, name: &str) -> (Vec<String>, Option<String>, Value) {
    let mut names = Vec::new();
    let mut text = String::new();
    let mut bytes = response.bytes_stream();
    let found = async {
        loop {
            while let Some((block, rest)) = text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                text = rest;
                let field =
                    |key: &str| block.lines().find_map(|line| line.strip_prefix(key)).map(|v| v.trim().to_owned());
                let Some(event) = field("event:") else { continue };
                names.push(event.clone());
                if event == name {
                    let data = serde_json::from_str(&field("data:").expect("data")).expect("JSON");
                    return (field("id:"), data);
                }
            }
            let chunk = bytes.next().await.expect("the stream goes on").expect("readable");
            text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    };
    let (id, data) = tokio::time::timeout(DEADLINE, found).await.expect("the event in time");
    (names, id, data)
}

#[tokio::test]
async fn every_part_of_the_page_is_served_from_here_and_nothing_else_allowed() {
    let (_board, scoreboard) = watch::channel(None);
    let url = serve(&shared(scoreboard)).await;
    let page = reqwest::get(&url).await.expect("the page").text().await.expect("text");
    let loads = page.split('"').filter(|text| text.ends_with(".js") || text.ends_with(".css")).collect::<Vec<_>>();
    assert_eq!(loads, ["/console.css", "/plotly.js", "/console.js"]);
    for path in loads.iter().copied().chain(PARTS.iter().map(|(path, _, _)| *path)) {
        let response = reqwest::get(format!("{url}{path}")).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        let policy = response.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"));
    }
    let plotly = reqwest::get(format!("{url}/plotly.js")).await.expect("plotly").text().await.expect("text");
    assert!(plotly.contains("plotly.js v") && !plotly.contains("<script"), "{} bytes", plotly.len());
    assert!(!page.contains("=\"http") && !page.contains("style="), "inline style or another host");
}

#[tokio::test]
async fn the_state_is_a_snapshot_of_the_span_asked_for() {
    let (_board, scoreboard) = watch::channel(None);
    let shared = shared(scoreboard);
    load(&shared, 0, 10.0);
    load(&shared, 5, 20.0);
    let url = serve(&shared).await;
    let state: Value =
        reqwest::get(format!("{url}/api/state?from=300000")).await.expect("answers").json().await.expect("JSON");
    assert_eq!(state["points"], json!([[300_000, 20.0, null]]));
    assert_eq!((&state["facts"]["unit_capacity"], &state["snapshot"]), (&json!(50.0), &json!(true)));
    assert_eq!(state["id"], "run-2");
    let refused = reqwest::get(format!("{url}/api/state?from=soon")).await.expect("answers");
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.expect("text").contains("`from`"));
}

#[tokio::test]
async fn a_page_that_comes_back_gets_what_it_missed() {
    let (board, scoreboard) = watch::channel(None);
    let shared = shared(scoreboard);
    load(&shared, 0, 10.0);
    let url = serve(&shared).await;
    let first = reqwest::get(format!("{url}/api/events")).await.expect("answers");
    let (_, id, snapshot) = until_event(first, "state").await;
    assert_eq!(snapshot["snapshot"], json!(true));
    load(&shared, 5, 20.0);
    board.send_replace(Some(json!({ "rows": [] })));
    let client = reqwest::Client::new();
    let resume = || client.get(format!("{url}/api/events")).header("Last-Event-ID", id.clone().expect("an id"));
    let deadline = tokio::time::Instant::now() + DEADLINE;
    // The first stream's place is free once the server has seen that it is gone.
    let resumed = loop {
        let response = resume().send().await.expect("answers");
        if response.status() == 200 {
            break response;
        }
        assert!(tokio::time::Instant::now() < deadline, "the place of a page that left stays taken");
    };
    let refused = resume().send().await.expect("answers");
    assert_eq!(refused.status(), 503, "one stream is the limit");
    let (names, _, board) = until_event(resumed, "scoreboard").await;
    assert_eq!(names, ["state", "stages", "scoreboard"]);
    assert_eq!(board, json!({ "rows": [] }));
}

#[tokio::test]
async fn changes_come_as_they_happen_and_the_stream_ends_with_the_console() {
    let (_board, scoreboard) = watch::channel(None);
    let shared = shared(scoreboard);
    load(&shared, 0, 10.0);
    let url = serve(&shared).await;
    let response = reqwest::get(format!("{url}/api/events?since=run-1")).await.expect("answers");
    load(&shared, 5, 20.0);
    let mut bytes = response.bytes_stream();
    let mut text = String::new();
    let read_all = async {
        while let Some(Ok(chunk)) = bytes.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
            if text.contains("[300000,20.0,null]") {
                shared.closed.cancel();
            }
        }
    };
    tokio::time::timeout(DEADLINE, read_all).await.expect("the stream ends");
    assert!(text.contains("\"snapshot\":false") && text.contains("id: run-2"), "{text}");
}
