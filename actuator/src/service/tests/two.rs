//! Two actuators over one broker: one acts, the other stands by.

use std::time::Duration;

use headroom_actuator_decide::policy::Stage;
use headroom_proto::headers;
use headroom_proto::status::StageState;
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, ActionState};
use prost::Message;
use tonic::Code;

use super::ENDS_WELL;
use super::ground::{Actuator, Ground, again, records, time};

const STANDS_BY: &str = "stands by";

/// The one that acts, and the one that stands by.
async fn who_acts(one: Actuator, other: Actuator) -> (Actuator, Actuator) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..800 {
        let [acts, other_acts] = [&one, &other].map(|actuator| {
            let status = actuator.handle.status();
            status.state == StageState::Running && !status.note.contains(STANDS_BY)
        });
        match (acts, other_acts) {
            (true, false) => return (one, other),
            (false, true) => return (other, one),
            (true, true) | (false, false) => drop(looks.tick().await),
        }
    }
    panic!("nobody acts alone: {:?}, {:?}", one.handle.status(), other.handle.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_acts_the_other_stands_by_and_takes_over() {
    let mut ground = Ground::new(Stage::Automate).await;
    let (one, other) = (ground.start_in_group(), ground.start_in_group());
    let (first, second) = who_acts(one, other).await;
    ground.turns("shop", 1..=2, 50.0, 300.0).await;
    first.knows("shop", 2).await;
    assert_eq!(ground.units("shop", 2).await, 5);
    assert!(second.handle.status().note.contains(STANDS_BY), "{:?}", second.handle.status());
    let refused = second.rollback("shop-1").await.expect_err("it does not act");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(STANDS_BY), "{refused}");

    // The first is gone in the middle of its hold; the second finishes what it has begun.
    first.kill().await;
    second.until("it acts", |status| !status.note.contains(STANDS_BY)).await;
    ground.turns("shop", 3..=6, 280.0, 300.0).await;
    second.knows("shop", 6).await;
    assert_eq!(ground.states("shop").await, ENDS_WELL, "one record, without a fork");
    assert_eq!(ground.target.effects("shop").len(), 1, "one effect");
    let terms: Vec<u64> = ground.moves("shop").await.iter().map(|action| action.term).collect();
    assert!(terms.first() < terms.last() && terms.is_sorted(), "{terms:?}");
    second.stop().await;
}

/// The first does not know yet that the second acts: what it still writes does not count, and it does nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_been_succeeded_does_nothing_and_says_so() {
    let mut ground = Ground::new(Stage::Automate).await;
    let first = ground.start();
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    first.knows("shop", 1).await;
    let second = ground.start();
    second.runs().await;
    first.until("it stands by", |status| status.note.contains(STANDS_BY)).await;

    // A move of the first that was on its way: it follows the same record as the second's next.
    let moves = ground.moves("shop").await;
    let last = moves[moves.len() - 1].clone();
    let late = ActionRecord { sequence: last.sequence + 1, reason: "late".to_owned(), ..last.clone() };
    let late = headroom_actuator_decide::audit::sealed(late, &last.hash);
    let all = records(&ground.broker, Topic::Actions).await;
    let is_last = |record: &&headroom_ingest_broker::Received| {
        record.header(headers::MESSAGE) == Some("ActionRecord")
            && ActionRecord::decode(&*record.value).is_ok_and(|action| action.hash == last.hash)
    };
    let mut sent = again(all.iter().rfind(is_last).expect("is there"));
    sent.value = late.encode_to_vec().into();
    ground.send(vec![sent]).await;

    ground.turns("shop", 2..=6, 280.0, 300.0).await;
    second.knows("shop", 6).await;
    second.stop().await;
    assert_eq!(ground.states("shop").await, ENDS_WELL);
    assert_eq!(ground.target.effects("shop").len(), 1, "one effect");
    first.stop().await;

    // A third finds one record.
    let third = ground.start();
    third.runs().await;
    assert_eq!(ground.states("shop").await.last(), Some(&ActionState::Verified));
    third.stop().await;
}

/// Whoever a person reaches, a stop is a stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_told_to_the_one_that_stands_by_reaches_the_one_that_acts() {
    let mut ground = Ground::new(Stage::Automate).await;
    let first = ground.start();
    first.runs().await;
    let second = ground.start();
    second.runs().await;
    first.until("it stands by", |status| status.note.contains(STANDS_BY)).await;
    let began = tokio::time::Instant::now();
    first.pause("").await;
    second.until("it has heard", |status| status.note.contains("automation is paused")).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    second.knows("shop", 1).await;
    assert!(ground.target.asked().is_empty());
    assert_eq!(second.status_of("shop").await.event_time_us, time(1).micros());
    second.stop().await;
    first.stop().await;
}
