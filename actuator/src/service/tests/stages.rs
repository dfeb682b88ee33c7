//! Stages: what is only recorded, what is earned and lost, what always needs a person.

use headroom_actuator_decide::stage::{Kind, Stage, StageSetting};
use headroom_actuator_decide::track::EarnConfig;
use headroom_proto::headers;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionState, StageMove, Verdict};
use prost::Message;

use super::ENDS_WELL;
use super::ground::{Actuator, Ground, records};
use crate::targets::WorkloadSettings;

async fn turns_of(ground: &Ground) -> Vec<StageMove> {
    let records = records(&ground.broker, Topic::Actions).await;
    let moves = records.iter().filter(|record| record.header(headers::MESSAGE) == Some("StageMove"));
    moves.map(|record| StageMove::decode(&*record.value).expect("decodes")).collect()
}

/// Earned after two good actions: of 2 good ones out of 2 the bound is above 0.1 at 95 %.
fn earn() -> EarnConfig {
    EarnConfig { enabled: true, bound: 0.1, automate_after: 2, expand_after: 3, ..EarnConfig::default() }
}

/// A person approves what waits.
async fn approve(actuator: &Actuator) {
    let view = actuator.plans(true).await.remove(0);
    let plan_id = view.plan.map(|plan| plan.plan_id).unwrap_or_default();
    actuator.approve(&plan_id, "").await.expect("approved");
}

