//! Actuators, their record, the target and what is on its way between them, with everything that may go wrong.

use std::collections::BTreeSet;

use headroom_actuator_decide::protocol::{Finding, Standing, Step};
use headroom_actuator_decide::transition;
use headroom_proto::v1::ActionState;

use super::record::{ACTIONS, Entry, View, What};
use super::rules::{Offer, Rules};

mod target;

/// What a person asks, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wish {
    Approve(usize),
    Reject(usize),
    RollBack(usize),
    Stop,
    Resume,
}

/// A change that was asked of the target. Its key is the action and whether it is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) action: usize,
    pub(super) is_undo: bool,
    /// Window and number of the move that permits it.
    pub(super) fence: (usize, u8),
    pub(super) from: usize,
    pub(super) is_automatic: bool,
}

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Wrong {
    EffectWithoutIntent,
    DoubleEffect,
    OvertakenEffect,
    AutomaticIrreversible,
    ActionOnStaleModel,
    BegunAfterStop,
    DoneAgain,
    IllegalMove,
    /// Two moves that count follow the same one.
    Fork,
    /// An action has failed although it has its effect, and nothing was stopped.
    Forgotten,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Faults {
    pub(super) crashes: u8,
    /// Requests or answers that are lost, or come too late.
    pub(super) losses: u8,
    /// Requests that arrive twice.
    pub(super) repeats: u8,
    /// Starts beside an actuator that runs.
    pub(super) starts: u8,
}

/// One actuator; a start after a crash knows what the record says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Actuator {
    pub(super) is_up: bool,
    term: u64,
    pub(super) view: View,
    /// What it is about to write, and then the actions to take further.
    outbox: Vec<What>,
    todo: Vec<usize>,
    asked: Option<Call>,
    /// It was asked for, and nobody knows whether it has happened.
    unsure: Option<usize>,
    decided: usize,
    unfinished: Vec<usize>,
    taken: BTreeSet<usize>,
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) log: Vec<Entry>,
    pub(super) effects: Vec<Call>,
    pub(super) calls: BTreeSet<Call>,
    pub(super) actuators: Vec<Actuator>,
    pub(super) wishes: Vec<Wish>,
    pub(super) faults: Faults,
    pub(super) wrong: BTreeSet<Wrong>,
}

impl Actuator {
    pub(super) fn down() -> Self {
        Self {
            is_up: false,
            term: 0,
            view: View::empty(),
            outbox: Vec::new(),
            todo: Vec::new(),
            asked: None,
            unsure: None,
            decided: 0,
            unfinished: Vec::new(),
            taken: BTreeSet::new(),
        }
    }

    /// Nothing is under way in its loop.
    pub(super) fn is_idle(&self) -> bool {
        self.is_up && self.outbox.is_empty() && self.todo.is_empty() && self.asked.is_none()
    }

    pub(super) fn can_go(&self) -> bool {
        self.is_up && self.asked.is_none() && !(self.outbox.is_empty() && self.todo.is_empty())
    }

    pub(super) fn waits_for_target(&self) -> bool {
        self.asked.is_some()
    }

    pub(super) fn can_decide(&self, windows: usize) -> bool {
        self.is_idle() && self.unsure.is_none() && self.decided < windows
    }

    pub(super) fn can_retry(&self) -> bool {
        self.is_idle() && !(self.unfinished.is_empty() && self.unsure.is_none())
    }

    pub(super) fn is_unsure(&self) -> bool {
        self.is_idle() && self.unsure.is_some()
    }

    fn write(&mut self, action: usize, to: ActionState, by_itself: bool) {
        self.outbox.push(What::Move { action, to, by_itself });
    }
}

impl World {
    /// The start, after a crash or for the first time.
    pub(super) fn start(&mut self, who: usize, rules: &Rules) {
        let mut view = View::of(&self.log);
        let term = view.newest_term + 1;
        if rules.begins_terms {
            let entry = Entry { writer: who, term, sequence: 0, follows: None, at: 0, what: What::Term };
            view.take(&entry, self.log.len());
            self.log.push(entry);
        }
        view.is_stopped &= rules.recalls_switches;
        let is_begun = |action: &usize| {
            let state = view.states[*action];
            state != ActionState::Unspecified && !is_over(state)
        };
        self.actuators[who] = Actuator {
            is_up: true,
            term,
            todo: view.undone.iter().copied().chain((0..ACTIONS).filter(is_begun)).collect(),
            decided: view.decided,
            view,
            ..Actuator::down()
        };
    }

    pub(super) fn is_any_up(&self) -> bool {
        self.actuators.iter().any(|actuator| actuator.is_up)
    }

    pub(super) fn stop(&mut self, who: usize) {
        self.actuators[who] = Actuator::down();
    }

