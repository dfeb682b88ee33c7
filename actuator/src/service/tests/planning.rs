//! What is learned of units, and what workloads share.

use std::collections::BTreeMap;

use headroom_actuator_decide::budget::{Budget, Excess, Member, Provider};
use headroom_actuator_decide::policy::Stage;
use headroom_proto::time::Span;
use headroom_proto::v1::{ActionRecord, ActionState};

use super::ground::{Actuator, Ground, time};

fn members(each: &[(&str, u64)]) -> BTreeMap<String, Member> {
    each.iter().map(|(name, per_unit)| ((*name).to_owned(), Member { per_unit: *per_unit })).collect()
}

/// Of 40, 10 are reserved; a unit of each member takes 10.
fn fixed(excess: Excess) -> Budget {
    let members = members(&[("app", 10), ("reports", 10)]);
    Budget { limit: Some(40), reserved: 10, excess, provider: None, members }
}

fn applied(moves: &[ActionRecord]) -> Vec<(i64, u32)> {
    let applied = moves.iter().filter(|record| record.state() == ActionState::Applied);
    applied.map(|record| (record.at_us, record.units_after)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_beyond_a_shared_budget_is_refused_once_with_the_arithmetic() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.budgets.insert("db".to_owned(), fixed(Excess::Refuse));
    let actuator = ground.start();
    // 300 / 70 is 5 units, and with reports' 1 that is 60.
    ground.turns("app", 1..=3, 50.0, 300.0).await;
    actuator.knows("app", 3).await;
    let moves = ground.moves("app").await;
    let states: Vec<ActionState> = moves.iter().map(ActionRecord::state).collect();
    assert_eq!(states, [ActionState::Proposed, ActionState::Rejected], "once, not with each window");
    assert_eq!(moves[1].actor, "budget");
    assert_eq!(moves[1].reason, "budget db: app 5 x 10 = 50 + reports 1 x 10 = 10 is 60 > 30 = 40 - 10 reserved");
    assert_eq!(ground.units("app", 3).await, 1);
    // What fits is done all the same.
    ground.turns("app", 4..=4, 50.0, 130.0).await;
    actuator.knows("app", 4).await;
    assert_eq!(ground.units("app", 4).await, 2);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_may_cut_instead_and_counts_again_when_a_person_approves() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.budgets.insert("db".to_owned(), fixed(Excess::Cut));
    let actuator = ground.start();
    ground.turns("app", 1..=1, 50.0, 300.0).await;
    actuator.knows("app", 1).await;
    assert_eq!(ground.units("app", 1).await, 2, "with reports' one that is all");
    let plan = ground.plans().await.remove(0);
    assert!(plan.binding == "budget" && plan.reason.ends_with("30 = 40 - 10 reserved: cut to 2"), "{}", plan.reason);
    actuator.stop().await;

    let mut ground = Ground::new(Stage::Recommend).await;
    ground.config.budgets.insert("db".to_owned(), fixed(Excess::Refuse));
    let actuator = ground.start();
    for workload in ["app", "reports"] {
        ground.turns(workload, 1..=1, 50.0, 130.0).await;
        actuator.knows(workload, 1).await;
    }
    // Each alone has room for its second unit, both together have not.
    let waiting = actuator.plans(true).await;
    let ids: Vec<String> = waiting.iter().filter_map(|view| view.plan.as_ref()).map(|p| p.plan_id.clone()).collect();
    assert_eq!(ids.len(), 2);
    let first = actuator.approve(&ids[0], "").await.expect("has room");
    assert_eq!(first.state(), ActionState::Holding);
    let second = actuator.approve(&ids[1], "").await.expect("answered");
    assert_eq!((second.state(), second.actor.as_str()), (ActionState::Superseded, "budget"));
    assert!(second.reason.contains("is 40 > 30"), "{}", second.reason);
    assert_eq!(ground.units("app", 1).await + ground.units("reports", 1).await, 3);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_not_rolled_back_into_what_others_have_taken_since() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.budgets.insert("db".to_owned(), fixed(Excess::Refuse));
    ground.config.planner.dwell = Span::from_mins(5);
    let actuator = ground.start();
    for (step, ahead) in [(1, 130.0), (3, 50.0)] {
        ground.turns("app", step..=step, 50.0, ahead).await;
        actuator.knows("app", step).await;
    }
    let released = ground.moves("app").await.pop().expect("a move");
    assert_eq!((released.units_before, released.units_after), (2, 1));
    ground.turns("reports", 4..=4, 50.0, 130.0).await;
    actuator.knows("reports", 4).await;
    let refused = actuator.rollback(&released.action_id).await.expect_err("there is no room");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("app 2 x 10 = 20 + reports 2 x 10 = 20 is 40 > 30"), "{refused}");
    assert_eq!((ground.units("app", 4).await, ground.units("reports", 4).await), (1, 2));
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_needs_is_provided_first_and_released_last() {
    let mut ground = Ground::new(Stage::Automate).await;
    let provider = Some(Provider { workload: "pool".to_owned(), per_unit: 10 });
    let shared = Budget { limit: None, reserved: 0, excess: Excess::Refuse, provider, members: members(&[("app", 5)]) };
    ground.config.budgets.insert("connections".to_owned(), shared);
    let actuator = ground.start();
    // 5 units use 25: the pool needs 3, which are ready after 2 windows. Until then 2 units fit into its 10.
    ground.turns("app", 1..=3, 50.0, 300.0).await;
    actuator.knows("app", 3).await;
    let at = |step: i64| time(step).micros();
    assert_eq!(applied(&ground.moves("pool").await), [(at(1), 3)]);
    assert_eq!(applied(&ground.moves("app").await), [(at(1), 2), (at(3), 5)]);
    let plans = ground.plans().await;
    let pool = plans.iter().find(|plan| plan.workload == "pool").expect("a plan of its own");
    assert_eq!((pool.binding.as_str(), pool.model_version.as_str()), ("budget", "model-1"));
    let why = "`app` can grow only after this has: budget connections: app 5 x 5 = 25 > 10 = pool 1 x 10 - 0 reserved";
    assert_eq!(pool.reason, why);

    // Half an hour's dwell later the app shrinks, and the pool in the window after.
    ground.turns("app", 4..=11, 50.0, 50.0).await;
    actuator.knows("app", 11).await;
    assert_eq!(applied(&ground.moves("app").await).last(), Some(&(at(9), 1)));
    assert_eq!(applied(&ground.moves("pool").await).last(), Some(&(at(10), 1)));
    actuator.stop().await;
}

/// The pool goes from 1 to 3 units and the app from 2 to 5 on top of it.
async fn grown_together(ground: &mut Ground) -> Actuator {
    let provider = Some(Provider { workload: "pool".to_owned(), per_unit: 10 });
    let shared = Budget { limit: None, reserved: 0, excess: Excess::Refuse, provider, members: members(&[("app", 5)]) };
    ground.config.budgets.insert("connections".to_owned(), shared);
    let actuator = ground.start();
    ground.turns("app", 1..=5, 50.0, 300.0).await;
    actuator.knows("app", 5).await;
    actuator
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_provided_is_undone_after_what_was_built_on_it() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = grown_together(&mut ground).await;
    let raised = ground.moves("pool").await[0].action_id.clone();
    // 5 app units use 25, the pool alone would go back to 10.
    let moves = actuator.roll_back(&raised).await.expect("in that order");
    let undone: Vec<&str> = moves.iter().map(|action| action.workload.as_str()).collect();
    assert_eq!(undone, ["app", "app", "pool"], "{moves:?}");
    assert_eq!((ground.units("app", 5).await, ground.units("pool", 5).await), (1, 1));
    let keys = ground.target.asked().into_iter().map(|asked| asked.key).collect::<Vec<_>>();
    assert!(keys[keys.len() - 1].starts_with("pool/"), "{keys:?}");
    for workload in ["app", "pool"] {
        assert_eq!(ground.states(workload).await.last(), Some(&ActionState::RolledBack), "{workload}");
    }
    actuator.stop().await;
}

/// One whose units take their time to go: what it held is free only then.
#[tokio::test(flavor = "multi_thread")]
async fn the_undoing_of_what_is_provided_waits_until_its_members_have_shrunk() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = grown_together(&mut ground).await;
    let raised = ground.moves("pool").await[0].action_id.clone();
    ground.target.hold_units("app", Some(5));
    let waits = actuator.roll_back(&raised).await.expect_err("the app still has its units");
    assert_eq!(waits.code(), tonic::Code::Unavailable);
    assert!(waits.message().contains("app 5 x 5 = 25 + 0 reserved > 1 x 10 = 10"), "{waits}");
    assert_eq!((ground.units("app", 5).await, ground.units("pool", 5).await), (1, 3), "the pool is kept");
    assert_eq!(ground.states("pool").await.last(), Some(&ActionState::RolledBack), "on the record it is");
    ground.target.hold_units("app", None);
    ground.turns("app", 6..=6, 50.0, 50.0).await;
    actuator.knows("app", 6).await;
    assert_eq!((ground.units("app", 6).await, ground.units("pool", 6).await), (1, 1));
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lead_times_are_learned_from_what_the_target_reports_and_survive_a_restart() {
    let mut ground = Ground::new(Stage::Automate).await;
    // The target takes 10 minutes; 5 are declared.
    ground.config.planner.lead_time = Span::from_mins(5);
    ground.config.planner.learn.min_actions = 2;
    ground.config.planner.dwell = Span::from_mins(5);
    let mut actuator = ground.start();
    for (first, ahead) in [(1, 300.0), (8, 50.0), (10, 300.0)] {
        ground.turns("shop", first..=first, 50.0, ahead).await;
        let last = if ahead > 100.0 { first + 5 } else { first };
        for step in first + 1..=last {
            ground.turns("shop", step..=step, 50.0, ahead).await;
        }
        actuator.reaches(last).await;
    }
    let learned: Vec<Option<i64>> = ground.outcomes().await.iter().map(|outcome| outcome.ready_after_us).collect();
    assert_eq!(learned.iter().flatten().collect::<Vec<_>>(), [&600_000_000; 2], "{learned:?}");
    for step in [20, 30] {
        ground.turns("shop", step..=step, 50.0, if step == 20 { 600.0 } else { 900.0 }).await;
        actuator.reaches(step).await;
        let plan = ground.plans().await.pop().expect("a plan");
        assert_eq!((plan.lead_time_us, plan.lead_time_actions), (600_000_000, 2), "{}", plan.reason);
        assert!(plan.reason.ends_with("lead time learned 10m from 2 raises"), "{}", plan.reason);
        if step == 20 {
            actuator.stop().await;
            actuator = ground.start();
        }
    }
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capacity_curve_is_learned_from_windows_told_in_the_plan_and_survives_a_restart() {
    let mut ground = Ground::new(Stage::Automate).await;
    let learn = &mut ground.config.planner.learn;
    (learn.utilisation, learn.min_windows) = (Some("cpu_utilisation".to_owned()), 30);
    (ground.config.planner.lead_time, ground.config.planner.dwell) = (Span::from_mins(5), Span::from_mins(5));
    let mut actuator = ground.start();
    // A unit alone serves 80, of N each 80 / (1 + 0.05 (N - 1)).
    let serves = |units: u32| 80.0 * f64::from(units) / (1.0 + 0.05 * f64::from(units - 1));
    let mut step = 0;
    for ahead in [130.0, 250.0, 400.0, 130.0, 250.0, 400.0] {
        for turn in 0..9 {
            step += 1;
            let units = ground.units("shop", step).await;
            let load = serves(units) * (0.35 + 0.05 * f64::from(turn));
            let wobble = 1.0 + 0.02 * (f64::from(turn) * 2.1).sin();
            ground.forecast("shop", step, ahead).await;
            let columns = [("requests_per_s", load), ("cpu_utilisation", load / serves(units) * wobble)];
            ground.window_of("shop", step, &columns).await;
            actuator.reaches(step).await;
        }
    }
    let first = ground.plans().await.remove(0);
    assert!(first.reason.contains("of the 30 windows that a curve needs have come"), "{}", first.reason);
    assert!(first.capacity_curve.is_none());
    for round in [1, 2] {
        step += 3;
        ground.turns("shop", step..=step, 100.0, 600.0 + 100.0 * f32::from(u8::try_from(round).unwrap_or(0))).await;
        actuator.reaches(step).await;
        let plan = ground.plans().await.pop().expect("a plan");
        let curve = plan.capacity_curve.clone().expect("learned");
        assert!((curve.gamma - 80.0).abs() < 4.0 && (curve.alpha - 0.05).abs() < 0.02, "{curve:?}");
        let worth = plan.unit_capacity / (serves(plan.units_now) / f64::from(plan.units_now));
        assert!((0.5..=1.0).contains(&worth), "on the safe side: {worth}");
        assert!(plan.reason.contains("a unit serves learned "), "{}", plan.reason);
        if round == 1 {
            actuator.stop().await;
            actuator = ground.start();
        }
    }
    actuator.stop().await;
}
