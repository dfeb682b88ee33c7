//! The kill switch: it counts at once, while a target hangs and after a restart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headroom_actuator_decide::stage::Stage;
use headroom_proto::EventTime;
use headroom_proto::v1::ActionState;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ground::Ground;
use super::watched::Watched;
use crate::{Applied, ApplyRequest, Target, TargetError, TargetState, Targets};

/// A target that takes a change only when it is let.
struct Hanging {
    inner: Arc<Watched>,
    begun: Semaphore,
    let_go: Semaphore,
}

#[async_trait]
impl Target for Hanging {
    fn name(&self) -> &str {
        "hanging"
    }

    async fn apply(&self, request: &ApplyRequest) -> Result<Applied, TargetError> {
        self.begun.add_permits(1);
        self.let_go.acquire().await.expect("open").forget();
        self.inner.apply(request).await
    }

    async fn observe(&self, workload: &str, at: EventTime) -> Result<TargetState, TargetError> {
        self.inner.observe(workload, at).await
    }

    async fn probe(&self, _workload: &str) -> Result<(), TargetError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_after_the_switch_although_a_target_hangs_and_after_a_restart() {
    for stopped in ["", "b"] {
        let mut ground = Ground::new(Stage::Automate).await;
        let inner = Arc::<Watched>::clone(&ground.target);
        let hanging = Arc::new(Hanging { inner, begun: Semaphore::new(0), let_go: Semaphore::new(0) });
        let target: Arc<dyn Target> = Arc::<Hanging>::clone(&hanging);
        let actuator = ground.start_over(Targets::new(Arc::clone(&target)));
        actuator.runs().await;
        ground.turns("a", 1..=1, 50.0, 300.0).await;
        // The change of one workload has begun and hangs; the loop waits for it, and the other is due.
        let begun = tokio::time::timeout(Duration::from_secs(60), hanging.begun.acquire()).await;
        begun.expect("it begins").expect("open").forget();
        ground.turns("b", 1..=1, 50.0, 300.0).await;
        let asked_at = Instant::now();
        let (board, mut asked) = (actuator.handle.board.clone(), Box::pin(actuator.pause(stopped)));
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut acknowledged = None;
        while board.stopped("b").is_none() {
            tokio::select! {
                switched = &mut asked => acknowledged = Some(switched),
                _ = ticks.tick() => {}
            }
        }
        let took = asked_at.elapsed();
        assert!(took < Duration::from_secs(1), "the switch `{stopped}` counted after {took:?}");
        let switched = match acknowledged {
            Some(switched) => switched,
            None => {
                let answer = tokio::time::timeout(Duration::from_secs(60), &mut asked).await;
                answer.expect("answers while the target hangs")
            }
        };
        drop(asked);
        assert!(switched.paused);

        hanging.let_go.add_permits(10);
        for workload in ["a", "b"] {
            ground.turns(workload, 2..=3, 50.0, 300.0).await;
            actuator.knows(workload, 3).await;
        }
        let effects: Vec<usize> = ["a", "b"].map(|workload| ground.target.effects(workload).len()).to_vec();
        assert_eq!(effects, [1, 0], "what had begun ends, nothing else begins: `{stopped}`");
        assert_eq!(ground.states("a").await.last(), Some(&ActionState::Holding));
        actuator.stop().await;

        let actuator = ground.start_over(Targets::new(Arc::clone(&target)));
        ground.turns("b", 4..=4, 50.0, 500.0).await;
        actuator.knows("b", 4).await;
        assert!(ground.target.effects("b").is_empty(), "`{stopped}`");
        let status = actuator.status_of("b").await;
        assert_eq!((status.paused, status.paused_by.as_str(), status.paused_reason.as_str()), (true, "ann", "a drill"));
        actuator.resume(stopped).await;
        ground.turns("b", 5..=5, 50.0, 500.0).await;
        actuator.knows("b", 5).await;
        assert_eq!(ground.target.effects("b").len(), 1, "`{stopped}`");
        actuator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_while_the_record_is_read_counts_more_than_the_record() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    actuator.pause("shop").await;
    actuator.resume("shop").await;
    actuator.stop().await;
    // Before the loop has begun.
    let actuator = ground.start();
    actuator.pause("shop").await;
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    assert!(actuator.status_of("shop").await.paused);
    assert!(ground.target.asked().is_empty());
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_known_is_told_and_whatever_is_stopped_is_named() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 60.0).await;
    actuator.knows("shop", 1).await;
    assert_eq!(actuator.pause("shop").await.warning, "");
    assert_eq!(actuator.resume("shop").await.warning, "");
    let unknown = "no workload `shoop` has appeared: it is paused from its first window on; known are: shop";
    let paused = actuator.pause("shoop").await;
    assert_eq!((paused.paused, paused.warning.as_str()), (true, unknown));
    let note = "automation of shoop is paused";
    actuator.until("its name is told", |status| status.note.ends_with(note)).await;
    let stopped = actuator.stopped().await;
    assert_eq!(stopped.len(), 1);
    assert_eq!((stopped[0].workload.as_str(), stopped[0].actor.as_str()), ("shoop", "ann"));
    assert_eq!(stopped[0].warning, unknown, "it stands beside the switch");
    assert!(!actuator.status_of("shop").await.paused);
    // It holds for a workload that appears later.
    ground.turns("shoop", 1..=1, 50.0, 300.0).await;
    actuator.knows("shoop", 1).await;
    assert!(ground.target.asked().is_empty() && actuator.status_of("shoop").await.paused);
    assert_eq!(actuator.stopped().await[0].warning, "");

    assert_eq!(actuator.resume("shop").await.warning, "automation of `shop` was not paused: shoop is");
    assert_eq!(actuator.resume("").await.warning, "what is paused by itself stays so: shoop");
    actuator.pause("").await;
    actuator.until("all is told", |status| status.note.ends_with("all automation is paused")).await;
    let resumed = actuator.resume("shoop").await;
    assert!(resumed.paused && resumed.warning.starts_with("every workload is paused"), "{resumed:?}");
    assert!(!actuator.resume("").await.paused);
    assert!(actuator.stopped().await.is_empty());
    actuator.stop().await;
}
