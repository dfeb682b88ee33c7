//! Rollback of whole plans, from every state that an action can be in.

use headroom_actuator_decide::policy::Stage;
use headroom_actuator_decide::transition;
use headroom_proto::time::Span;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, ActionState};
use tonic::Code;

use super::crash::{first_moves, take_effect};
use super::ground::{Actuator, Ground, again, records, time};

/// Every move of a workload is one of the table.
async fn legal(ground: &Ground, workload: &str) -> Vec<ActionRecord> {
    let moves = ground.moves(workload).await;
    let mut known = std::collections::BTreeMap::new();
    for record in &moves {
        let from = known.insert(record.action_id.clone(), record.state()).unwrap_or(ActionState::Unspecified);
        assert_eq!(record.previous_state(), from, "{record:?}");
        transition::check(from, record.state()).expect("a legal move");
    }
    moves
}

fn newest(moves: &[ActionRecord], action_id: &str) -> ActionState {
    moves.iter().rfind(|record| record.action_id == action_id).expect("is there").state()
}

async fn plan_ids(actuator: &Actuator) -> Vec<(String, String)> {
    let mut plans: Vec<_> = actuator.plans(false).await;
    plans.sort_by_key(|view| view.plan.as_ref().map(|plan| plan.decided_at_us));
    plans.into_iter().map(|view| (view.plan.expect("a plan").plan_id, view.action_id)).collect()
}

/// Windows 1 to 6 as they go in one run: 5 units at window 1, verified at window 6.
async fn history(ground: &mut Ground, workload: &str) {
    ground.turns(workload, 1..=2, 50.0, 300.0).await;
    ground.turns(workload, 3..=6, 280.0, 300.0).await;
}