    /// A window closes: the planner decides.
    pub(super) fn decide(&mut self, who: usize, rules: &Rules) {
        let actuator = &mut self.actuators[who];
        let action = actuator.decided;
        actuator.decided += 1;
        if actuator.view.is_stopped || actuator.view.states[action] != ActionState::Unspecified {
            return;
        }
        if let Some(waiting) = actuator.view.find(rules.is_waiting) {
            actuator.write(waiting, ActionState::Superseded, true);
        }
        actuator.write(action, ActionState::Proposed, true);
        actuator.todo.push(action);
    }

    pub(super) fn expire(&mut self, who: usize, rules: &Rules) {
        let actuator = &mut self.actuators[who];
        if let Some(waiting) = actuator.view.find(rules.is_waiting) {
            actuator.write(waiting, ActionState::Expired, true);
        }
    }

    pub(super) fn retry(&mut self, who: usize) {
        let actuator = &mut self.actuators[who];
        actuator.todo.extend(actuator.unsure.take());
        let unfinished = std::mem::take(&mut actuator.unfinished);
        actuator.todo.extend(unfinished.into_iter().filter(|action| actuator.view.undone.contains(action)));
    }

    /// A person's wish reaches an actuator.
    pub(super) fn hear(&mut self, who: usize, wish: usize, rules: &Rules) {
        let wish = self.wishes.remove(wish);
        let actuator = &mut self.actuators[who];
        let state = |action: usize| actuator.view.states[action];
        match wish {
            Wish::Approve(action) if (rules.is_waiting)(state(action)) => {
                actuator.write(action, ActionState::Approved, false);
                actuator.todo.push(action);
            }
            Wish::Reject(action) if (rules.is_waiting)(state(action)) => {
                actuator.write(action, ActionState::Rejected, false);
            }
            Wish::RollBack(action) if (rules.is_legal)(state(action), ActionState::RolledBack) => {
                self.roll_back(who, action, rules);
            }
            Wish::Approve(_) | Wish::Reject(_) | Wish::RollBack(_) => {}
            Wish::Stop => actuator.outbox.push(What::Switch { is_stopped: true }),
            Wish::Resume => actuator.outbox.push(What::Switch { is_stopped: false }),
        }
    }

    /// Undoes an action and what began after it, newest first, as the actuator does.
    fn roll_back(&mut self, who: usize, first: usize, rules: &Rules) {
        let actuator = &mut self.actuators[who];
        let stop = What::Switch { is_stopped: true };
        actuator.outbox.extend(rules.pauses_first.then_some(stop));
        actuator.todo = std::mem::take(&mut actuator.unfinished);
        for action in (first..ACTIONS).rev() {
            match actuator.view.states[action] {
                ActionState::Proposed | ActionState::Paused | ActionState::Approved => {
                    actuator.write(action, ActionState::Superseded, false);
                }
                ActionState::Intended => {
                    actuator.write(action, ActionState::Failed, false);
                    actuator.write(action, ActionState::RolledBack, false);
                    actuator.todo.push(action);
                }
                ActionState::Applied | ActionState::Holding | ActionState::Verified | ActionState::Failed => {
                    actuator.write(action, ActionState::RolledBack, false);
                    actuator.todo.push(action);
                }
                // What had its effect before a newer one came.
                ActionState::Superseded if self.effects.iter().any(|call| call.action == action) => {
                    actuator.write(action, ActionState::RolledBack, false);
                    actuator.todo.push(action);
                }
                ActionState::Unspecified
                | ActionState::Rejected
                | ActionState::Expired
                | ActionState::RolledBack
                | ActionState::Superseded => {}
            }
        }
        actuator.outbox.extend((!rules.pauses_first).then_some(stop));
    }

