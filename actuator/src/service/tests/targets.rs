//! Several targets, and targets that do not answer.

use std::sync::Arc;

use headroom_actuator_decide::policy::Stage;
use headroom_proto::v1::ActionState;
use tonic::Code;

use super::ground::{Ground, time};
use super::watched::Watched;
use crate::{Target, Targets};

#[tokio::test(flavor = "multi_thread")]
async fn each_workload_has_its_target_and_one_that_is_away_keeps_nobody_waiting() {
    let mut ground = Ground::new(Stage::Automate).await;
    let (watched, another): (Arc<dyn Target>, _) = (Arc::<Watched>::clone(&ground.target), ground.another());
    let actuator = ground.start_over(Targets::new(Arc::clone(&another)).with("shop", watched));
    ground.target.go_away(true);
    for workload in ["shop", "bank"] {
        ground.turns(workload, 1..=1, 50.0, 300.0).await;
    }
    actuator.knows("bank", 1).await;
    let states = ground.states("bank").await;
    assert_eq!(states.last(), Some(&ActionState::Holding));
    assert_eq!(another.observe("bank", time(1)).await.expect("answers").commanded, 5);
    assert!(ground.moves("shop").await.is_empty(), "without its state nothing is decided");
    assert_eq!(actuator.status_of("shop").await.units_ready, 0);

    ground.target.go_away(false);
    ground.turns("shop", 2..=2, 50.0, 300.0).await;
    actuator.knows("shop", 2).await;
    assert_eq!(ground.units("shop", 2).await, 5);
    assert_eq!(another.observe("shop", time(2)).await.expect("answers").commanded, 1, "it is the other's");
    // Away while its effect is measured: it is verified when it answers again.
    ground.target.go_away(true);
    ground.turns("shop", 3..=8, 50.0, 300.0).await;
    actuator.knows("shop", 8).await;
    assert_eq!(ground.states("shop").await.last(), Some(&ActionState::Holding));
    ground.target.go_away(false);
    ground.turns("shop", 9..=9, 50.0, 300.0).await;
    actuator.knows("shop", 9).await;
    assert!(ground.states("shop").await.contains(&ActionState::Verified));
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_was_not_taken_is_tried_again_with_each_window() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    let view = actuator.plans(true).await.remove(0);
    let plan_id = view.plan.as_ref().map(|plan| plan.plan_id.clone()).unwrap_or_default();
    actuator.approve(&plan_id, "").await.expect("approved");
    assert_eq!(ground.units("shop", 1).await, 5);

    ground.target.refuse(true);
    let refused = actuator.rollback(&view.action_id).await.expect_err("not taken");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("on the record") && refused.message().contains("each window"), "{refused}");
    ground.turns("shop", 2..=2, 50.0, 300.0).await;
    actuator.reaches(2).await;
    assert_eq!(ground.units("shop", 2).await, 5);
    ground.target.refuse(false);
    ground.turns("shop", 3..=3, 50.0, 300.0).await;
    actuator.reaches(3).await;
    assert_eq!(ground.units("shop", 3).await, 1);
    assert_eq!(ground.target.effects("shop").len(), 2, "the change and its undoing");
    actuator.stop().await;
}