/// The record ends in each state on the way to `verified`; a start goes on from there, and the plan is rolled back at once.
#[tokio::test(flavor = "multi_thread")]
async fn from_every_state_that_a_crash_can_leave() {
    const ENDS: [(&str, usize); 6] =
        [("proposed", 1), ("approved", 2), ("intended", 3), ("applied", 4), ("holding", 5), ("verified", 6)];
    let mut before = Ground::new(Stage::Automate).await;
    for (workload, _) in ENDS {
        history(&mut before, workload).await;
    }
    let actuator = before.start();
    for (workload, _) in ENDS {
        actuator.knows(workload, 6).await;
    }
    actuator.stop().await;
    let journal = records(&before.broker, Topic::Actions).await;

    let after = Ground::new(Stage::Automate).await;
    after.send(records(&before.broker, Topic::Plans).await.iter().map(again).collect()).await;
    for (workload, count) in ENDS {
        after.send(first_moves(&journal, workload, count)).await;
        if count >= 3 {
            take_effect(&after, &before.moves(workload).await[0]).await;
        }
    }
    let actuator = after.start();
    actuator.runs().await;
    for (workload, _) in ENDS {
        let plan_id = before.moves(workload).await[0].plan_id.clone();
        assert_eq!(after.units(workload, 6).await, 5, "{workload}: what was begun is finished at the start");
        let undone = actuator.roll_back(&plan_id).await.expect("rolled back");
        assert_eq!(undone.iter().map(ActionRecord::state).collect::<Vec<_>>(), [ActionState::RolledBack], "{workload}");
        assert_eq!(after.units(workload, 6).await, 1, "{workload}");
        let moves = legal(&after, workload).await;
        assert_eq!(moves.last().map(ActionRecord::state), Some(ActionState::RolledBack), "{workload}");
        let twice = actuator.roll_back(&plan_id).await.expect_err("it has ended");
        assert_eq!(twice.code(), Code::FailedPrecondition, "{workload}: {twice}");
        assert!(twice.message().contains("rolled back already: there is nothing to undo"), "{twice}");
        assert_eq!(legal(&after, workload).await.len(), moves.len(), "{workload}: the second call moves nothing");
        assert!(actuator.status_of(workload).await.paused, "{workload}");
    }
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_withdrawn_and_what_has_ended_is_said_to_have() {
    let mut ground = Ground::new(Stage::Recommend).await;
    ground.config.approval_ttl = Span::from_mins(20);
    let actuator = ground.start();
    ground.turns("waits", 1..=1, 50.0, 300.0).await;
    ground.turns("rejected", 1..=1, 50.0, 300.0).await;
    ground.turns("superseded", 1..=1, 50.0, 300.0).await;
    ground.turns("superseded", 2..=2, 50.0, 500.0).await;
    ground.turns("expired", 1..=1, 50.0, 300.0).await;
    ground.turns("expired", 2..=5, 50.0, 50.0).await;
    for (workload, step) in [("waits", 1), ("rejected", 1), ("superseded", 2), ("expired", 5)] {
        actuator.knows(workload, step).await;
    }
    let first = |moves: &[ActionRecord]| moves[0].plan_id.clone();
    actuator.reject(&first(&ground.moves("rejected").await)).await.expect("rejected");

    let moves = ground.moves("waits").await;
    let withdrawn = actuator.roll_back(&first(&moves)).await.expect("withdrawn");
    assert_eq!((withdrawn.len(), withdrawn[0].state()), (1, ActionState::Rejected), "{withdrawn:?}");
    assert!(withdrawn[0].reason.contains("withdrawn"), "{withdrawn:?}");
    for (workload, said) in [("rejected", "rejected"), ("superseded", "superseded"), ("expired", "expired")] {
        let before = legal(&ground, workload).await;
        let refused = actuator.roll_back(&first(&before)).await.expect_err("nothing was done");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{workload}");
        assert!(refused.message().contains(said) && refused.message().contains("nothing to undo"), "{refused}");
        assert_eq!(legal(&ground, workload).await, before, "{workload}");
    }
    assert_eq!(actuator.roll_back("plan-of-nobody").await.expect_err("unknown").code(), Code::NotFound);
    assert_eq!(actuator.roll_back("").await.expect_err("nothing named").code(), Code::InvalidArgument);
    assert_eq!(actuator.roll_back_since("nobody", 1).await.expect_err("unknown").code(), Code::NotFound);
    assert_eq!(actuator.roll_back_since("rejected", 2).await.expect_err("empty").code(), Code::FailedPrecondition);
    assert!(ground.target.asked().is_empty(), "no target was asked for any of it");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_undone_with_what_followed_from_it() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    // 1 -> 5 at window 1, 5 -> 8 at window 2, 8 -> 10 at window 3: each supersedes the one before while it is measured.
    for (step, ahead) in [(1, 300.0), (2, 500.0), (3, 700.0)] {
        ground.turns("shop", step..=step, 50.0, ahead).await;
    }
    actuator.reaches(3).await;
    let ids = plan_ids(&actuator).await;
    assert_eq!((ids.len(), ground.units("shop", 3).await), (3, 10));

    let undone = actuator.roll_back(&ids[1].0).await.expect("rolled back");
    let said: Vec<_> =
        undone.iter().map(|record| (record.action_id.as_str(), record.state(), record.undo_units)).collect();
    let (second, third) = (ids[1].1.as_str(), ids[2].1.as_str());
    assert_eq!(said, [(third, ActionState::RolledBack, 8), (second, ActionState::RolledBack, 5)], "newest first");
    assert_eq!(ground.units("shop", 3).await, 5, "as before the second plan");
    let moves = legal(&ground, "shop").await;
    assert_eq!(newest(&moves, &ids[0].1), ActionState::Superseded, "what came before it stays");
    assert_eq!(actuator.status_of("shop").await.units_commanded, 5);

    // The first one's action was superseded while it was measured: it had its effect and is undone all the same.
    let rest = actuator.roll_back(&ids[0].1).await.expect("an action's id will do");
    assert_eq!(rest.iter().map(|record| record.undo_units).collect::<Vec<_>>(), [1]);
    assert_eq!(ground.units("shop", 3).await, 1);
    legal(&ground, "shop").await;
    // What was superseded by it is not done anew by a start.
    actuator.stop().await;
    let asked = ground.target.effects("shop").len();
    let actuator = ground.start();
    actuator.runs().await;
    actuator.stop().await;
    assert_eq!((ground.units("shop", 3).await, ground.target.effects("shop").len()), (1, asked));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_since_a_time_is_undone_and_what_waits_on_it_is_withdrawn() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    for (step, ahead) in [(1, 300.0), (2, 500.0)] {
        ground.turns("shop", step..=step, 50.0, ahead).await;
        actuator.reaches(step).await;
        let waiting = actuator.plans(true).await.remove(0).plan.expect("a plan");
        actuator.approve(&waiting.plan_id, "").await.expect("approved");
    }
    ground.turns("shop", 3..=3, 50.0, 700.0).await;
    actuator.reaches(3).await;
    assert_eq!((ground.units("shop", 3).await, actuator.plans(true).await.len()), (8, 1));
    let undone = actuator.roll_back_since("shop", 1).await.expect("undone");
    let states: Vec<ActionState> = undone.iter().map(ActionRecord::state).collect();
    assert_eq!(states, [ActionState::Superseded, ActionState::RolledBack, ActionState::RolledBack]);
    assert!(undone[0].reason.contains("builds on"), "{undone:?}");
    assert_eq!((ground.units("shop", 3).await, actuator.plans(true).await.len()), (1, 0));
    legal(&ground, "shop").await;
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_change_is_undone_whether_or_not_it_had_its_effect() {
    for has_effect in [false, true] {
        let mut ground = Ground::new(Stage::Automate).await;
        let actuator = ground.start();
        ground.target.refuse(true);
        ground.turns("shop", 1..=1, 50.0, 300.0).await;
        actuator.reaches(1).await;
        let failed = ground.moves("shop").await.pop().expect("a move");
        assert_eq!(failed.state(), ActionState::Failed);
        ground.target.refuse(false);
        if has_effect {
            take_effect(&ground, &failed).await;
        }
        let undone = actuator.roll_back(&failed.plan_id).await.expect("rolled back");
        assert_eq!(undone[0].state(), ActionState::RolledBack);
        assert_eq!(ground.units("shop", 1).await, 1, "had its effect: {has_effect}");
        legal(&ground, "shop").await;
        actuator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_rollback_is_under_way_another_finishes_it_and_a_crash_loses_none_of_it() {
    for crashes in [false, true] {
        let mut ground = Ground::new(Stage::Automate).await;
        let mut actuator = ground.start();
        for (step, ahead) in [(1, 300.0), (2, 500.0)] {
            ground.turns("shop", step..=step, 50.0, ahead).await;
        }
        actuator.reaches(2).await;
        let ids = plan_ids(&actuator).await;
        ground.target.refuse(true);
        for asked in [&ids[0].0, &ids[0].0, &ids[1].0] {
            let refused = actuator.roll_back(asked).await.expect_err("the target refuses");
            assert_eq!(refused.code(), Code::Unavailable);
            assert!(refused.message().contains("on the record, but not done yet"), "{refused}");
        }
        let on_record = legal(&ground, "shop").await;
        assert_eq!(newest(&on_record, &ids[0].1), ActionState::RolledBack);
        assert_eq!(newest(&on_record, &ids[1].1), ActionState::RolledBack);
        assert_eq!(ground.units("shop", 2).await, 8);
        if crashes {
            actuator.stop().await;
            ground.target.refuse(false);
            actuator = ground.start();
            actuator.runs().await;
        } else {
            ground.target.refuse(false);
            actuator.roll_back(&ids[0].0).await.expect("finished");
        }
        assert_eq!(ground.units("shop", 2).await, 1, "crashes: {crashes}");
        let twice = actuator.roll_back(&ids[0].0).await.expect_err("nothing is left");
        assert_eq!(twice.code(), Code::FailedPrecondition, "{twice}");
        assert_eq!(legal(&ground, "shop").await.len(), on_record.len(), "no move was made twice");
        assert_eq!(ground.target.effects("shop").len(), 4, "two changes, two undoings");
        actuator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_waits_for_its_target_is_done_in_order_with_the_next_window() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    for (step, ahead) in [(1, 300.0), (2, 500.0)] {
        ground.turns("shop", step..=step, 50.0, ahead).await;
    }
    actuator.reaches(2).await;
    let ids = plan_ids(&actuator).await;
    ground.target.refuse(true);
    actuator.roll_back(&ids[0].0).await.expect_err("the target refuses");
    ground.target.refuse(false);
    ground.turns("shop", 3..=3, 50.0, 500.0).await;
    actuator.reaches(3).await;
    assert_eq!(ground.units("shop", 3).await, 1);
    let keys = ground.target.effects("shop");
    let undone: Vec<&str> = keys.iter().filter_map(|key| key.strip_suffix("/rollback")).collect();
    assert_eq!(undone, [format!("shop/{}", time(2).micros()), format!("shop/{}", time(1).micros())], "newest first");
    actuator.stop().await;
}
