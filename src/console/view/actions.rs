//! Actions: each with its moves and, once measured, its outcome.

use std::collections::BTreeMap;

use headroom_proto::v1::{ActionRecord, Outcome};

const MAX_MOVES: usize = 32;

/// One action and what became of it.
#[derive(Debug)]
pub(super) struct Action {
    /// Its moves by the workload's sequence, oldest first.
    pub(super) moves: BTreeMap<u64, ActionRecord>,
    /// Number of its last change.
    pub(super) number: u64,
}

impl Action {
    /// When it was first heard of.
    pub(super) fn first_us(&self) -> i64 {
        self.moves.values().next().map_or(i64::MIN, |record| record.at_us)
    }
}

/// The actions of a workload, newest kept.
#[derive(Debug, Default)]
pub(super) struct Actions {
    by_id: BTreeMap<String, Action>,
    outcomes: BTreeMap<String, Outcome>,
}

impl Actions {
    pub(super) fn moved(&mut self, record: ActionRecord, number: u64) {
        let action =
            self.by_id.entry(record.action_id.clone()).or_insert_with(|| Action { moves: BTreeMap::new(), number });
        if action.moves.len() < MAX_MOVES && action.moves.insert(record.sequence, record).is_none() {
            action.number = number;
        }
    }

    pub(super) fn measured(&mut self, outcome: Outcome, number: u64) {
        if let Some(action) = self.by_id.get_mut(&outcome.action_id) {
            action.number = number;
        }
        self.outcomes.insert(outcome.action_id.clone(), outcome);
    }

    /// Forgets the oldest beyond the limit.
    pub(super) fn forget(&mut self, limit: usize) {
        while self.by_id.len() > limit {
            let oldest = self.by_id.iter().min_by_key(|(_, action)| action.first_us()).map(|(id, _)| id.clone());
            let Some(id) = oldest else { break };
            self.by_id.remove(&id);
            self.outcomes.remove(&id);
        }
        while self.outcomes.len() > limit {
            let oldest = self.outcomes.values().min_by_key(|outcome| outcome.measured_from_us);
            let Some(id) = oldest.map(|outcome| outcome.action_id.clone()) else { break };
            self.outcomes.remove(&id);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Action, Option<&Outcome>)> {
        self.by_id.iter().map(|(id, action)| (action, self.outcomes.get(id)))
    }
}
