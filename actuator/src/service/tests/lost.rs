//! A target that does what it is asked and then loses the answer.

use headroom_actuator_decide::policy::Stage;
use headroom_proto::headers;
use headroom_proto::time::Span;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionState, Switch};
use prost::Message;
use tonic::Code;

use super::ENDS_WELL;
use super::ground::{Actuator, Ground, records, time};

/// Waits for a state on the record.
async fn becomes(ground: &Ground, actuator: &Actuator, state: ActionState) {
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    for _ in 0..600 {
        if ground.states("shop").await.contains(&state) {
            return;
        }
        looks.tick().await;
    }
    panic!("not {state:?} in time: {:?}, {:?}", ground.states("shop").await, actuator.handle.status());
}

async fn switches(ground: &Ground) -> Vec<Switch> {
    let all = records(&ground.broker, Topic::Actions).await;
    let switches = all.iter().filter(|record| record.header(headers::MESSAGE) == Some("Switch"));
    switches.map(|record| Switch::decode(&*record.value).expect("a switch")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_until_it_is_known() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.target.lose(2);
    let actuator = ground.start();
    ground.turns("shop", 1..=2, 50.0, 300.0).await;
    ground.turns("shop", 3..=6, 280.0, 300.0).await;
    actuator.knows("shop", 6).await;
    assert_eq!(ground.states("shop").await, ENDS_WELL, "as if nothing had been lost");
    let keys: Vec<String> = ground.target.asked().into_iter().map(|asked| asked.key).collect();
    assert_eq!(keys, vec![format!("shop/{}", time(1).micros()); 3], "the same key, three times");
    assert_eq!(ground.target.effects("shop").len(), 1, "one effect");
    assert!(switches(&ground).await.is_empty(), "nothing to pause for");
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_known_fails_in_so_many_words_and_pauses() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.answer_within = Span::from_micros(1_500_000);
    ground.target.lose(usize::MAX);
    let actuator = ground.start();
    ground.turns("shop", 1..=2, 50.0, 300.0).await;
    becomes(&ground, &actuator, ActionState::Failed).await;
    actuator.knows("shop", 2).await;
    let moves = ground.moves("shop").await;
    let last = &moves[moves.len() - 1];
    assert_eq!(last.state(), ActionState::Failed, "{moves:?}");
    assert!(last.reason.contains("not known whether") && last.reason.contains("5 units mean that it has"), "{last:?}");
    assert!(ground.target.asked().len() >= 2, "{:?}", ground.target.asked());
    assert_eq!(ground.target.effects("shop").len(), 1, "one effect");
    let pauses = switches(&ground).await;
    assert_eq!(pauses.len(), 1, "{pauses:?}");
    assert_eq!((pauses[0].paused, pauses[0].cause.as_str(), pauses[0].workload.as_str()), (true, "unknown", "shop"));
    assert!(actuator.status_of("shop").await.paused);

    // A person lets it go on: from what is there, which is what the action wanted.
    ground.target.lose(0);
    actuator.resume("shop").await;
    ground.turns("shop", 3..=3, 280.0, 300.0).await;
    actuator.knows("shop", 3).await;
    assert_eq!(ground.moves("shop").await.len(), moves.len(), "nothing more to do");
    assert_eq!(actuator.status_of("shop").await.units_commanded, 5);

    // Or takes it back.
    actuator.rollback(&last.action_id).await.expect("rolled back");
    assert_eq!(ground.units("shop", 3).await, 1);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decided_and_a_stop_is_obeyed_while_it_is_not_known() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.target.lose(usize::MAX);
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.knows("shop", 1).await;
    ground.turns("shop", 2..=2, 50.0, 900.0).await;
    ground.turns("bank", 1..=2, 50.0, 60.0).await;
    actuator.knows("bank", 2).await;
    assert_eq!(actuator.status_of("shop").await.event_time_us, time(1).micros(), "shop waits, bank does not");
    actuator.pause("shop").await;
    becomes(&ground, &actuator, ActionState::Failed).await;
    let asked = ground.target.asked().len();
    let moves = ground.moves("shop").await;
    let last = &moves[moves.len() - 1];
    assert!(last.reason.contains("automation was stopped") && last.reason.contains("says 5 units"), "{}", last.reason);
    actuator.knows("shop", 2).await;
    assert_eq!(ground.target.asked().len(), asked, "not asked again");
    actuator.stop().await;
}

/// Whatever it was: the units of before are there again, and it is not asked for any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_yet_can_be_taken_back() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.target.lose(usize::MAX);
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.knows("shop", 1).await;
    let first = ground.moves("shop").await.remove(0);
    // The answer to the undoing is lost as well.
    let unsure = actuator.roll_back(&first.plan_id).await.expect_err("the answer is lost");
    assert_eq!(unsure.code(), Code::Unavailable, "{unsure}");
    assert!(unsure.message().contains("on the record, but not done yet"), "{unsure}");
    let went = [ActionState::Failed, ActionState::RolledBack];
    assert_eq!(ground.states("shop").await, [&ENDS_WELL[..3], &went].concat());
    ground.target.lose(0);
    actuator.roll_back(&first.plan_id).await.expect("finished");
    assert_eq!(ground.units("shop", 1).await, 1);
    let key = first.idempotency_key;
    assert_eq!(ground.target.effects("shop"), [key.clone(), format!("{key}/rollback")], "one change, one undoing");
    assert_eq!(ground.states("shop").await.len(), 5, "no move was made twice");
    let twice = actuator.roll_back(&first.plan_id).await.expect_err("nothing is left");
    assert_eq!(twice.code(), Code::FailedPrecondition, "{twice}");
    assert!(actuator.status_of("shop").await.paused);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_asks_again_under_the_same_key() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.target.lose(usize::MAX);
    let actuator = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.knows("shop", 1).await;
    actuator.stop().await;
    assert_eq!(ground.states("shop").await.last(), Some(&ActionState::Intended));
    ground.target.lose(0);
    let actuator = ground.start();
    actuator.runs().await;
    assert_eq!(ground.states("shop").await.last(), Some(&ActionState::Holding));
    assert_eq!(ground.target.effects("shop").len(), 1);
    actuator.stop().await;
}
