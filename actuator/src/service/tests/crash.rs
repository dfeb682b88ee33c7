//! What an actuator makes of a record that ended in the middle.

use headroom_actuator_decide::policy::Stage;
use headroom_ingest_broker::{Received, Record};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, ActionState, Outcome};
use headroom_proto::{EventTime, headers};
use prost::Message;

use super::ENDS_WELL;
use super::ground::{Ground, again, records, time};
use crate::{ActuatorError, ApplyRequest, Fence, Target};

/// One workload for each state in which the record may end, named after it; `unsure` ends in its intent as well, and
/// there the target has taken the change.
const ENDS: [(&str, usize); 7] =
    [("proposed", 1), ("approved", 2), ("intended", 3), ("unsure", 3), ("applied", 4), ("holding", 5), ("verified", 6)];

/// A run without a crash over all those workloads: windows 1 to 6, 5 units from window 1 on.
async fn whole(ground: &mut Ground) {
    for (workload, _) in ENDS {
        history(ground, workload).await;
    }
    let actuator = ground.start();
    for (workload, _) in ENDS {
        actuator.knows(workload, 6).await;
    }
    actuator.stop().await;
}

async fn history(ground: &mut Ground, workload: &str) {
    ground.turns(workload, 1..=2, 50.0, 300.0).await;
    ground.turns(workload, 3..=6, 280.0, 300.0).await;
}

/// The move that a record of the actions topic holds.
fn action(record: &Received) -> Option<ActionRecord> {
    let is_action = record.header(headers::MESSAGE) == Some("ActionRecord");
    is_action.then(|| ActionRecord::decode(&*record.value).expect("a move"))
}

/// The first `count` moves of that workload.
pub(super) fn first_moves(journal: &[Received], workload: &str, count: usize) -> Vec<Record> {
    let of_it = |record: &&Received| action(record).is_some_and(|action| action.workload == workload);
    journal.iter().filter(of_it).take(count).map(again).collect()
}

/// Brings the target to where the effect of an action has happened.
pub(super) async fn take_effect(ground: &Ground, action: &ActionRecord) {
    let request = ApplyRequest {
        workload: action.workload.clone(),
        units: action.units_after,
        idempotency_key: action.idempotency_key.clone(),
        fence: Fence::new(EventTime::from_micros(action.at_us), action.sequence),
        undoes: None,
        at: EventTime::from_micros(action.at_us),
        begin_at: None,
    };
    ground.target.inner.apply(&request).await.expect("takes it");
}

fn outcome_of<'a>(outcomes: &'a [Outcome], workload: &str) -> &'a Outcome {
    let mut of_it = outcomes.iter().filter(|outcome| outcome.workload == workload);
    let found = of_it.next().unwrap_or_else(|| panic!("no outcome of {workload}"));
    assert!(of_it.next().is_none(), "{workload} has two outcomes");
    found
}

