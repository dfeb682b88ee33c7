//! The target that exists on paper keeps to the same contract.

use std::sync::Arc;

use async_trait::async_trait;
use headroom_actuator::targets::simulated::{SimulatedConfig, SimulatedTarget};
use headroom_actuator::{ApplyRequest, Fence, Target};
use headroom_proto::EventTime;
use headroom_proto::time::Span;
use tempfile::TempDir;

use super::contract::{self, Bench, Pace, Trouble, WORKLOAD};

struct Paper(TempDir);

#[async_trait]
impl Bench for Paper {
    fn open_at(&self, _pace: Pace) -> Arc<dyn Target> {
        let settings = SimulatedConfig { lead_time: Span::from_micros(0), ..SimulatedConfig::default() };
        Arc::new(SimulatedTarget::open(settings, &self.0.path().join("state.json")).expect("opens"))
    }

    async fn actual(&self) -> String {
        self.open().observe(WORKLOAD, EventTime::from_micros(i64::MAX)).await.expect("answers").value
    }

    /// Nobody can get at it past our code: a change without a place comes closest.
    async fn by_hand(&self, number: Option<u64>) {
        let file = self.0.path().join("state.json");
        let text = std::fs::read_to_string(&file).expect("reads");
        let mut changes: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let all = changes.get_mut(WORKLOAD).and_then(serde_json::Value::as_array_mut).expect("changes");
        let at_us = all.last().and_then(|last| last.get("at_us")).expect("one").clone();
        let units = number.expect("it always has a value");
        let key = format!("by hand {}", all.len());
        all.push(serde_json::json!({ "key": key, "at_us": at_us, "units": units }));
        std::fs::write(&file, changes.to_string()).expect("writes");
    }

    fn per_unit(&self) -> u64 {
        1
    }

    fn can_be_unset(&self) -> bool {
        false
    }

    fn troubles(&self) -> &[Trouble] {
        &[]
    }

    async fn trouble(&self, _trouble: Option<Trouble>) {}
}

#[tokio::test]
async fn the_simulated_target_keeps_the_contract() {
    let bench = Paper(tempfile::tempdir().expect("a temp folder"));
    contract::holds(&bench).await;
    let place = Fence::new(EventTime::from_micros(1_790_000_000_000_000), 12);
    assert_eq!(place.to_string().parse(), Ok(place));
    let request = ApplyRequest {
        workload: "other".to_owned(),
        units: 2,
        idempotency_key: "other/1".to_owned(),
        fence: place,
        undoes: None,
        at: EventTime::from_micros(0),
        begin_at: None,
    };
    bench.open().apply(&request).await.expect("workloads have their own places");
}
