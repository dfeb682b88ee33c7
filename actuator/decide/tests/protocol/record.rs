//! The record of a workload as the model has it, and what an actuator knows from it.

use headroom_actuator_decide::audit::succession::Succession;
use headroom_proto::v1::ActionState;

/// Actions in one run of the model: one a window at the most.
pub(super) const ACTIONS: usize = 2;

/// What one entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Move {
        action: usize,
        to: ActionState,
        /// Made by Headroom itself: as an approval, it makes the action automatic.
        by_itself: bool,
    },
    Switch {
        is_stopped: bool,
    },
    /// A term begins.
    Term,
}

/// One entry of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) writer: usize,
    /// The writer's term.
    pub(super) term: u64,
    /// Number in the chain, from 1, and the place of the entry that it follows.
    pub(super) sequence: u8,
    pub(super) follows: Option<usize>,
    /// Windows decided by then: event time.
    pub(super) at: usize,
    pub(super) what: What,
}

/// What the entries up to somewhere say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) states: [ActionState; ACTIONS],
    pub(super) is_automatic: [bool; ACTIONS],
    /// Time and number of the move that permits the effect that is next.
    pub(super) permits: [(usize, u8); ACTIONS],
    pub(super) decided: usize,
    /// Actions that were rolled back since one was applied, in order.
    pub(super) undone: Vec<usize>,
    pub(super) is_stopped: bool,
    pub(super) sequence: u8,
    pub(super) head: Option<usize>,
    pub(super) succession: Succession,
    pub(super) newest_term: u64,
}

impl View {
    pub(super) fn empty() -> Self {
        Self {
            states: [ActionState::Unspecified; ACTIONS],
            is_automatic: [false; ACTIONS],
            permits: [(0, 0); ACTIONS],
            decided: 0,
            undone: Vec::new(),
            is_stopped: false,
            sequence: 0,
            head: None,
            succession: Succession::default(),
            newest_term: 0,
        }
    }

    /// What the whole topic says.
    pub(super) fn of(log: &[Entry]) -> Self {
        let mut view = Self::empty();
        for (place, entry) in log.iter().enumerate() {
            view.take(entry, place);
        }
        view
    }

    pub(super) fn take(&mut self, entry: &Entry, place: usize) {
        match entry.what {
            What::Switch { is_stopped } => self.is_stopped = is_stopped,
            What::Term => {
                self.succession.begin(entry.term);
                self.newest_term = self.newest_term.max(entry.term);
            }
            What::Move { .. } if !self.succession.counts(entry.term) => {}
            What::Move { action, to, by_itself } => {
                self.sequence = entry.sequence;
                self.head = Some(place);
                self.states[action] = to;
                self.permits[action] = (entry.at, entry.sequence);
                self.decided = self.decided.max(entry.at);
                if to == ActionState::Approved {
                    self.is_automatic[action] = by_itself;
                }
                if to == ActionState::Applied {
                    self.undone.clear();
                } else if to == ActionState::RolledBack {
                    self.undone.push(action);
                }
            }
        }
    }

    pub(super) fn find(&self, is_so: impl Fn(ActionState) -> bool) -> Option<usize> {
        self.states.iter().position(|state| is_so(*state))
    }
}
