//! The actuator over an embedded broker and the simulated target: what it does by itself, what people do, and what a
//! crash leaves behind.

mod site;

use headroom_actuator_decide::policy::Stage;
use headroom_proto::time::Span;
use headroom_proto::v1::{ActionRecord, ActionState, Verdict};
use tonic::Code;

use super::*;
use site::{Site, automate, config};

/// From 2 units to the 10 that a load of 50 needs.
const CALM: f64 = 10.0;
const BUSY: f64 = 50.0;

const TO_HOLDING: [ActionState; 5] =
    [ActionState::Proposed, ActionState::Approved, ActionState::Intended, ActionState::Applied, ActionState::Holding];

#[tokio::test(flavor = "multi_thread")]
async fn a_rise_is_prepared_for_verified_and_its_outcome_measured() {
    let site = Site::new().await;
    let actuator = site.start(automate()).await;
    site.step(&actuator, CALM, Some((CALM, Verdict::Fresh))).await;
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    assert_eq!(site.target.effects(), [10], "raised while the load is still low");
    for _ in 0..9 {
        site.step(&actuator, 40.0, Some((BUSY, Verdict::Fresh))).await;
    }
    let action = site.only_action(&actuator).await;
    assert_eq!(site.states_of(&action.action_id).await, [&TO_HOLDING[..], &[ActionState::Verified]].concat());
    assert_eq!((action.units_before, action.units_after, action.undo_units), (2, 10, 2));
    let outcomes = site.outcomes().await;
    assert_eq!(outcomes.len(), 1);
    let outcome = &outcomes[0];
    assert_eq!((outcome.action_id.as_str(), outcome.units), (action.action_id.as_str(), 10));
    // Half an hour from when the units were ready, the load at 40 of a capacity of 100 all along.
    assert!((outcome.expected_peak - BUSY).abs() < 1e-6 && (outcome.observed_peak - 40.0).abs() < 1e-6, "{outcome:?}");
    assert!((outcome.peak_utilisation - 0.4).abs() < 1e-6 && (outcome.completeness - 1.0).abs() < 1e-6, "{outcome:?}");
    assert_eq!((outcome.violation_minutes, outcome.judgement.as_str()), (0, "good"));
    let plans = actuator.plans().await;
    assert!(plans[0].plan.as_ref().is_some_and(|plan| plan.binding == "forecast" && plan.reason.contains("p75")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observed_plan_waits_for_a_person() {
    let site = Site::new().await;
    let actuator = site.start(config(Stage::Observe)).await;
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    let plan = actuator.waiting_plan().await;
    assert!(site.target.effects().is_empty(), "nothing is done unasked");
    let refused = actuator.approve(&plan.plan_id, "another hash").await.expect_err("a changed plan");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let approved = actuator.approve(&plan.plan_id, &plan.plan_hash).await.expect("approves");
    assert_eq!((approved.state(), approved.units_after), (ActionState::Holding, 10));
    assert_eq!(site.target.effects(), [10]);
    let again = actuator.approve(&plan.plan_id, "").await.expect_err("done already");
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(actuator.approve("no-plan", "").await.expect_err("no such plan").code(), Code::NotFound);
    let states = site.states_of(&approved.action_id).await;
    assert_eq!(states, TO_HOLDING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_rejected_or_left_lying_does_nothing() {
    let site = Site::new().await;
    let actuator = site.start(ActuatorConfig { approval_ttl: Span::from_mins(15), ..config(Stage::Observe) }).await;
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    let first = actuator.waiting_plan().await;
    assert_eq!(actuator.reject(&first.plan_id).await.expect("rejects").state(), ActionState::Rejected);
    assert_eq!(actuator.approve(&first.plan_id, "").await.expect_err("rejected").code(), Code::FailedPrecondition);

    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    let second = actuator.waiting_plan().await;
    assert_ne!(second.plan_id, first.plan_id);
    // The same need keeps the plan; another makes a new one.
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    assert_eq!(actuator.waiting_plan().await.plan_id, second.plan_id);
    site.step(&actuator, CALM, Some((30.0, Verdict::Fresh))).await;
    let third = actuator.waiting_plan().await;
    assert_eq!(third.units_now, 6);
    for _ in 0..3 {
        site.step(&actuator, CALM, Some((CALM, Verdict::Fresh))).await;
    }
    let ends: Vec<ActionState> = actuator.actions().await.iter().rev().map(ActionRecord::state).collect();
    assert_eq!(ends, [ActionState::Rejected, ActionState::Superseded, ActionState::Expired]);
    assert!(site.target.effects().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_over_a_restart() {
    for workload in ["orders", ""] {
        let site = Site::new().await;
        let actuator = site.start(automate()).await;
        site.step(&actuator, CALM, Some((CALM, Verdict::Fresh))).await;
        actuator.switch(workload, true).await;
        site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
        assert!(site.target.effects().is_empty(), "paused `{workload}`");
        actuator.kill().await;
        let actuator = site.start(automate()).await;
        site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
        assert!(site.target.effects().is_empty(), "still paused `{workload}`");
        assert!(actuator.status().await.paused);
        actuator.switch(workload, false).await;
        site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
        assert_eq!(site.target.effects(), [10], "resumed `{workload}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_returns_at_once_and_stays() {
    let site = Site::new().await;
    let actuator = site.start(automate()).await;
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    let action = site.only_action(&actuator).await;
    let undone = actuator.rollback(&action.action_id).await.expect("rolls back");
    assert_eq!(undone.state(), ActionState::RolledBack);
    assert_eq!(site.target.effects(), [10, 2]);
    assert_eq!(actuator.rollback(&action.action_id).await.expect_err("done").code(), Code::FailedPrecondition);
    assert_eq!(actuator.rollback("no-action").await.expect_err("unknown").code(), Code::NotFound);
    // What a person has undone is not done again until a person says so.
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    assert_eq!(site.target.effects(), [10, 2]);
    assert!(actuator.status().await.paused);
    assert_eq!(site.outcomes().await.len(), 1, "what was measured by then is kept");
    actuator.switch("orders", false).await;
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    assert_eq!(site.target.effects(), [10, 2, 10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_forecast_to_trust_the_guard_decides_alone() {
    for forecast in [Some((200.0, Verdict::Stale)), Some((200.0, Verdict::Abstain)), None] {
        let site = Site::new().await;
        let actuator = site.start(automate()).await;
        site.step(&actuator, 30.0, forecast).await;
        assert_eq!(site.target.effects(), [6], "{forecast:?}: the load of now");
        let plan = actuator.plans().await[0].plan.clone().expect("a plan");
        assert_eq!(plan.binding, "guard");
        let word = forecast.map_or("no forecast", |_| "stale");
        assert!(plan.reason.contains(word), "{}", plan.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_model_releases_nothing_by_itself() {
    let site = Site::new().await;
    let actuator = site.start(automate()).await;
    site.step(&actuator, 30.0, Some((30.0, Verdict::Fresh))).await;
    for _ in 0..4 {
        site.step(&actuator, CALM, Some((CALM, Verdict::Stale))).await;
    }
    assert_eq!(site.target.effects(), [6]);
    let plan = actuator.waiting_plan().await;
    assert_eq!((plan.units_now, plan.verdict.as_str()), (2, "stale"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_move_is_mended_without_a_double_effect() {
    let whole = Site::new().await;
    let actuator = whole.start(automate()).await;
    whole.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    let action = whole.only_action(&actuator).await;
    actuator.drain().await;
    let moves = whole.moves().await;
    assert_eq!(moves.len(), TO_HOLDING.len());
    for length in 1..=moves.len() {
        // Between the intent and its result on the record, the target may have been asked or not.
        for was_asked in [false, true] {
            let may_have_been_asked = length >= 3;
            if was_asked && !may_have_been_asked || !was_asked && length >= 4 {
                continue;
            }
            let site = Site::after(&whole, length).await;
            if was_asked {
                site.target.apply_as_before(&action).await;
            }
            let actuator = site.start(automate()).await;
            site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
            assert_eq!(site.target.effects(), [10], "after {length} moves, asked: {was_asked}");
            assert_eq!(site.states_of(&action.action_id).await, TO_HOLDING, "after {length} moves");
            for _ in 0..9 {
                site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
            }
            assert_eq!(site.only_action(&actuator).await.state(), ActionState::Verified, "after {length} moves");
            assert_eq!(site.outcomes().await.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_was_cut_short_is_finished() {
    let whole = Site::new().await;
    let actuator = whole.start(automate()).await;
    whole.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    let action = whole.only_action(&actuator).await;
    actuator.rollback(&action.action_id).await.expect("rolls back");
    actuator.drain().await;
    let moves = whole.moves().await.len();
    let site = Site::after(&whole, moves).await;
    site.target.apply_as_before(&action).await;
    let actuator = site.start(automate()).await;
    site.step(&actuator, CALM, Some((CALM, Verdict::Fresh))).await;
    assert_eq!(site.target.effects(), [10, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_record_is_found_and_located() {
    let whole = Site::new().await;
    let actuator = whole.start(automate()).await;
    whole.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    actuator.drain().await;
    let site = Site::tampered(&whole, 2).await;
    let error = site.fails(automate()).await;
    assert!(error.contains("orders") && error.contains('3') && error.contains("hash"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_is_told() {
    let site = Site::new().await;
    let actuator = site.start(automate()).await;
    site.target.refuse(true);
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    let failed = site.only_action(&actuator).await;
    assert_eq!(failed.state(), ActionState::Failed);
    assert!(failed.reason.contains("refuses"), "{}", failed.reason);
    site.target.refuse(false);
    site.step(&actuator, CALM, Some((BUSY, Verdict::Fresh))).await;
    assert_eq!(site.target.effects(), [10], "the next window asks anew");
}
