//! What cannot stream is refused before anything runs, with the name of the query and what to write instead.

use headroom_ingest_window::{FeatureConfig, FeatureQuery};

use crate::stream::config;

const HEAD: &str = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload";
const TAIL: &str = "FROM queries GROUP BY 1, 2";

async fn refusal(config: FeatureConfig) -> String {
    let shown = format!("{config:?}");
    let message =
        FeatureQuery::try_new(config).await.err().unwrap_or_else(|| unreachable!("{shown} was taken")).to_string();
    assert!(message.contains("`test`"), "the message names the query: {message}");
    message
}

#[tokio::test]
async fn sql_that_cannot_stream() {
    for (sql, expected) in [
        (format!("{HEAD}, count(*) AS n {TAIL} ORDER BY 3"), "ORDER BY"),
        (format!("{HEAD}, count(*) AS n {TAIL} LIMIT 3"), "LIMIT"),
        (format!("{HEAD}, sum(count(*)) OVER (PARTITION BY workload) AS n {TAIL}"), "OVER"),
        (format!("{HEAD}, count(DISTINCT fingerprint) AS n {TAIL}"), "approx_distinct"),
        (format!("{HEAD}, median(duration_ms) AS n {TAIL}"), "approx_percentile_cont"),
        (format!("{HEAD}, count(*) AS n, array_agg(fingerprint) AS list {TAIL}"), "array_agg"),
        (format!("{HEAD}, approx_percentile_cont(duration_ms, 1.5) AS n {TAIL}"), "between 0 and 1"),
        (format!("{HEAD}, count(*) AS n, random() AS r {TAIL}"), "random"),
        (format!("{HEAD}, count(*) AS n FROM queries WHERE event_time < now() GROUP BY 1, 2"), "now"),
        (format!("{HEAD}, max(n) AS n FROM (SELECT event_time, workload, count(*) AS n FROM queries GROUP BY 1, 2) GROUP BY 1, 2"), "one aggregation"),
        ("SELECT event_time AS window_start, workload, duration_ms FROM queries".to_owned(), "one aggregation"),
        (format!("{HEAD}, count(*) AS n FROM queries q JOIN queries r USING (event_time, workload) GROUP BY 1, 2"), "join"),
        ("SELECT workload, count(*) AS n FROM queries GROUP BY 1".to_owned(), "date_bin"),
        ("SELECT date_bin(INTERVAL '1 minute', event_time) AS window_start, workload, count(*) AS n FROM queries GROUP BY 1, 2".to_owned(), "10s"),
        ("SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, count(*) AS n FROM queries GROUP BY 1".to_owned(), "`workload`"),
        (format!("{HEAD}, count(*) / window_seconds() AS n, sum(duration_ms / window_seconds()) AS m {TAIL}"), "window_seconds"),
        (format!("{HEAD}, max(event_time) AS newest {TAIL}"), "`newest`"),
        (format!("{HEAD}, avg(durations) AS n {TAIL}"), "durations"),
        (format!("{HEAD}, count(*) AS n FROM metrics GROUP BY 1, 2"), "metrics"),
        ("SELEC 1".to_owned(), "SELEC"),
        ("DROP TABLE queries".to_owned(), ""),
        ("INSERT INTO queries SELECT * FROM queries".to_owned(), ""),
        ("SELECT 1; SELECT 2".to_owned(), ""),
    ] {
        let message = refusal(config(&sql)).await;
        assert!(message.contains(expected), "{sql}\n  {message}");
    }
}

#[tokio::test]
async fn windows_that_do_not_fit() {
    let sql = format!("{HEAD}, count(*) AS n {TAIL}");
    for (windows, expected) in [
        (vec![], "empty"),
        (vec!["10s", "25s"], "whole number"),
        (vec!["1m", "10s"], "grow"),
        (vec!["10ms"], "whole seconds"),
        (vec!["ten"], "ten"),
    ] {
        let windows = windows.into_iter().map(str::to_owned).collect();
        let message = refusal(FeatureConfig { windows, ..config(&sql) }).await;
        assert!(message.contains(expected), "{message}");
    }
}
