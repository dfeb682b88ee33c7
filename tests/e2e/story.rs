//! The loop as one story: telemetry and signals come in, windows close, forecasts are made, capacity is raised before
//! the load comes, outcomes are measured, people watch and intervene, and the tables tell it all afterwards.

use serde_json::{Value, json};

use crate::program::{Program, wait_for};

const UNTIL: &str = "1998-05-20";

#[test]
fn from_telemetry_to_outcomes() {
    let program = Program::new();
    let running = program.start(&["demo", "--until", UNTIL]);
    let http = format!("http://{}", program.endpoint("http"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = reqwest::Client::new();
    let get = |path: &str| {
        let request = client.get(format!("{http}{path}"));
        runtime.block_on(async { request.send().await?.error_for_status()?.text().await }).ok()
    };
    wait_for("the replay's end", || program.log().contains("replayed up to").then_some(()));

    every_stage_shows_its_metrics(&get("/metrics").expect("metrics"));
    assert!(get("/").expect("the page").contains("Headroom"));
    marketing_announces(&runtime, &client, &http);
    people_intervene(&program);
    let export = crate::audit::the_record_is_told_exported_and_verified(&program);
    drain(running);
    crate::audit::an_export_is_verified_without_a_running_headroom(&program, &export);
    the_tables_tell_it_all(&program);
}

fn every_stage_shows_its_metrics(text: &str) {
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends with its mark");
    for stage in ["collect", "process", "store", "forecast", "actuate", "console"] {
        assert!(text.contains(&format!("\nheadroom_{stage}_")), "no metrics of {stage}:\n{text}");
    }
}

fn marketing_announces(runtime: &tokio::runtime::Runtime, client: &reqwest::Client, http: &str) {
    let event = |ends_at: &str| {
        json!({
            "specversion": "1.0", "id": "1", "source": "/marketing", "type": "io.headroom.signal.announced.v1",
            "subject": "spring-sale", "time": "1998-05-19T09:00:00Z",
            "data": { "kind": "sale", "starts_at": "1998-06-01T08:00:00Z", "ends_at": ends_at, "name": "Spring sale" },
        })
    };
    let post = |body: Value| {
        let request = client
            .post(format!("{http}/v1/signals"))
            .header("content-type", "application/cloudevents+json")
            .body(body.to_string());
        runtime.block_on(async {
            let answer = request.send().await.expect("answers");
            (answer.status().as_u16(), answer.text().await.expect("a body"))
        })
    };
    let (status, body) = post(event("1998-06-01T20:00:00Z"));
    assert_eq!(status, 202, "{body}");
    let (status, body) = post(event("1998-05-01T20:00:00Z"));
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("ends_at") && body.contains("later than starts_at"), "{body}");
}

fn people_intervene(program: &Program) {
    let plans = program.succeed(&["plan", "list", "--limit", "5"]);
    assert!(plans.contains("worldcup98") && plans.contains("units"), "{plans}");
    assert!(program.succeed(&["pause", "worldcup98", "--as", "ann", "--reason", "a test"]).contains("paused"));
    assert!(program.succeed(&["resume", "worldcup98", "--as", "ann"]).contains("on"));
    let stages = program.succeed(&["stage", "show", "worldcup98"]);
    assert!(stages.contains("worldcup98  raise: expand") && stages.contains("actions were good"), "{stages}");
    let unknown = program.run(&["rollback", "no-such-action", "--as", "ann"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", String::from_utf8_lossy(&unknown.stderr));
    let action = plans.lines().find_map(|line| line.trim().strip_prefix("action ")).expect("an action's id");
    let action = action.split_whitespace().next().expect("an id");
    let why = program.succeed(&["policy", "why", action]);
    assert!(why.contains("allowed by") && why.contains("risk=") && why.contains("stage=expand"), "{why}");
    let undone = program.succeed(&["rollback", action, "--as", "ann", "--reason", "a test"]);
    assert!(undone.contains("rolled back") && undone.contains("headroom resume worldcup98"), "{undone}");
    assert!(program.succeed(&["resume", "worldcup98", "--as", "ann"]).contains("on"));
}

fn drain(running: crate::program::Running) {
    let id = running.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
    let status = running.wait();
    assert!(status.success(), "drains: {status}");
}

fn the_tables_tell_it_all(program: &Program) {
    let one = |sql: &str| program.query(sql).into_iter().next().expect("a row");
    let windows = one(
        "SELECT count(*) AS n, min(requests_per_s) AS least FROM windows WHERE window_size_s = 300 AND workload = 'worldcup98'",
    );
    // From 30 April 21:30 on; every five minutes have some rows.
    assert_eq!(windows["n"], 5_502, "{windows}");
    let gaps =
        one("SELECT count(*) AS n FROM windows WHERE window_size_s = 60 AND window_start >= '1998-05-17T09:40:00Z' \
                    AND window_start < '1998-05-17T09:50:00Z'");
    assert_eq!(gaps["n"], 6, "gaps stay gaps");
    let forecasts = one(
        "SELECT count(DISTINCT origin) AS origins, sum(CASE WHEN q50 IS NULL OR (q10 <= q50 AND q50 <= q99) THEN 0 ELSE 1 END) AS crossed \
                         FROM forecasts",
    );
    assert!(forecasts["origins"].as_i64().expect("origins") > 2_000, "{forecasts}");
    assert_eq!(forecasts["crossed"], 0, "quantiles do not cross");
    assert_eq!(one("SELECT count(*) AS n FROM signals WHERE signal_id = 'spring-sale'")["n"], 1);
    assert!(one("SELECT count(*) AS n FROM models")["n"].as_i64() > Some(10));
    assert!(one("SELECT count(*) AS n FROM plans")["n"].as_i64() > Some(10));
    assert!(one("SELECT count(*) AS n FROM outcomes")["n"].as_i64() > Some(10));
    let undone = one("SELECT count(*) AS n FROM actions WHERE state = 'rolled_back' AND actor = 'ann'");
    assert!(undone["n"].as_i64() > Some(0), "{undone}");
    let early = one("SELECT count(*) AS n FROM actions a1 JOIN actions a2 ON a1.action_id = a2.action_id \
                     WHERE a1.state = 'intended' AND a2.state = 'applied' AND a1.sequence >= a2.sequence");
    assert_eq!(early["n"], 0, "an intent stands before its effect");
}
