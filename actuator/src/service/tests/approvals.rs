//! Approvals by several people, what they bind to, and what the policies say why.

use headroom_actuator_decide::stage::Stage;
use headroom_proto::headers;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionState, Approval, ApproveRequest};
use prost::Message;
use tonic::Code;

use super::ground::{Ground, records};

async fn approvals(ground: &Ground) -> Vec<Approval> {
    let records = records(&ground.broker, Topic::Actions).await;
    let kept = records.iter().filter(|record| record.header(headers::MESSAGE) == Some("Approval"));
    kept.map(|record| Approval::decode(&*record.value).expect("decodes")).collect()
}

/// From 1 to 7 of at most 10 units: two thirds of the range.
async fn of_high_risk(stage: Stage) -> Ground {
    let mut ground = Ground::new(stage).await;
    ground.config.planner.max_units = 10;
    ground
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_high_risk_needs_two_people_and_the_first_is_kept_across_a_restart() {
    let mut ground = of_high_risk(Stage::Expand).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 480.0).await;
    actuator.reaches(1).await;
    let view = actuator.plans(true).await.remove(0);
    let plan = view.plan.clone().expect("a plan");
    assert_eq!(ground.moves("shop").await[0].risk, "high");

    let first = actuator.approve_as("ann", &plan.plan_id, "").await.expect("kept");
    assert_eq!((first.state(), first.approvers.as_slice()), (ActionState::Proposed, &["ann".to_owned()][..]));
    assert!(first.reason.contains("four-eyes") && first.reason.contains("another person"), "{}", first.reason);
    let again = actuator.approve_as("ann", &plan.plan_id, "").await.expect_err("ann alone");
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert!(again.message().contains("another person"), "{again}");
    assert!(ground.target.asked().is_empty());
    let kept = approvals(&ground).await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((kept[0].actor.as_str(), &kept[0].plan_hash), ("ann", &plan.plan_hash));
    assert_eq!(kept[0].expires_at_us, plan.decided_at_us + ground.config.approval_ttl.micros());
    actuator.stop().await;

    let actuator = ground.start();
    actuator.runs().await;
    let view = actuator.plans(true).await.remove(0);
    assert_eq!(view.approvals, ["ann"]);
    assert_eq!(view.expires_at_us, kept[0].expires_at_us);
    let done = actuator.approve_as("bob", &plan.plan_id, "").await.expect("approved");
    assert_eq!((done.state(), done.approvers.join(" ").as_str()), (ActionState::Holding, "ann bob"));
    let moves = ground.moves("shop").await;
    assert_eq!((moves[1].actor.as_str(), moves[1].reason.as_str()), ("bob", "approved: looks right, with ann"));
    assert_eq!(ground.units("shop", 1).await, 7);
    let why = actuator.why(&done.action_id).await.expect("known");
    let said: Vec<(bool, String)> =
        why.decisions.iter().map(|decision| (decision.allowed, decision.rules.join(" "))).collect();
    assert_eq!(said, [(false, String::new()), (true, "people".to_owned())], "{why:?}");
    let asked = |name: &str| why.decisions[1].asked.iter().find(|value| value.name == name).map(|v| v.value.clone());
    assert_eq!(asked("approvals").as_deref(), Some("2"));
    assert_eq!(asked("principal").as_deref(), Some("person bob"));
    assert_eq!(why.approvals, ["ann", "bob"]);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_one_plan_and_of_no_other() {
    let mut ground = of_high_risk(Stage::Recommend).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 480.0).await;
    actuator.reaches(1).await;
    let first = actuator.plans(true).await.remove(0).plan.expect("a plan");
    let unsaid =
        ApproveRequest { plan_id: first.plan_id.clone(), actor: "ann".to_owned(), ..ApproveRequest::default() };
    let refused = actuator.approve_exactly(unsaid).await.expect_err("of which plan?");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains(&first.plan_hash), "{refused}");
    actuator.approve_as("ann", &first.plan_id, &first.plan_hash).await.expect("kept");
    // A newer plan takes its place: ann's approval is not of that one.
    ground.turns("shop", 2..=2, 50.0, 550.0).await;
    actuator.reaches(2).await;
    let second = actuator.plans(true).await.remove(0);
    let plan = second.plan.clone().expect("a plan");
    assert_ne!(plan.plan_hash, first.plan_hash);
    assert!(second.approvals.is_empty(), "{second:?}");
    let alone = actuator.approve_as("bob", &plan.plan_id, "").await.expect("kept");
    assert_eq!(alone.state(), ActionState::Proposed);
    assert!(ground.target.asked().is_empty());
    actuator.stop().await;
}
