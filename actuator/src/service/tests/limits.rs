//! Limits over all workloads: what is over them waits, says why, and goes on; what the load of now needs has a reserve.

use headroom_actuator_decide::limits::Limits;
use headroom_actuator_decide::stage::Stage;
use headroom_proto::time::Span;
use headroom_proto::v1::ActionState;

use super::ground::Ground;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_a_limit_waits_says_why_and_goes_on() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.limits = Limits { actions_per_hour: 0, concurrent: 1 };
    let actuator = ground.start();
    for workload in ["a", "b"] {
        ground.turns(workload, 1..=1, 50.0, 300.0).await;
        actuator.knows(workload, 1).await;
    }
    // Units of `a` are ready after two windows.
    assert_eq!((ground.units("a", 1).await, ground.units("b", 1).await), (5, 1));
    let moves = ground.moves("b").await;
    let held = moves.last().expect("a move");
    assert_eq!((held.state(), held.actor.as_str()), (ActionState::Paused, "limits"));
    assert!(held.reason.contains("under way") && held.reason.contains("concurrent"), "{}", held.reason);
    assert_eq!(actuator.plans(true).await.len(), 1, "a person may let it pass");
    ground.turns("b", 2..=2, 50.0, 300.0).await;
    actuator.knows("b", 2).await;
    assert_eq!(ground.moves("b").await.len(), moves.len(), "it waits, and is not told again");
    ground.turns("b", 3..=3, 50.0, 300.0).await;
    actuator.knows("b", 3).await;
    assert_eq!(ground.units("b", 3).await, 5);
    let states = ground.states("b").await;
    assert_eq!(states[1..3], [ActionState::Paused, ActionState::Approved]);
    actuator.stop().await;
}

/// A change that nobody knows yet whether it has happened is under way.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_settled_counts_as_under_way() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.limits = Limits { actions_per_hour: 0, concurrent: 1 };
    ground.config.planner.dwell = Span::from_mins(5);
    let actuator = ground.start();
    ground.turns("a", 1..=4, 50.0, 300.0).await;
    actuator.knows("a", 4).await;
    // The target takes the release and loses each answer.
    ground.target.lose(usize::MAX);
    ground.turns("a", 5..=5, 50.0, 50.0).await;
    actuator.knows("a", 5).await;
    assert_eq!(ground.states("a").await.last(), Some(&ActionState::Intended));
    ground.turns("b", 5..=5, 50.0, 300.0).await;
    actuator.knows("b", 5).await;
    let held = ground.moves("b").await.pop().expect("a move");
    assert_eq!((held.state(), held.actor.as_str()), (ActionState::Paused, "limits"), "{held:?}");
    // Then the answer comes, and with it the turn of the other.
    ground.target.lose(0);
    actuator.until("it is settled", |status| status.records_out == 2).await;
    ground.turns("b", 8..=8, 50.0, 300.0).await;
    actuator.knows("b", 8).await;
    assert_eq!(ground.units("b", 8).await, 5);
    actuator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_an_hour_are_counted_across_a_restart_and_the_load_of_now_has_a_reserve() {
    let mut ground = Ground::new(Stage::Automate).await;
    ground.config.limits = Limits { actions_per_hour: 1, concurrent: 0 };
    let actuator = ground.start();
    ground.turns("a", 1..=1, 50.0, 300.0).await;
    actuator.knows("a", 1).await;
    actuator.stop().await;
    let actuator = ground.start();
    ground.turns("b", 2..=2, 50.0, 300.0).await;
    actuator.knows("b", 2).await;
    let held = ground.moves("b").await.pop().expect("a move");
    assert_eq!(held.state(), ActionState::Paused);
    assert!(held.reason.contains("actions_per_hour") && held.reason.contains("may begin at"), "{}", held.reason);
    // The load of now needs 5 units itself.
    ground.turns("c", 3..=3, 300.0, 300.0).await;
    actuator.knows("c", 3).await;
    assert_eq!(ground.units("c", 3).await, 5);
    // The reserve is used up now: even that waits, and says so.
    ground.turns("d", 4..=4, 300.0, 300.0).await;
    actuator.knows("d", 4).await;
    let held = ground.moves("d").await.pop().expect("a move");
    assert_eq!((held.state(), held.needed_now), (ActionState::Paused, true));
    assert!(held.reason.contains("reserve"), "{}", held.reason);
    // An hour after the second the limit is free again.
    ground.turns("b", 13..=15, 50.0, 300.0).await;
    actuator.knows("b", 15).await;
    assert_eq!((ground.units("b", 14).await, ground.units("b", 15).await), (1, 5));
    actuator.stop().await;
}
