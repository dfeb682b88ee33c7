//! What is asked of the target, what arrives there, and what becomes of the answers.

use headroom_actuator_decide::protocol::{Reply, Settling};
use headroom_proto::v1::ActionState;

use super::{Call, Entry, Offer, Rules, View, What, World, Wrong};

impl World {
    pub(super) fn ask(&mut self, who: usize, action: usize, is_undo: bool) {
        let view = &self.actuators[who].view;
        let call =
            Call { action, is_undo, fence: view.permits[action], from: who, is_automatic: view.is_automatic[action] };
        if call.is_automatic && !is_undo {
            self.note_beginning();
        }
        self.actuators[who].asked = Some(call);
        self.calls.insert(call);
    }

    /// Nothing begins by itself while automation is stopped, and none of it after a rollback that nothing stopped.
    fn note_beginning(&mut self) {
        let switches = |entry: &Entry| match entry.what {
            What::Switch { is_stopped } => Some(is_stopped),
            What::Move { .. } | What::Term => None,
        };
        if self.log.iter().rev().find_map(switches) == Some(true) {
            self.wrong.insert(Wrong::BegunAfterStop);
        }
        let is_rollback = |entry: &Entry| matches!(entry.what, What::Move { to: ActionState::RolledBack, .. });
        if self.log.iter().any(is_rollback) && !self.log.iter().any(|entry| switches(entry).is_some()) {
            self.wrong.insert(Wrong::DoneAgain);
        }
    }

    /// A request reaches the target.
    pub(in crate::protocol) fn arrive(&mut self, call: Call, is_answer_lost: bool, offers: &[Offer], rules: &Rules) {
        let key = |call: &Call| (call.action, call.is_undo);
        let is_known = self.effects.iter().any(|done| key(done) == key(&call));
        let newest = self.effects.iter().map(|done| done.fence).max();
        let is_overtaken =
            newest.is_some_and(|newest| if rules.knows_keys { call.fence <= newest } else { call.fence < newest });
        let is_taken = if is_known && rules.knows_keys {
            true
        } else if is_overtaken && rules.fences {
            false
        } else {
            self.note_wrongs(&call, is_known, newest.is_some_and(|newest| call.fence < newest), offers);
            self.effects.push(call);
            if !call.is_undo {
                self.note_forgotten(call.action);
            }
            true
        };
        let actuator = &mut self.actuators[call.from];
        if actuator.asked == Some(call) && !is_answer_lost {
            actuator.asked = None;
            if call.is_undo {
                actuator.taken.insert(call.action);
            } else {
                let reply = if is_taken { Reply::Done } else { Reply::NotDone };
                self.settle(call.from, call.action, (rules.replied)(reply, true));
            }
        }
    }

    fn settle(&mut self, who: usize, action: usize, settling: Settling) {
        let actuator = &mut self.actuators[who];
        match settling {
            Settling::Record(to) => actuator.write(action, to, true),
            Settling::AskAgain => {
                actuator.todo.retain(|driven| *driven != action);
                actuator.unsure = Some(action);
            }
            Settling::GiveUp => {
                actuator.outbox.push(What::Switch { is_stopped: true });
                actuator.write(action, ActionState::Failed, true);
            }
        }
    }

    /// The time for asking again is over.
    pub(in crate::protocol) fn give_up(&mut self, who: usize, rules: &Rules) {
        if let Some(action) = self.actuators[who].unsure.take() {
            self.settle(who, action, (rules.replied)(Reply::Unknown, false));
        }
    }

    pub(in crate::protocol) fn time_out(&mut self, who: usize, rules: &Rules) {
        let Some(call) = self.actuators[who].asked.take() else { return };
        if call.is_undo {
            // It is tried again with a later window.
            let actuator = &mut self.actuators[who];
            actuator.todo.retain(|action| *action != call.action);
            actuator.unfinished.push(call.action);
        } else {
            self.settle(who, call.action, (rules.replied)(Reply::Unknown, true));
        }
    }

    fn note_wrongs(&mut self, call: &Call, is_known: bool, is_overtaken: bool, offers: &[Offer]) {
        let needed = if call.is_undo { ActionState::RolledBack } else { ActionState::Intended };
        let is_intended = (0..=self.log.len()).any(|end| View::of(&self.log[..end]).states[call.action] == needed);
        let offer = offers[call.action];
        let automatic = call.is_automatic && !call.is_undo;
        for (is_so, wrong) in [
            (!is_intended, Wrong::EffectWithoutIntent),
            (is_known, Wrong::DoubleEffect),
            (is_overtaken && !is_known, Wrong::OvertakenEffect),
            (automatic && !offer.is_reversible, Wrong::AutomaticIrreversible),
            (automatic && !offer.is_fresh, Wrong::ActionOnStaleModel),
        ] {
            if is_so {
                self.wrong.insert(wrong);
            }
        }
    }
}
