//! Scenarios: each runs plain, and again with the processor killed at every step, against the same expectation.

mod harness;

use bytes::Bytes;
use futures::TryStreamExt;
use headroom_proto::Span;
use object_store::ObjectStoreExt;

use super::*;
use harness::{Fate, Mode, Scenario, Step, rows};

const NEVER: Span = Span::from_hours(10);

async fn holds(scenario: Scenario) {
    for mode in [Mode::Plain, Mode::KilledAtEveryStep, Mode::KilledOnce { step: scenario.steps.len() / 2 }] {
        harness::run(&scenario, mode).await;
    }
}

/// Rows a second apart, each 1 heavy.
fn steady(workload: &'static str, seconds: std::ops::Range<i64>) -> Step {
    rows(workload, seconds.map(|second| (second, 1.0, Fate::Kept)))
}

#[tokio::test(flavor = "multi_thread")]
async fn normal() {
    let steps = (0..12).flat_map(|k| [steady("orders", k * 20..k * 20 + 20), steady("search", k * 20..k * 20 + 20)]);
    holds(Scenario { name: "normal", idle_after: NEVER, steps: steps.collect(), incomplete: vec![] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_data() {
    let steps = vec![
        steady("orders", 0..60),
        // Within the allowed lateness of 10 s: second 50 is open, since second 59 has come.
        rows("orders", [(50, 5.0, Fate::Kept), (120, 1.0, Fate::Kept)]),
        // The watermark is at 110: what ends before it is closed.
        rows("orders", [(30, 7.0, Fate::Late), (109, 7.0, Fate::Late), (110, 2.0, Fate::Kept), (125, 1.0, Fate::Kept)]),
        steady("orders", 126..200),
    ];
    // Second 109 came too late for its pane, while its minute was open; the first minute had ended.
    let incomplete = vec![(60, 60)];
    holds(Scenario { name: "late data", idle_after: NEVER, steps, incomplete }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_source() {
    // One source falls silent with windows open: they close by the clock, and the other goes on.
    let mut steps = vec![steady("orders", 0..35), steady("search", 0..20)];
    steps.extend((1..6).map(|k| steady("search", k * 20..k * 20 + 20)));
    holds(Scenario { name: "idle source", idle_after: Span::from_secs(1), steps, incomplete: vec![] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_skew() {
    const YEAR_2099: i64 = 73 * 365 * 86_400;
    let steps = vec![
        steady("orders", 0..30),
        rows("orders", [(30, 1.0, Fate::Kept), (YEAR_2099, 1.0, Fate::Dead), (31, 1.0, Fate::Kept)]),
        steady("orders", 32..100),
    ];
    holds(Scenario { name: "clock skew", idle_after: NEVER, steps, incomplete: vec![] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spike() {
    let burst = rows("orders", (0..20_000).map(|k| (40 + k % 10, 0.5, Fate::Kept)));
    let steps = vec![steady("orders", 0..40), burst, steady("orders", 50..130)];
    holds(Scenario { name: "spike", idle_after: NEVER, steps, incomplete: vec![] }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_payload() {
    let garbage = |bytes: &'static [u8], schema| Step::Raw { value: Bytes::from_static(bytes), schema };
    let steps = vec![
        steady("orders", 0..30),
        garbage(b"not Arrow", ("metrics", "1")),
        garbage(b"", ("metrics", "1")),
        garbage(b"anything", ("metrics", "99")),
        garbage(b"anything", ("orders", "1")),
        steady("orders", 30..100),
    ];
    // The watermark stood at second 19 when they came: its windows may lack rows.
    let incomplete = vec![(10, 10), (60, 0)];
    holds(Scenario { name: "bad payload", idle_after: NEVER, steps, incomplete }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_holds_too_much_is_refused_and_goes_on_under_a_higher_limit() {
    let store = Arc::new(object_store::memory::InMemory::new());
    let broker = crate::test_broker::TestBroker::start().await;
    harness::publish(&broker, &[steady("orders", 0..200)]).await;
    for limits in [(5, usize::MAX), (usize::MAX, 100)] {
        let config = ProcessConfig { max_state_rows: limits.0, max_state_bytes: limits.1, ..ProcessConfig::default() };
        let error = harness::ends(&broker, config, Arc::clone(&store)).await.expect_err("is full");
        assert!(matches!(error, ProcessError::StateFull { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("headroom.telemetry.metrics/0") && text.contains("process.max_state_rows"), "{text}");
    }
    let windows = harness::goes_on(&broker, ProcessConfig::default(), store).await;
    assert_eq!(windows, 18 + 3, "10 s and 1 min windows of 200 s, with 10 s of allowed lateness");
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_know_the_signals_that_were_announced_by_their_end() {
    let broker = crate::test_broker::TestBroker::start().await;
    let start = harness::start();
    let signal = |status, revision, announced: i64, from: i64, to: i64| {
        let at = |second: i64| (start + Span::from_secs(second)).micros();
        headroom_proto::v1::Signal {
            signal_id: "sale".to_owned(),
            revision,
            status,
            announced_at_us: at(announced),
            starts_at_us: at(from),
            ends_at_us: at(to),
            audience_size: Some(1_000),
            weight: 0.5,
            workloads: vec!["orders".to_owned()],
            ..headroom_proto::v1::Signal::default()
        }
    };
    let (announced, cancelled) =
        (headroom_proto::v1::SignalStatus::Announced.into(), headroom_proto::v1::SignalStatus::Cancelled.into());
    harness::announce(&broker, &[signal(announced, 1, 15, 50, 70), signal(cancelled, 2, 65, 50, 70)]).await;
    harness::publish(&broker, &[steady("orders", 0..100), steady("search", 0..100)]).await;
    harness::goes_on(&broker, ProcessConfig::default(), Arc::new(object_store::memory::InMemory::new())).await;
    let of_orders: Vec<_> = harness::signals_seen(&broker, "orders").await;
    let quiet = (0.0, None, 0.0);
    let active = (1.0, None, 500.0);
    let ahead = |seconds: f64| (0.0, Some(seconds), 0.0);
    // Announced at second 15, from second 50 on, cancelled at second 65.
    let expected = [quiet, ahead(30.0), ahead(20.0), ahead(10.0), ahead(0.0), active, quiet, quiet];
    assert_eq!(of_orders, expected);
    assert!(harness::signals_seen(&broker, "search").await.iter().all(|seen| *seen == quiet));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_cannot_be_used_is_named() {
    let store = Arc::new(object_store::memory::InMemory::new());
    let scenario = Scenario { name: "", idle_after: NEVER, steps: vec![steady("orders", 0..30)], incomplete: vec![] };
    harness::run_over(&scenario, Mode::Plain, Arc::clone(&store)).await;
    let other = "SELECT date_bin(INTERVAL '10 seconds', event_time) AS window_start, workload, min(value) AS least
        FROM metrics GROUP BY 1, 2";
    let error = harness::refused(Arc::clone(&store), other).await;
    assert!(matches!(error, ProcessError::Window(WindowError::Fingerprint { .. })), "{error}");
    let objects: Vec<_> = store.list(None).try_collect().await.expect("lists");
    for object in objects {
        let bytes = store.get(&object.location).await.expect("reads").bytes().await.expect("reads");
        let damaged = bytes.slice(..bytes.len() - 1);
        store.put(&object.location, damaged.into()).await.expect("writes");
    }
    let error = harness::refused(store, harness::SQL).await;
    assert!(error.to_string().contains("its hash differs"), "{error}");
}
