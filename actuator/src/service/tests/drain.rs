//! A release waits until the work of its units is let go, as long as that may take.

use std::time::Duration;

use headroom_actuator_decide::policy::Stage;
use headroom_proto::time::Span;
use headroom_proto::v1::{ActionRecord, ActionState};

use tokio::time::Instant;

use super::ground::Ground;

/// Raised to 5 units at window 1, released to 1 at window 5.
async fn released(ground: &mut Ground, answers: usize) -> Vec<ActionRecord> {
    ground.config.planner.dwell = Span::from_mins(5);
    let actuator = ground.start();
    ground.turns("shop", 1..=4, 50.0, 300.0).await;
    actuator.knows("shop", 4).await;
    ground.target.drain_slowly(answers);
    ground.turns("shop", 5..=6, 50.0, 50.0).await;
    actuator.knows("shop", 6).await;
    actuator.stop().await;
    let mut moves = ground.moves("shop").await;
    moves.retain(|action| action.units_after == 1);
    moves
}

fn applied(moves: &[ActionRecord]) -> &ActionRecord {
    moves.iter().find(|action| action.state() == ActionState::Applied).expect("released")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_until_its_work_is_let_go() {
    let mut ground = Ground::new(Stage::Automate).await;
    let moves = released(&mut ground, 1).await;
    assert!(applied(&moves).reason.starts_with("drained in 1s; the target has taken"), "{moves:?}");
    assert_eq!(ground.units("shop", 6).await, 1);
    let keys: Vec<String> = ground.target.asked().into_iter().map(|asked| asked.key).collect();
    assert_eq!(keys.len(), 2, "the raise and the release, once each: {keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_does_not_wait_for_ever() {
    let mut ground = Ground::new(Stage::Automate).await;
    let moves = released(&mut ground, usize::MAX).await;
    let reason = &applied(&moves).reason;
    assert!(reason.starts_with("not drained within 2.5s: 2 connections; the target has taken"), "{reason}");
    assert_eq!(ground.units("shop", 6).await, 1);
}

/// Taken back while its work is let go, a release has never been.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_can_be_taken_back_while_it_lets_work_go() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.planner.dwell = Span::from_mins(5);
    let actuator = ground.start();
    ground.turns("shop", 1..=4, 50.0, 300.0).await;
    actuator.knows("shop", 4).await;
    ground.target.drain_slowly(usize::MAX);
    ground.turns("shop", 5..=5, 50.0, 50.0).await;
    actuator.knows("shop", 5).await;
    let plan = actuator.plans(false).await[0].plan.clone().expect("a plan");
    assert_eq!((plan.units_before, plan.units_now), (5, 1));
    let moves = actuator.roll_back(&plan.plan_id).await.expect("taken back");
    assert_eq!((moves.len(), moves[0].state(), moves[0].undo_units), (1, ActionState::RolledBack, 5), "{moves:?}");
    assert_eq!(ground.units("shop", 5).await, 5);
    ground.turns("shop", 6..=6, 50.0, 50.0).await;
    actuator.knows("shop", 6).await;
    assert_eq!(ground.units("shop", 6).await, 5, "automation is paused");
    actuator.stop().await;
}

/// Raised to 5 units at window 1, and rolled back by a person; the keys that had an effect at once, and in the end.
async fn rolled_back(answers: usize) -> (usize, usize) {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=4, 50.0, 300.0).await;
    actuator.knows("shop", 4).await;
    ground.target.drain_slowly(answers);
    let plan = actuator.plans(false).await[0].plan.clone().expect("a plan");
    let moves = actuator.roll_back(&plan.plan_id).await.expect("on the record");
    assert_eq!(moves[0].state(), ActionState::RolledBack);
    let at_once = ground.target.effects("shop").len();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ground.target.effects("shop").len() < 2 {
        assert!(Instant::now() < deadline, "it is not undone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ground.units("shop", 5).await, 1);
    actuator.stop().await;
    (at_once, ground.target.effects("shop").len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_s_rollback_lets_work_go_first_and_does_not_wait_for_ever() {
    assert_eq!(rolled_back(0).await, (2, 2), "there is nothing to wait for");
    assert_eq!(rolled_back(1).await, (1, 2));
    assert_eq!(rolled_back(usize::MAX).await, (1, 2));
}
