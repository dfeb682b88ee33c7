//! The protocol of actions, checked over every order of events: crashes, requests that arrive twice, late or never,
//! answers that are lost, two actuators at once, people who decide at the same time, the switch that stops automation,
//! rollbacks that are under way. The model asks the program's own functions what comes next (`protocol.rs`) and what
//! moves are legal (`transition.rs`), and the policies that are shipped what is permitted. Each way to break the rules
//! is found.

#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod protocol {
    mod model;
    mod questions;
    mod record;
    mod rules;
    mod world;

    use std::time::Duration;

    use headroom_actuator_decide::protocol::{self, Reply, Settling, Step};
    use headroom_actuator_decide::transition;
    use headroom_proto::v1::ActionState;
    use stateright::{Checker, HasDiscoveries, Model};

    use model::Scenario;
    use rules::{Offer, RAISE, Rules};
    use world::{Faults, Wish};

    const STALE_RELEASE: Offer = Offer { is_release: true, is_fresh: false, ..RAISE };
    /// More than the load of now needs.
    const STALE_RAISE: Offer = Offer { is_fresh: false, ..RAISE };
    const IRREVERSIBLE: Offer = Offer { is_reversible: false, ..RAISE };

    const PATIENCE: Duration = Duration::from_secs(900);

    fn scenario(actuators: usize, offers: &[Offer], wishes: &[Wish], faults: (u8, u8, u8)) -> Scenario {
        let (crashes, losses, repeats) = faults;
        Scenario {
            rules: Rules::of_the_program(),
            actuators,
            offers: offers.to_vec(),
            wishes: wishes.to_vec(),
            faults: Faults { crashes, losses, repeats, starts: 1 },
        }
    }

    /// Every order of events, to the end.
    fn holds(name: &str, scenario: Scenario) {
        let checker = scenario.checker().threads(2).timeout(PATIENCE).spawn_dfs().join();
        assert!(checker.is_done(), "{name}: not to the end in time");
        checker.assert_properties();
    }

    /// The property that a broken rule breaks.
    fn breaks(scenario: Scenario, property: &'static str) {
        let finished = HasDiscoveries::AnyOf([property].into());
        let checker = scenario.checker().threads(2).finish_when(finished).timeout(PATIENCE).spawn_bfs().join();
        let found = checker.discoveries();
        assert!(found.contains_key(property), "not found: {property}");
    }

    #[test]
    fn one_actuator_keeps_its_rules_through_crashes_losses_and_repeats() {
        holds("faults", scenario(1, &[RAISE, RAISE], &[], (3, 2, 2)));
    }

    #[test]
    fn people_who_decide_at_the_same_time_find_one_answer() {
        // Twice approved, as one whose request is repeated does it, and rejected; plans expire and are superseded.
        let wishes = [Wish::Approve(0), Wish::Approve(0), Wish::Reject(0), Wish::Approve(1)];
        holds("approvals", scenario(1, &[IRREVERSIBLE, STALE_RELEASE], &wishes, (1, 1, 1)));
    }

    #[test]
    fn automation_that_is_stopped_begins_nothing() {
        holds("stop", scenario(1, &[RAISE, RAISE], &[Wish::Stop, Wish::Resume, Wish::Stop], (2, 1, 1)));
    }

    #[test]
    fn rollbacks_return_to_what_was_whatever_is_under_way() {
        let wishes = [Wish::RollBack(0), Wish::RollBack(1), Wish::Resume];
        holds("rollbacks", scenario(1, &[RAISE, RAISE], &wishes, (2, 1, 1)));
    }

    /// The newer one acts, whatever the older one still does. A stop reaches the one that it is told to, and the other a
    /// moment later: what it may begin within that is not asked here.
    #[test]
    fn of_two_actuators_one_acts_and_their_record_does_not_fork() {
        let wishes = [Wish::Approve(0), Wish::Reject(0), Wish::RollBack(0)];
        for scenario in [
            scenario(2, &[RAISE], &[], (1, 1, 0)),
            scenario(2, &[IRREVERSIBLE], &wishes, (0, 1, 0)),
            scenario(2, &[STALE_RELEASE], &[], (0, 0, 1)),
            scenario(2, &[STALE_RAISE], &[], (0, 0, 1)),
        ] {
            let checker = scenario.checker().threads(2).timeout(PATIENCE).spawn_dfs().join();
            assert!(checker.is_done(), "not to the end in time");
            let found = checker.discoveries();
            for property in [NO_INTENT, TWICE, OVERTAKEN, IRREVERSIBLE_ALONE, STALE, FORK, LEGAL, FORGOTTEN, ENDS] {
                assert!(!found.contains_key(property), "{property}: {:?}", found.get(property));
            }
        }
    }

    const FORK: &str = "the record does not fork";
    const LEGAL: &str = "every move is legal";
    const FORGOTTEN: &str = "no effect is taken for failed";
    const TWICE: &str = "no double effect";
    const OVERTAKEN: &str = "no overtaken effect";
    const IRREVERSIBLE_ALONE: &str = "nothing irreversible by itself";
    const STALE: &str = "no action on a stale model";
    const NO_INTENT: &str = "no effect without an intent";
    const STOPPED: &str = "nothing begins once it is stopped";
    const ENDS: &str = "every action ends, and the target stands where the record says";

    /// The next step, but for one state.
    macro_rules! broken_step {
        ($state:ident => $step:expr) => {
            |standing| if standing.state == ActionState::$state { $step } else { protocol::next_step(standing) }
        };
    }

    #[test]
    fn every_broken_rule_is_found() {
        let faults = scenario(1, &[RAISE, RAISE], &[], (1, 1, 1));
        let broken = |scenario: &Scenario, change: fn(&mut Rules)| {
            let mut broken = scenario.clone();
            change(&mut broken.rules);
            broken
        };
        breaks(broken(&faults, |r| r.next_step = broken_step!(Approved => Step::Apply)), NO_INTENT);
        breaks(broken(&faults, |r| r.next_step = broken_step!(Applied => Step::Rest)), ENDS);
        breaks(broken(&faults, |r| r.next_step = broken_step!(Intended => Step::Rest)), ENDS);
        breaks(broken(&faults, |r| r.next_step = broken_step!(RolledBack => Step::Rest)), ENDS);
        breaks(broken(&faults, |r| r.next_step = broken_step!(Holding => Step::Undo)), NO_INTENT);
        let forgets: fn(&mut Rules) = |rules| {
            rules.replied = |reply, has_time| match reply {
                Reply::Unknown => Settling::Record(ActionState::Failed),
                Reply::Done | Reply::NotDone => protocol::replied(reply, has_time),
            };
        };
        breaks(broken(&faults, forgets), FORGOTTEN);
        let gives_up_at_large: fn(&mut Rules) = |rules| {
            rules.replied = |reply, has_time| match protocol::replied(reply, has_time) {
                Settling::GiveUp => Settling::Record(ActionState::Failed),
                settling @ (Settling::Record(_) | Settling::AskAgain) => settling,
            };
        };
        breaks(broken(&faults, gives_up_at_large), FORGOTTEN);
        breaks(broken(&faults, |r| r.knows_keys = false), "no double effect");
        // A request that is late arrives behind the undoing of its change.
        let undone = scenario(1, &[RAISE], &[Wish::RollBack(0)], (0, 1, 0));
        breaks(broken(&undone, |r| r.fences = false), "no overtaken effect");

        let two = scenario(2, &[RAISE], &[], (0, 0, 0));
        breaks(broken(&two, |r| r.begins_terms = false), FORK);
        breaks(broken(&two, |r| r.confirms = false), NO_INTENT);

        let everything: fn(&mut Rules) = |rules| rules.permits.iter_mut().for_each(|(_, _, allowed)| *allowed = true);
        let alone = |offer: Offer| scenario(1, &[offer], &[], (0, 0, 0));
        breaks(broken(&alone(IRREVERSIBLE), everything), "nothing irreversible by itself");
        breaks(broken(&alone(STALE_RELEASE), everything), "no action on a stale model");
        breaks(broken(&alone(STALE_RAISE), everything), "no action on a stale model");

        let stop = scenario(1, &[RAISE, RAISE], &[Wish::Stop], (1, 0, 0));
        breaks(broken(&stop, |r| r.recalls_switches = false), STOPPED);

        let rejected = scenario(1, &[IRREVERSIBLE], &[Wish::Reject(0), Wish::Approve(0)], (0, 0, 0));
        let reopens: fn(&mut Rules) = |rules| {
            rules.is_legal = |from, to| {
                (from, to) == (ActionState::Rejected, ActionState::Approved) || transition::check(from, to).is_ok()
            };
            rules.is_waiting = |state| protocol::is_waiting(state) || state == ActionState::Rejected;
        };
        breaks(broken(&rejected, reopens), "every move is legal");

        let rollback = scenario(1, &[RAISE, RAISE], &[Wish::RollBack(0)], (1, 0, 0));
        breaks(broken(&rollback, |r| r.pauses_first = false), "nothing rolled back is done again");
    }
}