/// One more unit is asked for, approved, and measured to be good: windows `from` to `from` + 5.
async fn a_good_raise(ground: &mut Ground, actuator: &Actuator, from: i64, units: u32) {
    let (before, load) = (f64::from(units - 1) * 65.0, f64::from(units) * 65.0);
    let ahead = 69.0 * f32::from(u8::try_from(units).expect("few"));
    ground.turns("shop", from..=from, before, ahead).await;
    actuator.reaches(from).await;
    approve(actuator).await;
    ground.turns("shop", from + 1..=from + 5, load, ahead).await;
    actuator.reaches(from + 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observed_plans_are_recorded_with_what_would_have_become_of_them_and_nobody_is_asked() {
    let mut ground = Ground::new(Stage::Observe).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=3, 50.0, 300.0).await;
    ground.turns("shop", 4..=4, 50.0, 500.0).await;
    actuator.reaches(4).await;
    let plans = ground.plans().await;
    let units: Vec<u32> = plans.iter().map(|plan| plan.units_now).collect();
    assert_eq!(units, [5, 8], "the same plan is not recorded twice: {plans:?}");
    assert!(plans[0].would.contains("be done") && plans[0].would.contains("automate-reversible"), "{}", plans[0].would);
    assert!(ground.states("shop").await.is_empty() && ground.target.asked().is_empty());
    assert!(actuator.plans(true).await.is_empty());
    let shown = actuator.plans(false).await;
    assert!(shown.iter().all(|view| !view.state_reason.is_empty() && view.action_id.is_empty()), "{shown:?}");
    let why = actuator.why(&plans[0].plan_id).await.expect("known");
    assert_eq!((why.state.as_str(), why.state_reason.as_str()), ("observed", plans[0].would.as_str()));
    assert_eq!(actuator.why("nothing").await.expect_err("unknown").code(), tonic::Code::NotFound);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_action_has_its_stage() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.stage = StageSetting::each(Stage::Automate, Stage::Recommend);
    ground.config.stages.insert("bank".to_owned(), Stage::Recommend.into());
    let actuator = ground.start();
    for workload in ["shop", "bank"] {
        ground.turns(workload, 1..=1, 50.0, 300.0).await;
        actuator.knows(workload, 1).await;
    }
    assert_eq!((ground.units("shop", 1).await, ground.units("bank", 1).await), (5, 1));
    // Long after the dwell time: a release.
    ground.turns("shop", 20..=20, 10.0, 10.0).await;
    actuator.knows("shop", 20).await;
    assert_eq!(ground.units("shop", 20).await, 5);
    let moves = ground.moves("shop").await;
    let last = moves.last().expect("a move");
    assert_eq!((last.state(), last.units_after, last.stage.as_str()), (ActionState::Proposed, 1, "recommend"));
    assert_eq!(actuator.status_of("shop").await.stage, "raise automate, release recommend");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_earned_by_good_outcomes_and_lost_by_a_stale_model_also_across_restarts() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.earn = earn();
    let mut actuator = ground.start();
    a_good_raise(&mut ground, &actuator, 1, 2).await;
    a_good_raise(&mut ground, &actuator, 7, 3).await;
    let turns = turns_of(&ground).await;
    assert_eq!(turns.len(), 1, "{turns:?}");
    let turn = &turns[0];
    assert_eq!((turn.from.as_str(), turn.to.as_str(), turn.kind.as_str()), ("recommend", "automate", "raise"));
    assert_eq!((turn.good, turn.total, turn.anew), (2, 2, false));
    assert!(turn.lower_bound > 0.1 && turn.reason.contains("2 of 2"), "{turn:?}");

    for start in ["the first", "the second"] {
        let stages = actuator.stages("shop").await;
        let raise = stages.iter().find(|stage| stage.kind == "raise").expect("a stage");
        let said = (raise.stage.as_str(), raise.earned.as_str(), raise.configured.as_str());
        assert_eq!(said, ("automate", "automate", "automate"), "{start}");
        assert_eq!((raise.good, raise.total), (2, 2), "{start}");
        let release = stages.iter().find(|stage| stage.kind == "release").expect("a stage");
        assert_eq!((release.stage.as_str(), release.total), ("recommend", 0), "{start}");
        actuator.stop().await;
        actuator = ground.start();
        actuator.runs().await;
    }
    // Now it raises by itself.
    ground.turns("shop", 13..=13, 195.0, 276.0).await;
    ground.turns("shop", 14..=18, 250.0, 276.0).await;
    actuator.reaches(18).await;
    let moves = ground.moves("shop").await;
    assert_eq!(moves[12..].iter().map(|record| record.state()).collect::<Vec<_>>(), ENDS_WELL);
    assert_eq!(moves[13].actor, "policy");

    // One stale forecast, and it is lost; what the load of now needs is not held back by that.
    ground.judged("shop", 19, 600.0, Verdict::Stale).await;
    ground.window("shop", 19, 260.0).await;
    actuator.reaches(19).await;
    // By then three were good: it had come as far as it can.
    let turns = turns_of(&ground).await;
    let words: Vec<(&str, &str)> = turns.iter().map(|turn| (turn.from.as_str(), turn.to.as_str())).collect();
    assert_eq!(words, [("recommend", "automate"), ("automate", "expand"), ("expand", "recommend")]);
    assert!(turns[2].anew && turns[2].reason.contains("stale"), "{turns:?}");
    actuator.stop().await;
    let actuator = ground.start();
    actuator.runs().await;
    let stages = actuator.stages("shop").await;
    let raise = stages.iter().find(|stage| stage.kind == "raise").expect("a stage");
    assert_eq!((raise.stage.as_str(), raise.total), ("recommend", 0), "the record begins anew: {raise:?}");
    ground.turns("shop", 20..=20, 260.0, 600.0).await;
    actuator.reaches(20).await;
    let waiting = actuator.plans(true).await;
    assert_eq!(waiting.len(), 1, "a forecast's raise waits for a person: {waiting:?}");
    // 600 / (100 * 0.7) = 8.6: 9 units by the forecast, 6 of 400 by the load of now.
    ground.turns("shop", 21..=21, 400.0, 400.0).await;
    actuator.reaches(21).await;
    assert_eq!(ground.units("shop", 21).await, 6, "the guard raises");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_verification_loses_the_stage_at_once() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.earn = earn();
    ground.config.foreign_changes = crate::ForeignChanges::Ignore;
    let actuator = ground.start();
    a_good_raise(&mut ground, &actuator, 1, 2).await;
    a_good_raise(&mut ground, &actuator, 7, 3).await;
    ground.turns("shop", 13..=13, 195.0, 276.0).await;
    actuator.reaches(13).await;
    assert_eq!(ground.units("shop", 13).await, 4);
    // The target does not have at the end of the hold what it took.
    ground.by_hand("shop", 14, 3).await;
    ground.turns("shop", 14..=18, 250.0, 276.0).await;
    actuator.reaches(18).await;
    let moves = ground.moves("shop").await;
    let failed = moves.iter().find(|record| record.state() == ActionState::Failed).expect("it has failed");
    assert_eq!(failed.actor, "verifier");
    let turns = turns_of(&ground).await;
    let last = turns.last().expect("a turn");
    assert_eq!((last.to.as_str(), last.anew), ("recommend", true), "{turns:?}");
    assert!(last.reason.contains("verification") && last.reason.contains(&failed.action_id), "{last:?}");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_undone_needs_a_person_at_every_stage() {
    let mut ground = Ground::new(Stage::Expand).await;
    let irreversible = WorkloadSettings { target: "unused".to_owned(), irreversible: vec![Kind::Raise] };
    ground.config.workloads.insert("shop".to_owned(), irreversible);
    ground.config.targets.insert(
        "unused".to_owned(),
        toml::from_str("kind = \"exec\"\nprogram = \"true\"").expect("settings of a target"),
    );
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 400.0, 300.0).await;
    actuator.reaches(1).await;
    let moves = ground.moves("shop").await;
    assert_eq!((moves.len(), moves[0].state(), moves[0].risk.as_str()), (1, ActionState::Proposed, "high"));
    assert!(moves[0].needed_now && moves[0].irreversible, "although the load of now needs it: {:?}", moves[0]);
    let why = actuator.why(&moves[0].action_id).await.expect("known");
    assert!(!why.decisions[0].allowed, "{why:?}");
    assert_eq!(why.decisions[0].rules, ["irreversible-needs-a-person"]);
    assert!(ground.target.asked().is_empty());
    actuator.stop().await;
}
