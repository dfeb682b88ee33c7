//! Windows over a stream against one query over all of its rows.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "streaming/refusals.rs"]
mod refusals;
#[path = "streaming/stream.rs"]
mod stream;

use std::sync::Arc;

use headroom_ingest_window::{FeatureQuery, RELATIVE_ERROR, WindowAggregate, WindowError, split_rows};
use headroom_proto::v1::QueryState;
use headroom_proto::{EventTime, Message, Span};

use crate::stream::{Cells, Stream, batch, cells, config, one_query};

/// Rows may come this much later than the newest.
const LATENESS: Span = Span::from_secs(10);
const SQL: &str = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload, count(*) AS n,
    sum(rows) AS rows_read, avg(duration_ms) AS mean_ms, min(duration_ms) AS fastest_ms, max(duration_ms) AS slowest_ms,
    stddev(duration_ms) AS spread_ms, sum(count) FILTER (WHERE error) / window_seconds() AS errors_per_s,
    approx_distinct(fingerprint) AS fingerprints
  FROM queries WHERE db_namespace = 'shop' GROUP BY 1, 2 HAVING count(*) > 1";

async fn query(sql: &str) -> Arc<FeatureQuery> {
    Arc::new(FeatureQuery::try_new(config(sql)).await.expect("can stream"))
}

/// Streams batches in their order of arrival, windows closed after each; `restarts` go through a checkpoint first.
async fn streamed(query: &Arc<FeatureQuery>, stream: &Stream, restarts: &[usize]) -> Cells {
    let mut aggregate = WindowAggregate::new(Arc::clone(query));
    let mut emitted = Vec::new();
    for (at, rows) in stream.batches.iter().enumerate() {
        if restarts.contains(&at) {
            let saved = aggregate.checkpoint().expect("saves").encode_to_vec();
            let saved = QueryState::decode(saved.as_slice()).expect("comes back");
            aggregate = WindowAggregate::restore(Arc::clone(query), &saved).expect("restores");
        }
        aggregate.push(vec![rows.clone()]).await.expect("takes the rows");
        emitted.extend(aggregate.close(stream.newest[at] - LATENESS).await.expect("closes"));
    }
    emitted.extend(aggregate.close(EventTime::parse("2030-01-01").expect("a date")).await.expect("closes"));
    assert_eq!(aggregate.state_rows(), 0, "every window is closed");
    cells(emitted)
}

#[tokio::test]
async fn every_roll_up_equals_one_query_over_all_rows() {
    for seed in 0..8 {
        let stream = Stream::random(seed, 6_000);
        let query = query(SQL).await;
        let expected = one_query(SQL, &stream.batches).await;
        assert!(expected.len() > 100, "{} windows", expected.len());
        stream::assert_equal(&streamed(&query, &stream, &[]).await, &expected, seed);
    }
}

#[tokio::test]
async fn a_restart_at_any_batch_changes_nothing() {
    let stream = Stream::random(20, 3_000);
    let query = query(SQL).await;
    let expected = one_query(SQL, &stream.batches).await;
    let every: Vec<usize> = (0..stream.batches.len()).collect();
    stream::assert_equal(&streamed(&query, &stream, &every).await, &expected, 20);
    for at in every.iter().step_by(7) {
        stream::assert_equal(&streamed(&query, &stream, &[*at]).await, &expected, 20);
    }
}

#[tokio::test]
async fn many_keys_are_merged_on_the_way() {
    let sql = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload, fingerprint, count(*) AS n
        FROM queries GROUP BY 1, 2, 3";
    let stream = Stream::random(30, 40_000);
    let query = query(sql).await;
    let mut aggregate = WindowAggregate::new(Arc::clone(&query));
    for rows in &stream.batches {
        aggregate.push(vec![rows.clone()]).await.expect("takes the rows");
    }
    let groups = one_query(sql, &stream.batches).await.keys().filter(|key| key.0 == 10).count();
    assert!(aggregate.state_rows() < 40_000, "{} rows of state for {groups} groups", aggregate.state_rows());
    stream::assert_equal(&streamed(&query, &stream, &[]).await, &one_query(sql, &stream.batches).await, 30);
}

