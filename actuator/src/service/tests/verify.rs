//! Changes that do harm, and changes that do none.

use std::collections::BTreeMap;

use headroom_actuator_decide::budget::{Budget, Excess, Member};
use headroom_actuator_decide::policy::Stage;
use headroom_proto::v1::ActionState;

use super::ENDS_WELL;
use super::ground::{Actuator, Ground, time};

/// Windows before the change: a block of two windows has 120 references.
const QUIET: i64 = 240;

/// A course without anything to do, then a forecast that calls for 5 units in the window after it; units are ready two
/// windows later, and are held for three.
async fn changed(ground: &mut Ground, actuator: &Actuator) {
    let latency = |step: i64| 20.0 + f64::from(u8::try_from(step * 7 % 11).expect("small")) / 5.0;
    ground.slow_windows("shop", (1..=QUIET).map(|step| (step, 50.0, latency(step)))).await;
    ground.forecast("shop", QUIET + 1, 300.0).await;
    ground.slow_windows("shop", [(QUIET + 1, 50.0, 20.0)].into_iter()).await;
    actuator.knows("shop", QUIET + 1).await;
    assert_eq!(ground.states("shop").await, ENDS_WELL[..5]);
}

async fn goes_on(ground: &mut Ground, actuator: &Actuator, steps: std::ops::RangeInclusive<i64>, latency: f64) {
    for step in steps {
        ground.forecast("shop", QUIET + step, 300.0).await;
        ground.slow_windows("shop", [(QUIET + step, 50.0, latency)].into_iter()).await;
        actuator.knows("shop", QUIET + step).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_does_harm_is_undone_by_itself_and_automation_pauses() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    changed(&mut ground, &actuator).await;
    // Tripled from when the units are ready: the block of two windows is full with the second.
    goes_on(&mut ground, &actuator, 2..=4, 60.0).await;
    assert_eq!(ground.states("shop").await, ENDS_WELL[..5], "one bad window is not harm");
    ground.target.drain_slowly(usize::MAX);
    goes_on(&mut ground, &actuator, 5..=6, 60.0).await;

    let moves = ground.moves("shop").await;
    let last = &moves[5];
    assert_eq!((moves.len(), last.state(), last.actor.as_str()), (6, ActionState::RolledBack, "verifier"));
    assert_eq!(last.at_us, time(QUIET + 4).micros(), "as of the last decision");
    for said in ["p99_ms: 60.0000 where 21", "e-value 120.98 of 100", "120 blocks", "0.01 is the chance"] {
        assert!(last.reason.contains(said), "{said}: {}", last.reason);
    }
    assert_eq!(ground.units("shop", QUIET + 6).await, 1);
    assert_eq!(ground.target.drains_left(), usize::MAX, "it does not wait until work is let go");
    let key = moves[0].idempotency_key.clone();
    assert_eq!(ground.target.effects("shop"), [key.clone(), format!("{key}/rollback")]);
    assert!(actuator.status_of("shop").await.paused, "the next window would do it again");
    let outcome = &ground.outcomes().await[0];
    assert_eq!((outcome.judgement.as_str(), outcome.worst_guard.as_str()), ("harmful", "p99_ms"));
    assert!(outcome.e_value > 100.0, "{outcome:?}");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_does_no_harm_is_verified_with_the_evidence() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    changed(&mut ground, &actuator).await;
    goes_on(&mut ground, &actuator, 2..=6, 21.0).await;
    assert_eq!(ground.states("shop").await, ENDS_WELL);
    let reason = &ground.moves("shop").await[5].reason;
    for said in ["the target reports 5 units", "p99_ms: 21.0000 where 21", "e-value", "2 of 2 windows"] {
        assert!(reason.contains(said), "{said}: {reason}");
    }
    let outcome = &ground.outcomes().await[0];
    // 50 on one unit of 100 is half of it; on five a tenth.
    assert!((outcome.counterfactual_peak_utilisation - 0.5).abs() < 1e-9, "{outcome:?}");
    assert!(outcome.counterfactual_method.starts_with("estimate"), "{outcome:?}");
    actuator.stop().await;
}

/// Units were asked for and are on the books, and never come to serve.
#[tokio::test(flavor = "multi_thread")]
async fn units_that_do_not_serve_are_no_success() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    changed(&mut ground, &actuator).await;
    ground.target.is_sick(3);
    goes_on(&mut ground, &actuator, 2..=6, 21.0).await;
    let moves = ground.moves("shop").await;
    let last = &moves[moves.len() - 1];
    assert_eq!((last.state(), last.actor.as_str()), (ActionState::Failed, "verifier"), "{moves:?}");
    for said in ["5 units, but only 3 of them serve", "headroom rollback shop-", "returns to 1 unit"] {
        assert!(last.reason.contains(said), "{said}: {}", last.reason);
    }
    assert_eq!(ground.target.effects("shop").len(), 1, "it is not asked for again");
    actuator.stop().await;
}

