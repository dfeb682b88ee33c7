//! What somebody else has changed at a target is noticed, and respected.

use headroom_actuator_decide::stage::Stage;
use headroom_proto::headers;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionState, Switch};
use prost::Message;
use tonic::Code;

use super::ground::{Ground, records};
use crate::ForeignChanges;

async fn switches(ground: &Ground) -> Vec<Switch> {
    let records = records(&ground.broker, Topic::Actions).await;
    let kept = records.iter().filter(|record| record.header(headers::MESSAGE) == Some("Switch"));
    kept.map(|record| Switch::decode(&*record.value).expect("decodes")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_somebody_else_pauses_automation_until_it_is_accepted() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    for workload in ["shop", "bank"] {
        ground.turns(workload, 1..=2, 50.0, 300.0).await;
        actuator.knows(workload, 2).await;
    }
    ground.by_hand("shop", 2, 9).await;
    ground.turns("shop", 3..=4, 50.0, 300.0).await;
    ground.turns("bank", 3..=4, 50.0, 500.0).await;
    actuator.knows("shop", 4).await;
    actuator.knows("bank", 4).await;
    let switches = switches(&ground).await;
    assert_eq!(switches.len(), 1, "told once: {switches:?}");
    let switch = &switches[0];
    assert_eq!((switch.workload.as_str(), switch.paused, switch.cause.as_str()), ("shop", true, "foreign"));
    assert_eq!((switch.units, switch.target_value.as_str()), (9, "9 units"));
    for said in ["the target says 9 units", "the last change set 5 units", "shop-", "somebody else", "resume shop"] {
        assert!(switch.reason.contains(said), "`{said}` is not in {}", switch.reason);
    }
    assert_eq!((ground.units("shop", 4).await, ground.units("bank", 4).await), (9, 8), "only that workload");
    // What was being measured is not ours any more.
    assert_eq!(ground.states("shop").await.last(), Some(&ActionState::Superseded));
    let status = actuator.status_of("shop").await;
    assert!(status.paused && status.paused_by == "headroom" && status.paused_reason.contains("9 units"), "{status:?}");

    // It holds across a restart, and is lifted by a person, from what is there.
    actuator.stop().await;
    let actuator = ground.start();
    ground.turns("shop", 5..=5, 50.0, 700.0).await;
    actuator.knows("shop", 5).await;
    assert_eq!(ground.units("shop", 5).await, 9);
    actuator.resume("shop").await;
    ground.turns("shop", 6..=6, 50.0, 700.0).await;
    actuator.knows("shop", 6).await;
    let first = ground.moves("shop").await.into_iter().rfind(|record| record.state() == ActionState::Proposed);
    let first = first.expect("a new action");
    assert_eq!((first.units_before, first.units_after), (9, 10), "from the new value on");
    assert_eq!(ground.units("shop", 6).await, 10);
    assert!(!actuator.status_of("shop").await.paused);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_it_was_stopped_is_noticed_at_the_next_decision_and_a_waiting_plan_loses_its_ground() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.stage = headroom_actuator_decide::stage::StageSetting::each(Stage::Automate, Stage::Recommend);
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    ground.turns("shop", 20..=20, 10.0, 10.0).await;
    actuator.reaches(20).await;
    assert_eq!(actuator.plans(true).await.len(), 1, "a release waits");
    actuator.stop().await;
    ground.by_hand("shop", 20, 3).await;
    let actuator = ground.start();
    ground.turns("shop", 21..=21, 10.0, 10.0).await;
    actuator.reaches(21).await;
    assert!(actuator.status_of("shop").await.paused);
    assert!(actuator.plans(true).await.is_empty(), "it was made for 5 units");
    assert_eq!(ground.units("shop", 21).await, 3);
    // The resume is accepted across a restart as well.
    actuator.resume("shop").await;
    actuator.stop().await;
    let actuator = ground.start();
    ground.turns("shop", 22..=22, 300.0, 300.0).await;
    actuator.reaches(22).await;
    assert_eq!(ground.units("shop", 22).await, 5);
    actuator.stop().await;
}

/// What a person approves is held against the target of that moment, not of the last window.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_does_not_overrule_what_somebody_has_changed_since() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    let waiting = actuator.plans(true).await.remove(0).plan.expect("a plan");
    ground.by_hand("shop", 1, 3).await;
    let refused = actuator.approve(&waiting.plan_id, "").await.expect_err("made from 1 unit");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("3 units by now, and the plan was made from 1"), "{refused}");
    ground.turns("shop", 2..=2, 50.0, 300.0).await;
    actuator.reaches(2).await;
    let anew = actuator.plans(true).await.remove(0).plan.expect("a plan");
    assert_eq!((anew.units_before, anew.units_now), (3, 5));
    actuator.approve(&anew.plan_id, "").await.expect("from what is there");
    // Once Headroom has set it, another's change is not only noticed but stops automation.
    ground.turns("shop", 3..=3, 50.0, 500.0).await;
    actuator.reaches(3).await;
    let waiting = actuator.plans(true).await.remove(0).plan.expect("a plan");
    ground.by_hand("shop", 3, 20).await;
    let refused = actuator.approve(&waiting.plan_id, "").await.expect_err("somebody else");
    assert!(refused.message().contains("somebody else has changed the target, which says 20 units"), "{refused}");
    assert_eq!(ground.units("shop", 3).await, 20, "as they have set it");
    let status = actuator.status_of("shop").await;
    assert!(status.paused && actuator.plans(true).await.is_empty(), "{status:?}");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_when_told_not_to() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.foreign_changes = ForeignChanges::Ignore;
    let actuator = ground.start();
    ground.turns("shop", 1..=2, 50.0, 300.0).await;
    actuator.reaches(2).await;
    ground.by_hand("shop", 2, 9).await;
    ground.turns("shop", 3..=3, 50.0, 300.0).await;
    actuator.reaches(3).await;
    assert!(switches(&ground).await.is_empty());
    actuator.stop().await;
}
