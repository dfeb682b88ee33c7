//! The order in which rollbacks keep the budgets: who uses what is shared gives it back before who provides it takes it
//! away, with what it could only do because of that.

use std::collections::BTreeMap;

use headroom_actuator_decide::budget::Held;
use headroom_proto::v1::ActionRecord;

use super::{Step, Work};

impl Work {
    /// The actions to begin with, one for each workload, in an order that keeps every budget. When undoing one would break
    /// a budget, what its members have added since is undone before it.
    ///
    /// The error is the arithmetic: there is no room for it in any order, and nothing has been done.
    pub(in crate::service) async fn in_order(&mut self, firsts: &[ActionRecord]) -> Result<Vec<ActionRecord>, String> {
        if self.config.budgets.is_empty() {
            return Ok(firsts.to_vec());
        }
        let now = firsts.iter().map(|first| self.now_of(&first.workload)).max();
        let Some(at) = now.max(self.reached) else { return Ok(Vec::new()) };
        let mut held = self.held(at).await;
        let (mut waiting, mut order) = (firsts.to_vec(), Vec::new());
        while let Some(next) = waiting.first() {
            let fitting =
                waiting.iter().position(|first| self.no_room_within(first, first.undo_units, &held).is_none());
            if let Some(place) = fitting {
                let first = waiting.remove(place);
                held.insert(first.workload.clone(), Held::exactly(first.undo_units));
                order.push(first);
                continue;
            }
            let is_known = |found: &ActionRecord| {
                waiting.iter().chain(&order).any(|known: &ActionRecord| known.workload == found.workload)
            };
            let mut more = waiting.iter().flat_map(|first| self.added_on(first)).collect::<Vec<_>>();
            more.retain(|found| !is_known(found));
            if more.is_empty() {
                let why = self.no_room_within(next, next.undo_units, &held).unwrap_or_default();
                let (name, units) = (&next.workload, next.undo_units);
                return Err(format!("`{name}` cannot return to {units} units: {why}; make room first"));
            }
            waiting.extend(more);
        }
        Ok(order)
    }

    /// What the members of a provider have added since it was raised: the first such action of each.
    fn added_on(&self, raised: &ActionRecord) -> Vec<ActionRecord> {
        let budgets = self.config.budgets.values();
        let of_it = budgets.filter(|budget| budget.provider.as_ref().is_some_and(|p| p.workload == raised.workload));
        let added = |action: &ActionRecord| {
            action.decided_at_us >= raised.decided_at_us
                && action.units_after > action.units_before
                && self.step_of(action) == Step::Undo
        };
        let members: BTreeMap<&String, ()> = of_it.flat_map(|b| b.members.keys()).map(|name| (name, ())).collect();
        let found = members.keys().filter_map(|name| self.workloads.get(*name)?.earliest(added));
        found.cloned().collect()
    }
}
