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