/// How long units took is not seen while nobody looks.
fn without_lead_time(outcome: &Outcome) -> Outcome {
    Outcome { ready_after_us: None, ..outcome.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_it_ends_the_record_goes_on_as_if_nothing_had_happened() {
    let mut before = Ground::new(Stage::Automate).await;
    whole(&mut before).await;
    let journal = records(&before.broker, Topic::Actions).await;
    let expected_outcomes = before.outcomes().await;

    let mut after = Ground::new(Stage::Automate).await;
    after.send(records(&before.broker, Topic::Plans).await.iter().map(again).collect()).await;
    for (workload, count) in ENDS {
        history(&mut after, workload).await;
        let moves = before.moves(workload).await;
        assert_eq!(moves.iter().map(ActionRecord::state).collect::<Vec<_>>(), ENDS_WELL, "{workload}");
        after.send(first_moves(&journal, workload, count)).await;
        if workload == "unsure" || count > 3 {
            take_effect(&after, &moves[0]).await;
        }
    }
    // What a move refers to is there before it.
    let verified = |record: &&Received| outcome(record).workload == "verified";
    after.send(records(&before.broker, Topic::Outcomes).await.iter().filter(verified).map(again).collect()).await;

    // The second start is one on a whole record.
    for start in ["first", "second"] {
        let actuator = after.start();
        for (workload, _) in ENDS {
            actuator.knows(workload, 6).await;
        }
        actuator.stop().await;
        let outcomes = after.outcomes().await;
        for (workload, _) in ENDS {
            let (expected, found) = (before.moves(workload).await, after.moves(workload).await);
            assert_eq!(found, expected, "{workload}, {start} start: every move, to the hash");
            let effects = after.target.effects(workload);
            assert_eq!(effects, [expected[0].idempotency_key.clone()], "{workload}, {start} start");
            assert_eq!(after.units(workload, 6).await, 5, "{workload}, {start} start");
            let found = without_lead_time(outcome_of(&outcomes, workload));
            assert_eq!(found, without_lead_time(outcome_of(&expected_outcomes, workload)), "{start} start");
        }
    }
    let mut asked: Vec<String> = after.target.asked().into_iter().map(|asked| asked.key).collect();
    asked.sort();
    let expected: Vec<String> = ["approved", "intended", "proposed", "unsure"]
        .map(|workload| format!("{workload}/{}", time(1).micros()))
        .into_iter()
        .collect();
    assert_eq!(asked, expected, "only where the effect was not on the record");
}

fn outcome(record: &Received) -> Outcome {
    Outcome::decode(&*record.value).expect("an outcome")
}

/// Windows 1 to 5; the plan of window 4 takes the place of the action of window 1, which is measured until window 6.
async fn replaced(ground: &mut Ground, workload: &str) {
    ground.turns(workload, 1..=3, 50.0, 300.0).await;
    ground.turns(workload, 4..=5, 280.0, 500.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_action_takes_the_place_of_another_wherever_the_record_ends() {
    // 5 moves of the first action, 4 of the second, the end of the first, the second holds.
    let workloads: Vec<(String, usize)> = (1..=11).map(|count| (format!("after-{count}"), count)).collect();
    let mut before = Ground::new(Stage::Automate).await;
    for (workload, _) in &workloads {
        replaced(&mut before, workload).await;
    }
    let actuator = before.start();
    for (workload, _) in &workloads {
        actuator.knows(workload, 5).await;
    }
    actuator.stop().await;
    let journal = records(&before.broker, Topic::Actions).await;

    let mut after = Ground::new(Stage::Automate).await;
    for (workload, count) in &workloads {
        replaced(&mut after, workload).await;
        let moves = first_moves(&journal, workload, *count);
        for record in &moves {
            let action = ActionRecord::decode(&*record.value).expect("a move");
            if action.state() == ActionState::Applied {
                take_effect(&after, &action).await;
            }
        }
        after.send(moves).await;
    }
    let actuator = after.start();
    for (workload, _) in &workloads {
        actuator.knows(workload, 5).await;
    }
    actuator.stop().await;
    let outcomes = after.outcomes().await;
    for (workload, count) in &workloads {
        let (expected, found) = (before.moves(workload).await, after.moves(workload).await);
        assert_eq!(expected.len(), workloads.len(), "{expected:?}");
        assert_eq!(found, expected, "{workload}: every move, to the hash");
        assert_eq!(after.target.effects(workload), before.target.effects(workload), "{workload}");
        assert_eq!(after.units(workload, 5).await, 8, "{workload}");
        // Where the end of the first action is on the record, its outcome was sent before; it is not sent again.
        let sent = outcomes.iter().filter(|outcome| outcome.workload == *workload).count();
        assert_eq!(sent, usize::from(*count < 10), "{workload}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_a_crash_interrupted_is_done_once() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    let plan = actuator.plans(true).await.remove(0);
    let plan_id = plan.plan.as_ref().map(|plan| plan.plan_id.clone()).unwrap_or_default();
    actuator.approve(&plan_id, "").await.expect("approved");
    ground.target.refuse(true);
    let error = actuator.rollback(&plan.action_id).await.expect_err("the target refuses");
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert!(error.message().contains("next start"), "{error}");
    // A newer plan waits when it stops: the rollback is not the newest action any more.
    ground.turns("shop", 2..=2, 50.0, 500.0).await;
    actuator.reaches(2).await;
    assert_eq!(ground.units("shop", 2).await, 5);
    actuator.stop().await;

    ground.target.refuse(false);
    for _ in 0..2 {
        let actuator = ground.start();
        actuator.runs().await;
        assert_eq!(actuator.plans(true).await.len(), 1);
        actuator.stop().await;
        assert_eq!(ground.units("shop", 2).await, 1);
        assert_eq!(ground.target.effects("shop").len(), 2, "the change and its undoing");
    }
    let last_two = [ActionState::RolledBack, ActionState::Proposed];
    assert!(ground.states("shop").await.ends_with(&last_two));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_measured_goes_on_when_a_newer_plan_waits_at_the_crash() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    let first = actuator.plans(true).await.remove(0);
    let plan_id = first.plan.as_ref().map(|plan| plan.plan_id.clone()).unwrap_or_default();
    actuator.approve(&plan_id, "").await.expect("approved");
    ground.turns("shop", 2..=4, 280.0, 500.0).await;
    actuator.reaches(4).await;
    actuator.stop().await;

    let actuator = ground.start();
    ground.turns("shop", 5..=6, 280.0, 500.0).await;
    actuator.reaches(6).await;
    let moves = ground.moves("shop").await;
    let newest = |id: &str| moves.iter().rfind(|record| record.action_id == id).map(ActionRecord::state);
    assert_eq!(newest(&first.action_id), Some(ActionState::Verified));
    assert_eq!(actuator.plans(true).await.len(), 1, "the newer one waits still");
    let outcomes = ground.outcomes().await;
    let outcome = outcome_of(&outcomes, "shop");
    assert!((outcome.completeness - 1.0).abs() < 1e-9, "{outcome:?}");
    assert!((outcome.observed_peak - 280.0).abs() < 1e-9, "{outcome:?}");
    actuator.stop().await;
}

/// Windows that were seen before an approval are not decided again as if it had been there.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_decides_nothing_anew() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    ground.turns("shop", 1..=11, 50.0, 300.0).await;
    actuator.reaches(11).await;
    let plan = actuator.plans(true).await.remove(0).plan.expect("a plan");
    actuator.approve(&plan.plan_id, "").await.expect("approved");
    actuator.stop().await;
    let before = ground.moves("shop").await;

    ground.config.planner.min_units = 9;
    let actuator = ground.start();
    ground.turns("shop", 12..=12, 50.0, 300.0).await;
    actuator.reaches(12).await;
    let after = ground.moves("shop").await;
    assert_eq!(after[..before.len()], before);
    let added: Vec<i64> = after[before.len()..].iter().map(|record| record.decided_at_us).collect();
    assert_eq!(added, [time(12).micros()], "only the new window");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_stops_it_and_is_located() {
    let mut ground = Ground::new(Stage::Automate).await;
    history(&mut ground, "shop").await;
    let actuator = ground.start();
    actuator.reaches(6).await;
    actuator.stop().await;
    let mut journal = records(&ground.broker, Topic::Actions).await;
    journal.retain(|record| action(record).is_some());

    // A letter of a reason; the first byte, so that the last record is no message; a record that is missing.
    let changed = |at: usize, needle: &[u8], to: u8| {
        let mut sent: Vec<Record> = journal.iter().map(again).collect();
        let mut bytes = sent[at].value.to_vec();
        let place = bytes.windows(needle.len()).position(|window| window == needle).expect("is there");
        bytes[place] = to;
        sent[at].value = bytes.into();
        sent
    };
    let mut missing: Vec<Record> = journal.iter().map(again).collect();
    missing.remove(2);
    let last = journal.len() - 1;
    for (sent, located) in [
        (changed(3, b"the target has", b'T'), "record 4 of shop"),
        (changed(last, b"\x0a", 0x0b), "headroom.actions/"),
        (missing, "record 4 of shop"),
    ] {
        let other = Ground::new(Stage::Automate).await;
        other.send(sent).await;
        let actuator = other.start();
        let handle = actuator.handle.clone();
        let error = actuator.ends().await.expect_err("the record does not hold");
        assert!(matches!(error, ActuatorError::Chain(_) | ActuatorError::Unreadable { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(located) && message.contains("nothing is done"), "{message}");
        assert!(handle.status().note.contains(located), "{:?}", handle.status());
        assert!(other.target.asked().is_empty());
    }
}
