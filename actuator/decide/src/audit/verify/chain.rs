//! The chains of the workloads, and the legal moves of their actions.

use std::collections::{BTreeMap, BTreeSet};

use headroom_proto::v1::{ActionRecord, ActionState, Plan, Term};
use prost::Message;

use super::Report;
use crate::audit::succession::Succession;
use crate::audit::{self, log::Entry};
use crate::transition;

/// What was seen of each workload so far.
pub(super) struct Chain {
    is_complete: bool,
    /// Sequence and hash of the last move; none when it is not known what it was.
    last: BTreeMap<String, Option<(u64, String)>>,
    states: BTreeMap<String, ActionState>,
    /// Hashes of the plans that actions name, and where; and those that are there.
    named: BTreeMap<String, (usize, String)>,
    plans: BTreeSet<String>,
    /// The terms of the log that is followed.
    succession: Succession,
}

impl Chain {
    pub(super) fn new(is_complete: bool) -> Self {
        let (last, states) = (BTreeMap::new(), BTreeMap::new());
        Self {
            is_complete,
            last,
            states,
            named: BTreeMap::new(),
            plans: BTreeSet::new(),
            succession: Succession::default(),
        }
    }

    /// Another log begins.
    pub(super) fn begin(&mut self) {
        self.succession = Succession::default();
    }

    /// The next record of a workload is not known: what follows it cannot be held against it.
    pub(super) fn lose(&mut self, workload: &str) {
        self.last.insert(workload.to_owned(), None);
    }

    /// Follows a record that the log holds.
    pub(super) fn follow(&mut self, line: usize, place: &str, entry: &Entry, report: &mut Report) {
        match entry.message.as_str() {
            "ActionRecord" => match ActionRecord::decode(entry.value.as_slice()) {
                Ok(action) => self.follow_action(line, place, &action, report),
                Err(error) => report.find(line, place, format!("it is no action: {error}")),
            },
            "Term" => match Term::decode(entry.value.as_slice()) {
                Ok(term) => self.succession.begin(term.term),
                Err(error) => report.find(line, place, format!("it begins no term: {error}")),
            },
            "Plan" => match Plan::decode(entry.value.as_slice()) {
                Ok(plan) if audit::plan_hash(&plan) == plan.plan_hash => drop(self.plans.insert(plan.plan_hash)),
                Ok(_) => report.find(line, place, "its hash does not match its content".to_owned()),
                Err(error) => report.find(line, place, format!("it is no plan: {error}")),
            },
            _ => {}
        }
    }

    fn follow_action(&mut self, line: usize, place: &str, action: &ActionRecord, report: &mut Report) {
        if !self.succession.counts(action.term) {
            return;
        }
        let known = self.last.get(&action.workload).cloned();
        let before = match known {
            Some(before) => before,
            None if self.is_complete => Some((0, String::new())),
            None => None,
        };
        let (sequence, hash) = before.unwrap_or((action.sequence.saturating_sub(1), action.previous_hash.clone()));
        if let Err(broken) = audit::verify(action, sequence, &hash) {
            report.find(line, place, format!("the chain of {} breaks: {}", action.workload, broken.problem));
        }
        self.last.insert(action.workload.clone(), Some((action.sequence, action.hash.clone())));
        let id = format!("{}/{}", action.workload, action.action_id);
        let start = if self.is_complete { ActionState::Unspecified } else { action.previous_state() };
        let from = self.states.insert(id, action.state()).unwrap_or(start);
        if let Err(illegal) = transition::check(from, action.state()) {
            report.find(line, place, format!("the move is not legal: {illegal}"));
        } else if from != action.previous_state() {
            let said = transition::state_word(action.previous_state());
            report.find(line, place, format!("it says it was {said}, it was {}", transition::state_word(from)));
        }
        if !action.plan_hash.is_empty() {
            self.named.entry(action.plan_hash.clone()).or_insert((line, place.to_owned()));
        }
    }

    /// Every plan that an action names is there, in an export that holds them all.
    pub(super) fn finish(self, report: &mut Report) {
        report.workloads = self.last.len();
        if !self.is_complete || !report.holds() {
            return;
        }
        for (hash, (line, place)) in self.named {
            if !self.plans.contains(&hash) {
                report.find(line, &place, format!("no plan has the hash {hash} that it was approved under"));
            }
        }
    }
}
