//! What people ask: approve, reject, roll back, pause and resume.

use headroom_actuator_decide::policy::Stage;
use headroom_proto::time::Span;
use headroom_proto::v1::{ActionRecord, ActionState, PlanView};
use tonic::Code;

use super::ENDS_WELL;
use super::ground::{Actuator, Ground, time};

/// Windows 1 to `last` with a forecast that asks for 5 units; the plan of window 1 waits.
async fn waiting(ground: &mut Ground, actuator: &Actuator, last: i64) -> PlanView {
    ground.turns("shop", 1..=last, 50.0, 300.0).await;
    actuator.reaches(last).await;
    let mut pending = actuator.plans(true).await;
    assert_eq!(pending.len(), 1, "{pending:?}");
    pending.remove(0)
}

fn ids(view: &PlanView) -> (&str, &str) {
    let plan = view.plan.as_ref().expect("a plan");
    (&plan.plan_id, &plan.plan_hash)
}

fn last(moves: &[ActionRecord]) -> &ActionRecord {
    moves.last().expect("a move")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_waits_until_it_is_approved_and_is_measured_from_then_on() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    let view = waiting(&mut ground, &actuator, 6).await;
    let (plan_id, plan_hash) = ids(&view);
    assert_eq!(ground.states("shop").await, [ActionState::Proposed], "the same plan is not made twice");
    assert!(ground.target.asked().is_empty());

    let refused = actuator.approve(plan_id, "another hash").await.expect_err("the plan is another");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("changed") && refused.message().contains(plan_hash), "{refused}");
    let unknown = actuator.approve("plan-of-nobody", "").await.expect_err("no such plan");
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(ground.target.asked().is_empty());

    let approved = actuator.approve(plan_id, plan_hash).await.expect("approved");
    assert_eq!(approved.state(), ActionState::Holding);
    assert_eq!((ground.units("shop", 5).await, ground.units("shop", 6).await), (1, 5));
    let twice = actuator.approve(plan_id, plan_hash).await.expect_err("it waits no more");
    assert_eq!(twice.code(), Code::FailedPrecondition);
    assert!(twice.message().contains("holding"), "{twice}");
    assert_eq!(actuator.reject(plan_id).await.expect_err("it waits no more").code(), Code::FailedPrecondition);

    ground.turns("shop", 7..=11, 280.0, 300.0).await;
    actuator.reaches(11).await;
    let moves = ground.moves("shop").await;
    assert_eq!(moves.iter().map(ActionRecord::state).collect::<Vec<_>>(), ENDS_WELL);
    assert_eq!((moves[1].actor.as_str(), moves[1].reason.as_str()), ("ann", "approved: looks right"));
    assert_eq!(moves[1].at_us, time(6).micros());
    let outcomes = ground.outcomes().await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    // Approved at 6, ready at 8, measured until 11.
    assert_eq!((outcomes[0].measured_from_us, outcomes[0].measured_to_us), (time(8).micros(), time(11).micros()));
    assert_eq!((outcomes[0].judgement.as_str(), outcomes[0].violation_minutes), ("good", 0), "{outcomes:?}");
    assert_eq!(ground.target.effects("shop").len(), 1);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_plan_has_ended_and_a_newer_one_supersedes_what_waits() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    let first = waiting(&mut ground, &actuator, 1).await;
    let rejected = actuator.reject(ids(&first).0).await.expect("rejected");
    assert_eq!((rejected.state(), rejected.reason.as_str()), (ActionState::Rejected, "rejected: too dear"));
    let ended = actuator.approve(ids(&first).0, "").await.expect_err("it has ended");
    assert_eq!(ended.code(), Code::FailedPrecondition);
    assert!(ended.message().contains("rejected"), "{ended}");

    ground.turns("shop", 2..=2, 50.0, 300.0).await;
    ground.turns("shop", 3..=3, 50.0, 500.0).await;
    actuator.reaches(3).await;
    let states = ground.states("shop").await;
    let (proposed, superseded) = (ActionState::Proposed, ActionState::Superseded);
    assert_eq!(states, [proposed, ActionState::Rejected, proposed, superseded, proposed]);
    let pending = actuator.plans(true).await;
    assert_eq!(pending.len(), 1, "{pending:?}");
    assert_eq!(pending[0].plan.as_ref().map(|plan| plan.units_now), Some(8));
    assert_eq!(actuator.plans(false).await.len(), 3);
    assert!(ground.target.asked().is_empty());
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_waits_too_long_expires() {
    let mut ground = Ground::new(Stage::Recommend).await;
    ground.config.approval_ttl = Span::from_mins(15);
    let actuator = ground.start();
    let first = waiting(&mut ground, &actuator, 3).await;
    ground.turns("shop", 4..=4, 50.0, 50.0).await;
    actuator.reaches(4).await;
    let moves = ground.moves("shop").await;
    assert_eq!((last(&moves).state(), last(&moves).at_us), (ActionState::Expired, time(4).micros()));
    assert_eq!(actuator.approve(ids(&first).0, "").await.expect_err("expired").code(), Code::FailedPrecondition);
    assert!(actuator.plans(true).await.is_empty());
    assert!(ground.target.asked().is_empty());
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_across_a_restart_until_it_is_lifted() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    assert!(actuator.pause("shop").await.paused);
    for workload in ["shop", "other"] {
        ground.turns(workload, 1..=1, 50.0, 300.0).await;
        actuator.knows(workload, 1).await;
    }
    assert!(actuator.status_of("shop").await.paused && !actuator.status_of("other").await.paused);
    assert!(ground.states("shop").await.is_empty());
    assert_eq!((ground.units("shop", 1).await, ground.units("other", 1).await), (1, 5));
    // Were these in different partitions, their order would be lost.
    for _ in 0..5 {
        actuator.resume("").await;
        actuator.pause("").await;
    }
    actuator.stop().await;

    let actuator = ground.start();
    for workload in ["shop", "other"] {
        ground.turns(workload, 2..=2, 50.0, 500.0).await;
        actuator.knows(workload, 2).await;
        assert!(actuator.status_of(workload).await.paused, "{workload}");
    }
    assert_eq!((ground.units("shop", 2).await, ground.units("other", 2).await), (1, 5));
    assert!(!actuator.resume("").await.paused);
    actuator.stop().await;

    // The pause of all was lifted, that of the one was not.
    let actuator = ground.start();
    for workload in ["shop", "other"] {
        ground.turns(workload, 3..=3, 50.0, 500.0).await;
        actuator.knows(workload, 3).await;
    }
    assert_eq!((ground.units("shop", 3).await, ground.units("other", 3).await), (1, 8));
    actuator.resume("shop").await;
    ground.turns("shop", 4..=4, 50.0, 500.0).await;
    actuator.knows("shop", 4).await;
    assert_eq!(ground.units("shop", 4).await, 8);
    let first = &ground.moves("shop").await[0];
    assert_eq!(first.decided_at_us, time(4).micros(), "what was seen during the pause is not decided afterwards");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_during_a_pause_is_not_decided_after_a_restart() {
    for paused in ["", "shop"] {
        let mut ground = Ground::new(Stage::Automate).await;
        let actuator = ground.start();
        actuator.pause(paused).await;
        ground.turns("shop", 1..=2, 50.0, 300.0).await;
        actuator.reaches(2).await;
        actuator.resume(paused).await;
        ground.turns("shop", 3..=3, 50.0, 50.0).await;
        actuator.reaches(3).await;
        actuator.stop().await;

        let actuator = ground.start();
        ground.turns("shop", 4..=4, 50.0, 50.0).await;
        actuator.reaches(4).await;
        assert!(ground.states("shop").await.is_empty(), "paused: `{paused}`");
        assert!(ground.target.asked().is_empty(), "paused: `{paused}`");
        ground.turns("shop", 5..=5, 50.0, 300.0).await;
        actuator.reaches(5).await;
        assert_eq!(ground.units("shop", 5).await, 5, "paused: `{paused}`");
        actuator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_lets_people_act() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    let view = waiting(&mut ground, &actuator, 1).await;
    actuator.pause("").await;
    assert_eq!(actuator.approve(ids(&view).0, "").await.expect("approved").state(), ActionState::Holding);
    assert_eq!(ground.units("shop", 1).await, 5);
    actuator.rollback(&view.action_id).await.expect("rolled back");
    assert_eq!(ground.units("shop", 1).await, 1);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_returns_to_the_units_before_once_and_only_where_it_is_legal() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    let view = waiting(&mut ground, &actuator, 1).await;
    let refused = actuator.rollback(&view.action_id).await.expect_err("nothing has been done");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("proposed"), "{refused}");
    assert_eq!(actuator.rollback("nobody-1").await.expect_err("no such action").code(), Code::NotFound);

    actuator.approve(ids(&view).0, ids(&view).1).await.expect("approved");
    ground.turns("shop", 2..=4, 280.0, 300.0).await;
    actuator.reaches(4).await;
    let undone = actuator.rollback(&view.action_id).await.expect("rolled back");
    assert_eq!((undone.state(), undone.undo_units), (ActionState::RolledBack, 1));
    assert_eq!((undone.actor.as_str(), undone.reason.as_str()), ("ann", "rolled back: a drill"));
    assert_eq!((ground.units("shop", 3).await, ground.units("shop", 4).await), (5, 1));
    let asked = ground.target.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!((asked[1].units, asked[1].on_record), (1, Some(ActionState::RolledBack)), "on the record first");
    // Measured up to the rollback: one window of the three.
    let outcomes = ground.outcomes().await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert_eq!((outcomes[0].measured_from_us, outcomes[0].measured_to_us), (time(3).micros(), time(4).micros()));

    let twice = actuator.rollback(&view.action_id).await.expect_err("it has ended");
    assert_eq!(twice.code(), Code::FailedPrecondition);
    assert!(twice.message().contains("rolled back already"), "{twice}");
    assert_eq!(ground.target.effects("shop").len(), 2);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_action_can_be_rolled_back_and_a_rejected_one_cannot() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=6, 50.0, 300.0).await;
    actuator.reaches(6).await;
    let verified = last(&ground.moves("shop").await).clone();
    assert_eq!(verified.state(), ActionState::Verified);
    actuator.rollback(&verified.action_id).await.expect("rolled back");
    assert_eq!(ground.units("shop", 6).await, 1);
    assert_eq!(ground.outcomes().await.len(), 1, "the outcome stays the one that was measured");
    // What a person has undone is not done again until a person says so.
    ground.turns("shop", 7..=7, 50.0, 300.0).await;
    actuator.reaches(7).await;
    assert_eq!(ground.units("shop", 7).await, 1);
    assert!(actuator.status_of("shop").await.paused);
    actuator.resume("shop").await;
    ground.turns("shop", 8..=8, 50.0, 300.0).await;
    actuator.reaches(8).await;
    assert!(
        ground.moves("shop").await.iter().any(|moved| moved.undo_units == 1 && moved.decided_at_us == time(8).micros())
    );
    actuator.stop().await;

    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    let view = waiting(&mut ground, &actuator, 1).await;
    actuator.reject(ids(&view).0).await.expect("rejected");
    let refused = actuator.rollback(&view.action_id).await.expect_err("it has ended");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(ground.target.asked().is_empty());
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_says_what_people_may_do() {
    let mut ground = Ground::new(Stage::Recommend).await;
    ground.policy(
        "@id(\"people\") permit (principal is Person, action, resource);\n\
         @id(\"not-ann\") forbid (principal == Person::\"ann\", action == Action::\"apply\", resource);",
    );
    let actuator = ground.start();
    let view = waiting(&mut ground, &actuator, 1).await;
    let refused = actuator.approve(ids(&view).0, "").await.expect_err("the policy forbids it");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("not-ann"), "{refused}");
    assert_eq!(ground.states("shop").await, [ActionState::Proposed]);
    assert!(ground.target.asked().is_empty());
    actuator.stop().await;
}
