//! Raises that a target begins by itself at their time, as by a scheduled action of AWS.

use headroom_proto::v1::{ActionRecord, Plan};
use headroom_proto::{EventTime, Span};

use super::Work;

impl Work {
    /// What a decision starts from: where what is to come does not bear the load of now, that which is there already, so
    /// that it is raised at once.
    pub(super) async fn brought_forward(&mut self, name: &str, commanded: u32, at: EventTime, load: f64) -> u32 {
        let needed = self.config.planner_of(name).units_for(load);
        if !self.targets.of(name).schedules() {
            return commanded;
        }
        let there = self.observe(name, at).await.map(|state| state.ready);
        there.filter(|ready| *ready < commanded && *ready < needed).unwrap_or(commanded)
    }

    /// When the target of a plan is to begin by itself; 0 at once.
    pub(super) fn begin_at(&self, plan: &Plan) -> i64 {
        if !self.targets.of(&plan.workload).schedules() || self.needed_by_load(plan) > plan.units_before {
            return 0;
        }
        begins(plan).filter(|begin| begin.micros() > plan.decided_at_us).map_or(0, EventTime::micros)
    }
}

/// One lead time before the first step that wants more units than there are.
fn begins(plan: &Plan) -> Option<EventTime> {
    if plan.units_now <= plan.units_before {
        return None;
    }
    let first = plan.units.iter().position(|units| *units > plan.units_before)?;
    let wanted = EventTime::from_micros(plan.forecast_origin_us)
        + Span::from_micros(plan.step_us).times(i64::try_from(first).ok()?);
    Some(wanted - Span::from_micros(plan.lead_time_us))
}

/// From when on the lead time of an action counts.
pub(super) fn begun(action: &ActionRecord, at: EventTime) -> EventTime {
    at.max(EventTime::from_micros(action.begin_at_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raise_begins_one_lead_time_before_it_is_needed() {
        let minutes = |minutes: i64| minutes * 60_000_000;
        let plan = Plan {
            units_before: 2,
            units_now: 4,
            units: vec![1, 2, 2, 2, 2, 3, 4],
            step_us: minutes(5),
            forecast_origin_us: minutes(100),
            lead_time_us: minutes(15),
            ..Plan::default()
        };
        assert_eq!(begins(&plan), Some(EventTime::from_micros(minutes(110))));
        assert_eq!(begins(&Plan { units_now: 1, ..plan.clone() }), None, "a release");
        assert_eq!(begins(&Plan { units_before: 4, units_now: 5, ..plan }), None, "nothing to come asks for it");
    }
}
