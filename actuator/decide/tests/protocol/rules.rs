//! The rules that are checked: those of the program, and each of them broken.

use headroom_actuator_decide::policy::{self, Policy, Question};
use headroom_actuator_decide::protocol::{self, Finding, Reply, Settling, Standing, Step};
use headroom_actuator_decide::transition;
use headroom_proto::v1::ActionState;

use super::questions;

/// What a window asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Fewer units, not more.
    pub(super) is_release: bool,
    /// The forecast can be trusted; the load of now needs none of it.
    pub(super) is_fresh: bool,
    pub(super) is_reversible: bool,
}

/// A raise that may be automatic.
pub(super) const RAISE: Offer = Offer { is_release: false, is_fresh: true, is_reversible: true };

/// What the actuators and the target go by. The functions are the program's own unless a test breaks them.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) next_step: fn(Standing) -> Step,
    pub(super) replied: fn(Reply, bool) -> Settling,
    pub(super) found: fn(Finding, bool) -> ActionState,
    pub(super) is_legal: fn(ActionState, ActionState) -> bool,
    pub(super) is_waiting: fn(ActionState) -> bool,
    /// The policy's answer for Headroom itself, by offer and whether automation is stopped.
    pub(super) permits: Vec<(Offer, bool, bool)>,
    /// The target drops a repeat by its key.
    pub(super) knows_keys: bool,
    /// The target refuses what is overtaken.
    pub(super) fences: bool,
    /// A rollback pauses automation before it is on the record.
    pub(super) pauses_first: bool,
    /// A start begins a term, which ends the one before.
    pub(super) begins_terms: bool,
    /// An actuator looks whether its intent counts before the effect.
    pub(super) confirms: bool,
    /// The start after a crash reads switches.
    pub(super) recalls_switches: bool,
}

impl Rules {
    /// Those of the program, with the answers of the policies that are shipped.
    pub(super) fn of_the_program() -> Self {
        let policy = Policy::parse(policy::DEFAULT).expect("the policies that are shipped");
        let ask = |question: &Question<'_>| policy.ask(question).expect("an answer").allowed;
        let mut permits = Vec::new();
        for number in 0..8 {
            let offer = Offer { is_release: number & 1 > 0, is_fresh: number & 2 > 0, is_reversible: number & 4 > 0 };
            for is_stopped in [false, true] {
                permits.push((offer, is_stopped, ask(&questions::of(offer, is_stopped))));
            }
        }
        assert!(permits.iter().any(|(_, _, allowed)| *allowed), "the policies permit nothing: is the question right?");
        Self {
            next_step: protocol::next_step,
            replied: protocol::replied,
            found: protocol::found,
            is_legal: |from, to| transition::check(from, to).is_ok(),
            is_waiting: protocol::is_waiting,
            permits,
            knows_keys: true,
            fences: true,
            pauses_first: true,
            begins_terms: true,
            confirms: true,
            recalls_switches: true,
        }
    }

    pub(super) fn permits(&self, offer: Offer, is_stopped: bool) -> bool {
        self.permits.contains(&(offer, is_stopped, true))
    }
}
