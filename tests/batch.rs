//! The same SQL on a Ballista cluster: a scheduler and two executors of Ballista's own, and the real program as client.

#[allow(dead_code, reason = "shared with e2e, which uses more of it")]
#[path = "e2e/program.rs"]
mod program;

use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use program::Program;
use serde_json::Value;

/// Tables, their versions, views, and what both machines must agree on.
const QUESTIONS: [&str; 8] = [
    "SELECT date, workload, count(*) AS n, sum(requests_per_s) AS load, max(window_start) AS newest FROM windows
     WHERE window_size_s = 300 GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT at, load FROM actual_load WHERE date_part('minute', at) = 0 ORDER BY load DESC, at LIMIT 5",
    "SELECT event, count(*) AS n, avg(abs(error)) AS error FROM forecast_vs_actual GROUP BY 1 ORDER BY 1",
    "SELECT signal_id, revision, workloads FROM signals ORDER BY 1, 2 LIMIT 3",
    "SELECT workload, hour, peak_load, least_ready, least_headroom FROM headroom_by_hour ORDER BY 1, 2 LIMIT 3",
    "SELECT signal_id, lift FROM campaign_lift ORDER BY 1",
    // A table that does not exist yet.
    "SELECT count(*) AS n, max(run) AS newest FROM backtests",
    "SELECT count(*) AS n, max(window_start) AS newest FROM windows VERSION AS OF 1",
];

#[test]
fn a_cluster_answers_as_one_machine_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let scheduler = runtime.block_on(cluster());
    let program = Program::new();
    program.succeed(&["demo", "--until", "1998-05-14", "--exit"]);
    let config = program.write("headroom.toml", &format!("[query]\nscheduler = \"df://{scheduler}\"\n"));
    for sql in QUESTIONS {
        let here = program.query(sql);
        let text = program.succeed(&["query", sql, "--config", &config, "--output", "json"]);
        let there: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(here.len(), there.len(), "{sql}");
        for (here, there) in here.iter().zip(&there) {
            assert!(is_same(here, there), "{sql}\nhere:  {here}\nthere: {there}");
        }
    }
    assert!(!program.query(QUESTIONS[0]).is_empty(), "there is something to compare");

    let refused = program.run(&["query", "DROP TABLE windows", "--config", &config]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("read-only"), "{refused:?}");
    let nowhere = program.write("nowhere.toml", "[query]\nscheduler = \"df://127.0.0.1:1\"\n");
    let unreached = program.run(&["query", "SELECT 1", "--config", &nowhere]);
    let message = String::from_utf8_lossy(&unreached.stderr);
    assert!(unreached.status.code() == Some(2) && message.contains("df://127.0.0.1:1"), "{message}");
}

/// Starts a scheduler and two executors; gives the scheduler's address.
async fn cluster() -> String {
    let address = ballista_scheduler::standalone::new_standalone_scheduler().await.expect("a scheduler");
    let address = format!("localhost:{}", address.port());
    for _ in 0..2 {
        let client = SchedulerGrpcClient::connect(format!("http://{address}")).await.expect("reaches the scheduler");
        ballista_executor::new_standalone_executor(client, 2, BallistaCodec::default()).await.expect("an executor");
    }
    address
}

/// Sums of floats depend on the order of their parts.
fn is_same(here: &Value, there: &Value) -> bool {
    let (Some(here), Some(there)) = (here.as_object(), there.as_object()) else { return here == there };
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    here.len() == there.len()
        && here.iter().all(|(name, a)| {
            let Some(b) = there.get(name) else { return false };
            a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| near(a, b))
        })
}
