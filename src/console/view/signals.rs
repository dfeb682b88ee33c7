//! Event signals: the highest revision of each counts.

use std::collections::BTreeMap;

use headroom_proto::WorkloadId;
use headroom_proto::v1::Signal;

#[derive(Debug)]
pub(super) struct Signals {
    limit: usize,
    by_id: BTreeMap<String, (Signal, u64)>,
}

impl Signals {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, by_id: BTreeMap::new() }
    }

    /// Takes in a revision; beyond the limit the signal that ended first is forgotten.
    pub(super) fn learn(&mut self, signal: Signal, number: u64) {
        if self.by_id.get(&signal.signal_id).is_some_and(|(known, _)| known.revision >= signal.revision) {
            return;
        }
        self.by_id.insert(signal.signal_id.clone(), (signal, number));
        while self.by_id.len() > self.limit {
            let first = self.by_id.values().min_by_key(|(signal, _)| signal.ends_at_us);
            let Some(id) = first.map(|(signal, _)| signal.signal_id.clone()) else { break };
            self.by_id.remove(&id);
        }
    }

    /// Those that name this workload, with the number of their last change.
    pub(super) fn of<'a>(&'a self, workload: &str) -> impl Iterator<Item = (&'a Signal, u64)> + use<'a> {
        let id = WorkloadId::try_new(workload).ok();
        self.by_id.values().filter_map(move |(signal, number)| {
            id.as_ref().is_some_and(|id| id.is_selected(&signal.workloads)).then_some((signal, *number))
        })
    }
}
