//! What comes next for an action, given what its record says. The same answer serves a run without a crash, the start
//! after one, and the model checker (`tests/protocol.rs`), which tries every order of events on it.

use headroom_proto::v1::ActionState;

use crate::transition::{self, IllegalMove};

/// What is known of an action when the next step is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The newest state on its record.
    pub state: ActionState,
    /// Nobody but Headroom has permitted it.
    pub is_automatic: bool,
    /// Automation is stopped, of its workload or of all.
    pub is_stopped: bool,
    /// It was rolled back, and nothing was applied to the workload since.
    pub is_undone_last: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the policy: it permits, or the action waits for a person.
    AskPolicy,
    /// Make this move. What follows waits until it is acknowledged.
    Record(ActionState),
    /// Ask the target for the change; it may have happened before a crash, and a repeat is dropped by its key.
    Apply,
    /// Watch the effect.
    Measure,
    /// Ask the target to undo the change; a repeat is dropped by its key.
    Undo,
    /// Nothing: it waits for a person, or it is over.
    Rest,
}

/// What a person asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Do it.
    Approve,
    /// Do not.
    Reject,
    /// Return to what was before.
    RollBack,
}

/// What was seen of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The target reports it, and nothing speaks against it.
    Held,
    /// The target reports something else, or not all of its units serve.
    NotThere,
    /// It does harm.
    Harmful,
}

/// What is known of a change after the target was asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It has happened.
    Done,
    /// It has not, and will not.
    NotDone,
    /// The answer was lost, or the change was left half done.
    Unknown,
}

/// What follows from a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    /// Make this move.
    Record(ActionState),
    /// Ask again under the same key: the target finds what it has done, and finishes what it has begun.
    AskAgain,
    /// Nobody can tell: automation of the workload pauses, and then the action has failed.
    GiveUp,
}

/// The next step. Automation that is stopped begins no effect, also one whose intent was on the record already: whether
/// it has happened is not known then, so it has failed. A rollback on the record is carried out in any case.
#[must_use]
pub fn next_step(standing: Standing) -> Step {
    let is_halted = standing.is_stopped && standing.is_automatic;
    match standing.state {
        ActionState::Proposed => Step::AskPolicy,
        ActionState::Approved if is_halted => Step::Record(ActionState::Paused),
        ActionState::Approved => Step::Record(ActionState::Intended),
        ActionState::Intended if is_halted => Step::Record(ActionState::Failed),
        ActionState::Intended => Step::Apply,
        ActionState::Applied => Step::Record(ActionState::Holding),
        ActionState::Holding => Step::Measure,
        ActionState::RolledBack if standing.is_undone_last => Step::Undo,
        ActionState::RolledBack
        | ActionState::Unspecified
        | ActionState::Rejected
        | ActionState::Expired
        | ActionState::Paused
        | ActionState::Verified
        | ActionState::Failed
        | ActionState::Superseded => Step::Rest,
    }
}

/// What follows from the target's reply. An effect that may have happened is settled before anything else is decided.
#[must_use]
pub fn replied(reply: Reply, has_time: bool) -> Settling {
    match reply {
        Reply::Done => Settling::Record(ActionState::Applied),
        Reply::NotDone => Settling::Record(ActionState::Failed),
        Reply::Unknown if has_time => Settling::AskAgain,
        Reply::Unknown => Settling::GiveUp,
    }
}

/// The move that a person's request makes.
///
/// # Errors
/// When the action is not in a state for it.
pub fn requested(state: ActionState, request: Request) -> Result<ActionState, IllegalMove> {
    let to = match request {
        Request::Approve => ActionState::Approved,
        Request::Reject => ActionState::Rejected,
        Request::RollBack => ActionState::RolledBack,
    };
    transition::check(state, to).map(|()| to)
}

/// The move that ends the hold. Harm is undone by itself unless automation is stopped: then a person has to.
#[must_use]
pub fn found(finding: Finding, is_stopped: bool) -> ActionState {
    match finding {
        Finding::Held => ActionState::Verified,
        Finding::Harmful if !is_stopped => ActionState::RolledBack,
        Finding::Harmful | Finding::NotThere => ActionState::Failed,
    }
}

/// Does it wait for a person? Then a newer plan supersedes it, and it expires.
#[must_use]
pub fn is_waiting(state: ActionState) -> bool {
    matches!(state, ActionState::Proposed | ActionState::Paused)
}

/// Is nothing left to do for it? A person may still roll it back.
#[must_use]
pub fn is_over(state: ActionState) -> bool {
    transition::next_states(state).iter().all(|next| *next == ActionState::RolledBack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(state: ActionState) -> Standing {
        Standing { state, is_automatic: true, is_stopped: false, is_undone_last: true }
    }

    fn all() -> impl Iterator<Item = ActionState> {
        (0..=12).map(|number| ActionState::try_from(number).expect("a state"))
    }

    #[test]
    fn every_step_that_is_recorded_is_a_legal_move() {
        for state in all() {
            for (is_automatic, is_stopped) in [(true, true), (true, false), (false, true), (false, false)] {
                let step = next_step(Standing { is_automatic, is_stopped, ..standing(state) });
                if let Step::Record(to) = step {
                    transition::check(state, to).expect("legal");
                }
                let begins = matches!(step, Step::Apply | Step::Record(ActionState::Intended));
                assert!(!(begins && is_automatic && is_stopped), "{state:?} begins an effect although it is stopped");
            }
        }
        for has_time in [true, false] {
            for reply in [Reply::Done, Reply::NotDone, Reply::Unknown] {
                if let Settling::Record(to) = replied(reply, has_time) {
                    transition::check(ActionState::Intended, to).expect("legal");
                }
            }
        }
        for (finding, is_stopped) in [Finding::Held, Finding::NotThere, Finding::Harmful].map(|f| (f, false)) {
            transition::check(ActionState::Holding, found(finding, is_stopped)).expect("legal");
        }
        assert_eq!(found(Finding::Harmful, true), ActionState::Failed);
    }

    #[test]
    fn what_waits_and_what_is_over() {
        let over: Vec<ActionState> = all().filter(|state| is_over(*state)).collect();
        use ActionState::{Expired, Failed, Rejected, RolledBack, Superseded, Verified};
        assert_eq!(over, [Rejected, Expired, Verified, RolledBack, Failed, Superseded]);
        assert!(all().filter(|state| is_over(*state)).all(|state| !is_waiting(state)));
        for state in all() {
            assert_eq!(requested(state, Request::Approve).is_ok(), is_waiting(state), "{state:?}");
        }
    }
}