#[tokio::test]
async fn percentiles_are_within_their_stated_error_of_exact_ones() {
    let sql = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload,
        approx_percentile_cont(duration_ms, 0.5) AS p50, approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95,
        approx_percentile_cont(0.01) WITHIN GROUP (ORDER BY duration_ms DESC) AS p99, approx_median(rows) AS rows,
        approx_percentile_cont(duration_ms, 0.5) FILTER (WHERE error) AS failed_p50, max(duration_ms) AS most
        FROM queries GROUP BY 1, 2";
    let query = query(sql).await;
    let stream = Stream::random(50, 20_000);
    let once = streamed(&query, &stream, &[]).await;
    let every: Vec<usize> = (0..stream.batches.len()).step_by(3).collect();
    assert!(streamed(&query, &stream, &every).await == once, "a restart changes no bit of a percentile");
    let exact = stream::durations(&stream.batches);
    assert_eq!(once.len(), exact.len());
    for (key, values) in &once {
        let durations = &exact[key];
        for (found, level) in values.iter().zip([0.5, 0.95, 0.99]) {
            let at = stream::rank(level, durations.len());
            let error = (found - durations[at]).abs() / durations[at];
            assert!(error <= RELATIVE_ERROR * 1.000_001, "{key:?} p{level}: {found} for {}", durations[at]);
        }
    }
}

#[tokio::test]
async fn late_rows_correct_their_windows_and_no_others() {
    let stream = Stream::random(60, 3_000);
    let query = query(SQL).await;
    let expected = one_query(SQL, &stream.batches).await;
    for restarts in [false, true] {
        let mut aggregate = WindowAggregate::new(Arc::clone(&query)).with_corrections(Span::from_hours(1));
        let mut newest = Cells::new();
        let mut emitted = 0;
        for (at, rows) in stream.batches.iter().enumerate() {
            if restarts {
                let saved = aggregate.checkpoint().expect("saves");
                let restored = WindowAggregate::restore(Arc::clone(&query), &saved).expect("restores");
                aggregate = restored.with_corrections(Span::from_hours(1));
            }
            // Without allowed lateness nearly every batch has rows whose pane has been emitted.
            let split = split_rows(rows, aggregate.closed_before(), None).expect("splits");
            aggregate.correct(vec![split.late]).await.expect("corrects");
            aggregate.push(vec![split.on_time]).await.expect("takes the rows");
            for emission in aggregate.close(stream.newest[at]).await.expect("closes") {
                emitted += emission.batch.num_rows();
                newest.extend(cells(vec![emission]));
            }
        }
        newest.extend(cells(aggregate.close(EventTime::parse("2030-01-01").expect("a date")).await.expect("closes")));
        assert!(
            emitted > expected.len(),
            "{emitted} rows emitted for {} windows: nothing was corrected",
            expected.len()
        );
        stream::assert_equal(&newest, &expected, 60);
        assert_eq!(aggregate.state_rows(), 0, "what cannot be corrected any more is forgotten");
    }
}

