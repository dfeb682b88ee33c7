//! The lake's commands over what a demo has left, and while one runs.

use serde_json::Value;

use crate::program::{Program, wait_for};

fn rows(program: &Program, sql: &str) -> i64 {
    program.query(sql)[0]["n"].as_i64().expect("a count")
}

fn listed(program: &Program) -> Vec<Value> {
    let text = program.succeed(&["lake", "list", "--output", "json"]);
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn upkeep_by_hand_while_a_headroom_writes() {
    let program = Program::new();
    let running = program.start(&["demo", "--until", "1998-05-20", "--exit"]);
    let several =
        || program.run(&["query", "SELECT count(*) AS n FROM windows"]).status.success().then(|| listed(&program));
    let before = wait_for("some commits", || {
        several()
            .filter(|tables| tables.iter().any(|table| table["version"].as_i64().is_some_and(|version| version > 4)))
    });
    assert_eq!(before.len(), headroom_ingest_lake::Table::ALL.len(), "{before:?}");
    program.succeed(&["lake", "optimize"]);
    program.succeed(&["lake", "vacuum", "--dry-run"]);
    assert!(running.wait().success(), "the demo: {}", program.log());

    let all = rows(&program, "SELECT count(*) AS n FROM windows");
    let distinct =
        "SELECT count(*) AS n FROM (SELECT DISTINCT query, window_size_s, window_start, workload FROM windows)";
    assert!(all > 1_000 && rows(&program, distinct) == all, "{all} rows");
    program.succeed(&["lake", "optimize", "windows"]);
    assert_eq!(rows(&program, "SELECT count(*) AS n FROM windows"), all);
    let history = program.succeed(&["lake", "history", "windows"]);
    assert!(history.contains("OPTIMIZE") && history.contains("WRITE"), "{history}");
    assert!(program.succeed(&["lake", "describe", "windows"]).contains("requests_per_s"));
    let earlier = rows(&program, "SELECT count(*) AS n FROM windows VERSION AS OF 3");
    assert!(earlier < all, "{earlier} of {all}");
    for (args, part) in
        [(["query", "SELECT * FROM windows VERSION AS OF 9999"], "9999"), (["lake", "describe"], "TABLE")]
    {
        let output = program.run(&args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && message.contains(part), "{args:?}: {message}");
    }
}
