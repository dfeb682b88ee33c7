//! The loop over the embedded broker: what is decided, what is done, what is on record.

mod approvals;
mod audit;
mod crash;
mod drain;
mod foreign;
mod ground;
mod kill;
mod limits;
mod lost;
mod notices;
mod people;
mod planning;
mod remote;
mod shadow;
mod stages;
mod targets;
mod two;
mod undo;
mod verify;
mod watched;

use headroom_actuator_decide::policy::Stage;
use headroom_ingest_broker::Record;
use headroom_proto::time::Span;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionState, Verdict};

use ground::{Ground, again, records, time};
use watched::Asked;

const ENDS_WELL: [ActionState; 6] = [
    ActionState::Proposed,
    ActionState::Approved,
    ActionState::Intended,
    ActionState::Applied,
    ActionState::Holding,
    ActionState::Verified,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_rising_forecast_is_prepared_for_and_its_effect_is_measured() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    // 300 / (100 * 0.7) = 4.3: 5 units. Ready after 2 steps, measured over the 3 after them.
    ground.turns("shop", 1..=1, 50.0, 50.0).await;
    ground.turns("shop", 2..=4, 50.0, 300.0).await;
    ground.turns("shop", 5..=5, 200.0, 300.0).await;
    ground.turns("shop", 6..=7, 280.0, 300.0).await;
    actuator.reaches(7).await;

    assert_eq!(ground.states("shop").await, ENDS_WELL);
    let moves = ground.moves("shop").await;
    let first = &moves[0];
    assert!(moves.iter().all(|record| record.action_id == first.action_id && record.plan_hash == first.plan_hash));
    assert_eq!((first.units_before, first.units_after, first.undo_units), (1, 5, 1));
    let actors: Vec<&str> = moves.iter().map(|record| record.actor.as_str()).collect();
    assert_eq!(actors, ["planner", "policy", "actuator", "actuator", "verifier", "verifier"]);
    assert!(moves[1].reason.contains("automate-reversible"), "{}", moves[1].reason);
    assert_eq!(moves[5].at_us, time(7).micros());

    // The intent was on the topic before the target was asked, once.
    let asked = Asked { key: first.idempotency_key.clone(), units: 5, on_record: Some(ActionState::Intended) };
    assert_eq!(ground.target.asked(), [asked]);
    assert_eq!((ground.units("shop", 1).await, ground.units("shop", 2).await), (1, 5));

    let plans = ground.plans().await;
    assert_eq!(plans.len(), 1, "{plans:?}");
    let plan = &plans[0];
    assert_eq!((plan.units_before, plan.units_now, plan.binding.as_str()), (1, 5, "forecast"));
    assert_eq!((plan.verdict.as_str(), plan.model_version.as_str()), ("fresh", "model-1"));
    assert_eq!((&plan.plan_id, &plan.plan_hash), (&first.plan_id, &first.plan_hash));
    assert_eq!(plan.decided_at_us, time(2).micros());

    let outcomes = ground.outcomes().await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    let outcome = &outcomes[0];
    assert_eq!(outcome.action_id, first.action_id);
    assert_eq!((outcome.measured_from_us, outcome.measured_to_us), (time(4).micros(), time(7).micros()));
    // Loads 200, 280, 280 on 5 ready units of 100; sums of three numbers that a double holds.
    assert!((outcome.observed_peak - 280.0).abs() < 1e-9, "{outcome:?}");
    assert!((outcome.observed_mean - 760.0 / 3.0).abs() < 1e-9, "{outcome:?}");
    assert!((outcome.peak_utilisation - 0.56).abs() < 1e-9, "{outcome:?}");
    assert!((outcome.completeness - 1.0).abs() < 1e-9, "{outcome:?}");
    assert_eq!((outcome.units, outcome.violation_minutes, outcome.judgement.as_str()), (5, 0, "good"));
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_action_takes_the_place_of_the_one_that_is_measured() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=3, 50.0, 300.0).await;
    // Above 85 % of the 5 units that are ready from step 3 on: 10 minutes in violation.
    ground.turns("shop", 4..=5, 450.0, 500.0).await;
    actuator.reaches(5).await;
    let moves = ground.moves("shop").await;
    let (first, second) = (moves[0].action_id.clone(), moves[moves.len() - 1].action_id.clone());
    let of = |id: &str| -> Vec<ActionState> {
        moves.iter().filter(|record| record.action_id == id).map(|record| record.state()).collect()
    };
    assert_eq!(of(&first)[4..], [ActionState::Holding, ActionState::Superseded]);
    assert_eq!(of(&second), ENDS_WELL[..5]);
    assert_eq!(ground.target.effects("shop").len(), 2);
    let outcomes = ground.outcomes().await;
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert_eq!((&outcomes[0].action_id, outcomes[0].measured_to_us), (&first, time(4).micros()));
    assert_eq!((outcomes[0].violation_minutes, outcomes[0].judgement.as_str()), (5, "tight"));
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_target_refuses_fails_and_is_asked_anew() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    ground.target.refuse(true);
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    let moves = ground.moves("shop").await;
    let last = &moves[moves.len() - 1];
    assert_eq!(last.state(), ActionState::Failed);
    assert!(last.reason.contains("told to refuse"), "{}", last.reason);
    ground.target.refuse(false);
    ground.turns("shop", 2..=2, 50.0, 300.0).await;
    actuator.reaches(2).await;
    assert_eq!(ground.units("shop", 2).await, 5);
    assert_eq!(ground.target.effects("shop").len(), 1);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_set_aside() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    // A forecast of another column, one of a window that is decided, bytes, and the window's record once more.
    ground.of_column("queries_per_s", "shop", 2, 2_000.0, Verdict::Fresh).await;
    ground.forecast("shop", 1, 2_000.0).await;
    let windows = records(&ground.broker, Topic::Windows).await;
    let garbage = [Topic::Forecasts, Topic::Windows].map(|topic| Record::new(topic, "garbage"));
    ground.send(windows.iter().map(again).chain(garbage).collect()).await;
    actuator.until("all is set aside", |status| status.set_aside == 5).await;
    // That of the window after it is there: the one of window 2 will not come.
    ground.forecast("shop", 3, 2_000.0).await;
    ground.window("shop", 2, 50.0).await;
    actuator.reaches(2).await;
    assert_eq!(actuator.status_of("shop").await.verdict, "none");
    assert_eq!(ground.plans().await.len(), 1);
    assert_eq!(ground.units("shop", 2).await, 5);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_over_is_kept_however_little_is_kept() {
    let mut ground = Ground::new(Stage::Recommend).await;
    ground.config.kept_records = 1;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    let plan = actuator.plans(true).await.remove(0).plan.expect("a plan");
    actuator.approve(&plan.plan_id, &plan.plan_hash).await.expect("approved");
    // A newer plan waits, and a still newer one supersedes it, while the first is measured.
    ground.turns("shop", 2..=3, 50.0, 500.0).await;
    ground.turns("shop", 4..=6, 280.0, 600.0).await;
    actuator.reaches(6).await;
    let moves = ground.moves("shop").await;
    let of_first = moves.iter().filter(|record| record.plan_id == plan.plan_id);
    assert_eq!(of_first.map(|record| record.state()).collect::<Vec<_>>(), ENDS_WELL);
    assert_eq!(actuator.plans(false).await.len(), 1);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_forecast_to_trust_the_guard_stands_alone_and_releases_nothing() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    // The forecast would ask for 29 units; the load of now needs 3.
    for (workload, verdict) in [("stale", Verdict::Stale), ("abstains", Verdict::Abstain)] {
        ground.judged(workload, 1, 2_000.0, verdict).await;
        ground.window(workload, 1, 200.0).await;
    }
    ground.forecast("missing", 2, 2_000.0).await;
    ground.window("missing", 1, 200.0).await;
    let expected = [("abstains", "abstain"), ("missing", "none"), ("stale", "stale")];
    for (workload, _) in &expected {
        actuator.knows(workload, 1).await;
    }
    let mut plans = ground.plans().await;
    plans.sort_by(|a, b| a.workload.cmp(&b.workload));
    for plan in &plans {
        assert_eq!((plan.units_now, plan.binding.as_str()), (3, "guard"), "{plan:?}");
        assert!(plan.units.is_empty(), "{plan:?}");
    }
    let said: Vec<(&str, &str)> = plans.iter().map(|plan| (plan.workload.as_str(), plan.verdict.as_str())).collect();
    assert_eq!(said, expected);
    for (workload, verdict) in &expected {
        assert_eq!(ground.states(workload).await, ENDS_WELL[..5], "{workload}: the guard may raise");
        assert_eq!(actuator.status_of(workload).await.verdict, *verdict);
    }

    // Long after the dwell time the load has gone: a release waits for a person.
    for (workload, verdict) in [("stale", Verdict::Stale), ("abstains", Verdict::Abstain)] {
        ground.judged(workload, 20, 2_000.0, verdict).await;
    }
    ground.forecast("missing", 21, 2_000.0).await;
    for (workload, _) in expected {
        ground.window(workload, 20, 10.0).await;
        actuator.knows(workload, 20).await;
        let moves = ground.moves(workload).await;
        let last = &moves[moves.len() - 1];
        assert_eq!((last.state(), last.units_after), (ActionState::Proposed, 1), "{workload}");
        assert_eq!(ground.units(workload, 20).await, 3, "{workload}");
    }
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forecast_that_does_not_come_is_not_waited_for_forever() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    actuator.runs().await;
    ground.window("shop", 1, 200.0).await;
    actuator.until("the window is there", |status| status.records_in == 1).await;
    assert_eq!(actuator.status_of("shop").await.event_time_us, i64::MIN, "it waits");
    actuator.stop().await;

    ground.config.forecast_patience = Span::from_micros(1);
    let actuator = ground.start();
    actuator.reaches(1).await;
    let plans = ground.plans().await;
    assert_eq!((plans[0].units_now, plans[0].verdict.as_str()), (3, "none"));
    assert!(plans[0].reason.contains("no forecast has come"), "{}", plans[0].reason);
    actuator.stop().await;
}