#[tokio::test]
async fn unseen_fingerprints_and_the_heaviest_are_told_across_restarts() {
    let sql = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload,
        sum(count) FILTER (WHERE first_seen > event_time - INTERVAL '15 seconds') AS young,
        top_share(fingerprint, count, 1) AS top FROM queries GROUP BY 1, 2";
    let query = query(sql).await;
    let at = |second: i64| stream::START_US + second * 1_000_000;
    // f0 all the time, and from second 30 on f1 in one row of three.
    let of = |second: i64| if second >= 30 && second % 3 == 0 { "f1" } else { "f0" };
    let mut aggregate = WindowAggregate::new(Arc::clone(&query));
    let mut emitted = Vec::new();
    for second in 0..60 {
        let saved = aggregate.checkpoint().expect("saves").encode_to_vec();
        let saved = QueryState::decode(saved.as_slice()).expect("comes back");
        aggregate = WindowAggregate::restore(Arc::clone(&query), &saved).expect("restores");
        let rows = stream::with_fingerprint(&batch([(at(second), "a", 1.0)].into_iter()), of(second));
        aggregate.push(vec![rows]).await.expect("takes the rows");
        emitted.extend(aggregate.close(EventTime::from_micros(at(second))).await.expect("closes"));
    }
    emitted.extend(aggregate.close(EventTime::from_micros(at(300))).await.expect("closes"));
    let panes: Vec<Vec<f64>> =
        cells(emitted).into_iter().filter(|(key, _)| key.0 == 10).map(|(_, cell)| cell).collect();
    let young: Vec<f64> = panes.iter().map(|cell| if cell[0].is_nan() { 0.0 } else { cell[0] }).collect();
    // f0 is young until second 14, f1 from second 30 until second 44: 30, 33, 36, 39 and 42.
    assert_eq!(young, [10.0, 5.0, 0.0, 4.0, 1.0, 0.0]);
    assert_eq!(panes.iter().map(|cell| cell[1]).collect::<Vec<_>>(), [1.0, 1.0, 1.0, 0.6, 0.7, 0.7]);
}

#[tokio::test]
async fn a_checkpoint_that_does_not_fit_is_refused() {
    let stream = Stream::random(40, 200);
    let query = query(SQL).await;
    let mut aggregate = WindowAggregate::new(Arc::clone(&query));
    aggregate.push(vec![stream.batches[0].clone()]).await.expect("takes the rows");
    let saved = aggregate.checkpoint().expect("saves");
    let other = self::query(&SQL.replace("max(duration_ms)", "max(duration_ms) * 2")).await;
    let refused = WindowAggregate::restore(other, &saved).expect_err("another query");
    assert!(matches!(refused, WindowError::Fingerprint { .. }), "{refused}");
    for length in [0, 1, saved.states.len() / 2, saved.states.len() - 9] {
        let mut damaged = saved.clone();
        damaged.states.truncate(length);
        let restored = WindowAggregate::restore(Arc::clone(&query), &damaged);
        let refused = restored.err().unwrap_or_else(|| unreachable!("{length} of {} bytes", saved.states.len()));
        assert!(matches!(refused, WindowError::Checkpoint(_)), "{refused}");
    }
}

#[tokio::test]
async fn late_and_unbelievable_rows_are_told_apart_and_their_windows_say_so() {
    let at = |second: i64| EventTime::from_micros(stream::START_US + second * 1_000_000);
    let rows = batch((0..60).map(|second| (at(second).micros(), "a", 1.0)));
    let split = split_rows(&rows, at(20), Some(at(49))).expect("splits");
    assert_eq!((split.late.num_rows(), split.on_time.num_rows(), split.future.num_rows()), (20, 30, 10));
    assert_eq!(split.newest, Some(at(49)));

    let sql = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload, count(*) AS n
        FROM queries GROUP BY 1, 2";
    let mut aggregate = WindowAggregate::new(query(sql).await);
    aggregate.push(vec![split.on_time]).await.expect("takes the rows");
    aggregate.damage(at(35), at(20));
    // The pane of second 25 had been passed by then; its minute had not.
    aggregate.damage(at(25), at(30));
    let emitted = aggregate.close(at(600)).await.expect("closes");
    let complete: Vec<(i64, bool)> = stream::completeness(&emitted);
    // Second 20 is the first that was seen: the minute began before it, and second 35 was set aside.
    assert_eq!(complete, [(10, true), (10, false), (10, true), (60, false), (300, false)]);
    assert!(aggregate.closed_before() == at(600));
}
