//! kill -9 in the middle of the demo, and a restart on the same folder.

use serde_json::Value;

use crate::program::{Program, wait_for};

const UNTIL: &str = "1998-05-16";
const WINDOWS: &str = "SELECT query, window_size_s, window_start, workload, requests_per_s FROM windows \
                       ORDER BY query, workload, window_size_s, window_start";

fn demo(program: &Program) -> Vec<Value> {
    let status = program.start(&["demo", "--until", UNTIL, "--exit"]).wait();
    assert!(status.success(), "{}", program.log());
    program.query(WINDOWS)
}

fn reached(program: &Program) -> u64 {
    crate::program::size_of(&program.data_dir().join("checkpoints"))
}

#[test]
fn windows_equal_those_of_an_undisturbed_run_and_no_action_is_applied_twice() {
    let undisturbed = demo(&Program::new());
    assert!(undisturbed.len() > 20_000, "only {} windows", undisturbed.len());

    let program = Program::new();
    for kills in 1..=3 {
        let before = reached(&program);
        let mut running = program.start(&["demo", "--until", UNTIL, "--exit"]);
        wait_for("progress", || (reached(&program) != before || !running.is_running()).then_some(()));
        // A little further each time, so that different stages are in the middle of their work.
        let actions = program.data_dir().join("target");
        if kills > 1 {
            let size = crate::program::size_of(&actions);
            wait_for("actions", || (crate::program::size_of(&actions) != size || !running.is_running()).then_some(()));
        }
        running.kill();
    }
    assert_eq!(demo(&program), undisturbed);

    let doubled = program.query(
        "SELECT idempotency_key, count(*) AS times FROM actions WHERE state = 'applied' GROUP BY 1 HAVING count(*) > 1",
    );
    assert!(doubled.is_empty(), "{doubled:?}");
    let repeated = program.query(
        "SELECT workload, sequence, count(*) AS times FROM actions WHERE sequence IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1",
    );
    assert!(repeated.is_empty(), "{repeated:?}");
    let origins = program
        .query("SELECT origin, step, count(*) AS times FROM forecasts GROUP BY 1, 2 HAVING count(*) > 1 LIMIT 3");
    assert!(origins.is_empty(), "{origins:?}");
    let applied = program.query("SELECT count(*) AS n FROM actions WHERE state = 'applied'");
    assert!(applied[0]["n"].as_u64().expect("a count") > 10, "{applied:?}");
}