    /// What a look at the effect may find.
    pub(super) fn findings(&self, who: usize) -> &'static [Finding] {
        let Some(action) = self.actuators[who].view.find(|state| state == ActionState::Holding) else { return &[] };
        if self.value() == self.value_of(action) { &[Finding::Held, Finding::Harmful] } else { &[Finding::NotThere] }
    }

    pub(super) fn measure(&mut self, who: usize, finding: Finding, rules: &Rules) {
        let view = &self.actuators[who].view;
        let Some(action) = view.find(|state| state == ActionState::Holding) else { return };
        let to = (rules.found)(finding, view.is_stopped);
        if to == ActionState::RolledBack {
            self.roll_back(who, action, rules);
        } else {
            self.actuators[who].write(action, to, true);
        }
    }

    /// The next step of what an actuator has begun.
    pub(super) fn go(&mut self, who: usize, offers: &[Offer], rules: &Rules) {
        if !self.actuators[who].outbox.is_empty() {
            let what = self.actuators[who].outbox.remove(0);
            return self.append(who, what, rules);
        }
        let actuator = &mut self.actuators[who];
        let action = actuator.todo[0];
        let view = &actuator.view;
        let step = (rules.next_step)(Standing {
            state: view.states[action],
            is_automatic: view.is_automatic[action],
            is_stopped: view.is_stopped,
            is_undone_last: view.undone.contains(&action),
        });
        match step {
            Step::AskPolicy if rules.permits(offers[action], view.is_stopped) => {
                actuator.write(action, ActionState::Approved, true);
            }
            Step::Record(ActionState::Holding) => {
                if let Some(measured) = view.find(|state| state == ActionState::Holding) {
                    actuator.write(measured, ActionState::Superseded, true);
                }
                actuator.write(action, ActionState::Holding, true);
            }
            Step::Record(to) => actuator.write(action, to, true),
            Step::Apply => self.ask(who, action, false),
            // Later rollbacks do not overtake one that the target has not taken.
            Step::Undo if !actuator.unfinished.is_empty() => {
                actuator.todo.remove(0);
                actuator.unfinished.push(action);
            }
            Step::Undo if !actuator.taken.contains(&action) => self.ask(who, action, true),
            Step::AskPolicy | Step::Measure | Step::Undo | Step::Rest => {
                actuator.todo.remove(0);
            }
        }
    }

    /// Another has begun a newer term.
    pub(super) fn is_succeeded(&self, who: usize) -> bool {
        self.actuators[who].is_up && View::of(&self.log).newest_term > self.actuators[who].term
    }

    /// The moves that count, with their places.
    fn counted(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let mut view = View::empty();
        self.log.iter().enumerate().filter(move |(place, entry)| {
            let counts = matches!(entry.what, What::Move { .. }) && view.succession.counts(entry.term);
            view.take(entry, *place);
            counts
        })
    }

    fn append(&mut self, who: usize, what: What, rules: &Rules) {
        let truth = View::of(&self.log);
        let place = self.log.len();
        let actuator = &mut self.actuators[who];
        let mut sequence = actuator.view.sequence;
        if let What::Move { action, to, .. } = what {
            if !(rules.is_legal)(actuator.view.states[action], to) {
                actuator.todo.retain(|driven| *driven != action);
                return;
            }
            sequence += 1;
        }
        if let What::Move { action, .. } = what {
            actuator.unsure = actuator.unsure.filter(|unsure| *unsure != action);
        }
        let (term, follows) = (actuator.term, actuator.view.head);
        let entry = Entry { writer: who, term, sequence, follows, at: actuator.decided, what };
        actuator.view.take(&entry, place);
        self.log.push(entry);
        let counts = truth.succession.counts(term);
        if let What::Move { to: ActionState::Intended | ActionState::RolledBack, .. } = what
            && !counts
            && rules.confirms
        {
            return self.stop(who);
        }
        if let What::Move { action, to, .. } = what
            && counts
        {
            if sequence != truth.sequence + 1 {
                self.wrong.insert(Wrong::Fork);
            }
            if transition::check(truth.states[action], to).is_err() {
                self.wrong.insert(Wrong::IllegalMove);
            }
            if (truth.states[action], to) == (ActionState::Intended, ActionState::Failed) {
                self.note_forgotten(action);
            }
        }
    }

    /// What has failed has no effect, or automation was stopped before.
    fn note_forgotten(&mut self, action: usize) {
        let moves = self.counted().filter_map(|(place, entry)| match entry.what {
            What::Move { action: of, to, .. } if of == action => Some((place, to)),
            What::Move { .. } | What::Switch { .. } | What::Term => None,
        });
        let mut is_next = false;
        let failing = moves.filter(|(_, to)| {
            let is_failing = is_next && *to == ActionState::Failed;
            is_next = *to == ActionState::Intended;
            is_failing
        });
        let Some((place, _)) = failing.last() else { return };
        let is_stop = |entry: &Entry| matches!(entry.what, What::Switch { is_stopped: true });
        let has_effect = self.effects.iter().any(|call| call.action == action && !call.is_undo);
        if has_effect && !self.log[..place].iter().any(is_stop) {
            self.wrong.insert(Wrong::Forgotten);
        }
    }

    /// The value at the target: the number of the action that set it, from 1; 0 before the first.
    pub(super) fn value(&self) -> usize {
        self.effects.iter().enumerate().fold(0, |value, (place, call)| {
            if call.is_undo {
                self.value_before(call.action, place).unwrap_or(value)
            } else {
                self.value_of(call.action)
            }
        })
    }

    fn value_of(&self, action: usize) -> usize {
        action + 1
    }

    /// What stood there before the change of that action; none when it never came.
    fn value_before(&self, action: usize, until: usize) -> Option<usize> {
        let place = self.effects[..until].iter().position(|call| call.action == action && !call.is_undo)?;
        let before = Self { effects: self.effects[..place].to_vec(), ..self.clone() };
        Some(before.value())
    }

    /// Every action has ended, and the target stands where the record says.
    pub(super) fn is_settled(&self) -> bool {
        let view = View::of(&self.log);
        let is_ended = |state: &ActionState| *state == ActionState::Unspecified || is_over(*state);
        let is_undone = view.undone.iter().all(|action| self.value() != self.value_of(*action));
        let is_finished = self.actuators.iter().all(|actuator| actuator.unfinished.is_empty());
        view.states.iter().all(is_ended) && is_undone && is_finished
    }
}

fn is_over(state: ActionState) -> bool {
    headroom_actuator_decide::protocol::is_over(state)
}