/// A target that does not answer does not keep harm from being seen: it is undone as soon as it answers.
#[tokio::test(flavor = "multi_thread")]
async fn harm_is_seen_while_the_target_cannot_be_asked() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    changed(&mut ground, &actuator).await;
    ground.target.go_away(true);
    ground.target.refuse(true);
    for step in 2..=5 {
        ground.forecast("shop", QUIET + step, 300.0).await;
        ground.slow_windows("shop", [(QUIET + step, 50.0, 60.0)].into_iter()).await;
    }
    actuator.until("harm is found", |status| status.note.contains("automation of shop is paused")).await;
    let last = ground.moves("shop").await.pop().expect("moves");
    assert_eq!((last.state(), last.actor.as_str()), (ActionState::RolledBack, "verifier"));
    assert!(last.reason.contains("it does harm"), "{}", last.reason);
    assert_eq!(ground.target.effects("shop").len(), 1, "it cannot be undone yet");
    ground.target.refuse(false);
    ground.target.go_away(false);
    goes_on(&mut ground, &actuator, 6..=7, 60.0).await;
    assert_eq!(ground.units("shop", QUIET + 7).await, 1);
    assert_eq!(ground.target.effects("shop").len(), 2, "once");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_that_may_not_be_undone_by_itself_is_told() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    changed(&mut ground, &actuator).await;
    actuator.pause("shop").await;
    goes_on(&mut ground, &actuator, 2..=5, 60.0).await;
    let moves = ground.moves("shop").await;
    let last = &moves[moves.len() - 1];
    assert_eq!(last.state(), ActionState::Failed);
    assert!(last.reason.contains("it does harm") && last.reason.contains("headroom rollback"), "{}", last.reason);
    assert_eq!(ground.units("shop", QUIET + 5).await, 5, "a person decides");
    actuator.rollback(&last.action_id).await.expect("undone");
    assert_eq!(ground.units("shop", QUIET + 5).await, 1);
    actuator.stop().await;
}

/// A release that does harm, when others have taken what it gave free: nothing fits any more, and a person has to look.
#[tokio::test(flavor = "multi_thread")]
async fn harm_that_has_no_room_to_be_undone_pauses_with_the_arithmetic() {
    let mut ground = Ground::new(Stage::Automate).await;
    let members = BTreeMap::from(["shop", "reports"].map(|name| (name.to_owned(), Member { per_unit: 10 })));
    let shared = Budget { limit: Some(40), reserved: 10, excess: Excess::Refuse, provider: None, members };
    ground.config.budgets.insert("db".to_owned(), shared);
    ground.by_hand("shop", 0, 2).await;
    let actuator = ground.start();
    let latency = |step: i64| 20.0 + f64::from(u8::try_from(step * 7 % 11).expect("small")) / 5.0;
    ground.slow_windows("shop", (1..=QUIET).map(|step| (step, 50.0, latency(step)))).await;
    ground.forecast("shop", QUIET + 1, 50.0).await;
    ground.slow_windows("shop", [(QUIET + 1, 50.0, 20.0)].into_iter()).await;
    actuator.knows("shop", QUIET + 1).await;
    assert_eq!(ground.units("shop", QUIET + 1).await, 1, "released");
    ground.turns("reports", QUIET + 2..=QUIET + 2, 50.0, 130.0).await;
    actuator.knows("reports", QUIET + 2).await;
    for step in 2..=6 {
        ground.forecast("shop", QUIET + step, 50.0).await;
        ground.slow_windows("shop", [(QUIET + step, 50.0, 60.0)].into_iter()).await;
        actuator.knows("shop", QUIET + step).await;
    }
    let moves = ground.moves("shop").await;
    let last = &moves[moves.len() - 1];
    assert_eq!((last.state(), last.actor.as_str()), (ActionState::Failed, "verifier"), "{moves:?}");
    for said in ["it does harm", "shop 2 x 10 = 20 + reports 2 x 10 = 20 is 40 > 30", "make room first"] {
        assert!(last.reason.contains(said), "{said}: {}", last.reason);
    }
    assert_eq!(ground.units("shop", QUIET + 6).await, 1, "nothing was done");
    let status = actuator.status_of("shop").await;
    assert!(status.paused && status.paused_reason.contains("40 > 30"), "{status:?}");
    actuator.stop().await;
}
