//! Is a change harmless? What the windows say since its units are ready, weighed against the course before it; what does
//! harm is undone by itself.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type};
use headroom_actuator_decide::protocol::{self, Finding};
use headroom_actuator_decide::verify::Evidence;
use headroom_proto::time::Span;
use headroom_proto::v1::{ActionRecord, ActionState, Forecast};
use headroom_proto::{EventTime, schema};

use super::foreign::units;
use super::{Work, workload_of};
use crate::course;
use crate::{ActuatorError, TargetState};

/// Who finds it.
pub(super) const VERIFIER: &str = "verifier";

impl Work {
    /// Takes the columns that are guards out of a batch of windows.
    pub(super) fn take_guards(&mut self, batch: &RecordBatch, size_s: i32) {
        for (number, guard) in self.config.verify.guards.iter().enumerate() {
            for (name, end_us, value) in values_of(batch, &guard.column, size_s).unwrap_or_default() {
                workload_of(&mut self.workloads, &name).course.guard(end_us, number, value);
            }
        }
    }

    /// Notes what a forecast expects at the least of the window that follows it, and forgets what is too long ago.
    pub(super) fn note_expected(&mut self, name: &str, at: EventTime, forecast: Option<&Forecast>) {
        let course = &mut workload_of(&mut self.workloads, name).course;
        course.forget_before(at - self.config.verify.history - self.config.hold - Span::from_hours(24));
        let Some(forecast) = forecast.filter(|forecast| forecast.step_us == self.config.window_size.micros()) else {
            return;
        };
        if let Some(low) = forecast.values.first().filter(|low| low.is_finite()) {
            course.low((at + self.config.window_size).micros(), f64::from(*low));
        }
    }

    /// What speaks against the change that is being measured, with the windows until now.
    pub(super) fn weigh_harm(&mut self, name: &str, at: EventTime) -> Evidence {
        let Some(workload) = self.workloads.get_mut(name) else { return Evidence::default() };
        let Some(measuring) = &mut workload.measuring else { return Evidence::default() };
        let (settings, step) = (&self.config.verify, self.config.window_size);
        let begun = EventTime::from_micros(measuring.action.at_us);
        let samples = |from, to| workload.course.samples(from..=to, step, settings.guards.len());
        let before = samples(begun - settings.history, begun);
        let after = samples(measuring.from + step, at.min(measuring.until));
        let hold = usize::try_from(self.config.hold.steps(step)).unwrap_or(1);
        let guards = course::guards(settings);
        let evidence = settings.weigh(&guards, &before, &after, hold);
        let worst = evidence.guard.and_then(|guard| guards.get(guard));
        measuring.worst_guard = worst.map(|guard| guard.column.clone()).unwrap_or_default();
        measuring.evidence = evidence.clone();
        evidence
    }

    /// The evidence in words.
    pub(super) fn told(&self, evidence: &Evidence) -> String {
        let settings = &self.config.verify;
        let (limit, alpha) = (1.0 / settings.alpha, settings.alpha);
        if evidence.block == 0 {
            let needed = settings.references_needed();
            return format!("with fewer than {needed} windows before it, harm could not be told from chance");
        }
        let guards = course::guards(settings);
        let Some(guard) = evidence.guard.and_then(|guard| guards.get(guard)) else {
            return "no guard has values to compare".to_owned();
        };
        let (e, judged, references, block) = (evidence.e_value, evidence.judged, evidence.references, evidence.block);
        format!(
            "worst of the guards is {}: {:.4} where {:.4} is usual at that load; e-value {e:.2} of {limit:.0} after \
             {judged} of {block} windows, against {references} blocks before it; {alpha} is the chance of a false alarm",
            guard.column, evidence.observed, evidence.usual
        )
    }

    /// What the end of the hold finds of a change that has done no harm.
    pub(super) fn found(&self, action: &ActionRecord, state: &TargetState, evidence: &Evidence) -> (Finding, String) {
        let (reported, ready, asked, id) = (state.commanded, state.ready, action.units_after, &action.action_id);
        if reported != asked {
            return (Finding::NotThere, format!("the target reports {}, not {asked}", units(reported)));
        }
        if ready < asked {
            let reason = format!(
                "the target reports {}, but only {ready} of them serve, {} after they should: look at the \
                 target; `headroom rollback {id}` returns to {}",
                units(reported),
                self.config.hold,
                units(action.undo_units)
            );
            return (Finding::NotThere, reason);
        }
        (Finding::Held, format!("the target reports {}; {}", units(reported), self.told(evidence)))
    }

    /// A change that does harm is undone by itself, where the policy permits that; else it has failed, and a person has
    /// to undo it.
    pub(super) async fn stop_harm(
        &mut self,
        action: &ActionRecord,
        at: EventTime,
        evidence: &Evidence,
    ) -> Result<(), ActuatorError> {
        let is_stopped = self.is_paused(&action.workload) || !self.may_undo(action, at)?;
        let reason = format!("it does harm: {}", self.told(evidence));
        self.counters.harmful.inc();
        tracing::warn!(action = action.action_id, workload = action.workload, reason, "a change does harm");
        let mut why = "Headroom may not undo it".to_owned();
        if protocol::found(Finding::Harmful, is_stopped) == ActionState::RolledBack {
            match self.ordered_by_itself(action, at).await? {
                Ok(ordered) => return self.undo_by_itself(&ordered, VERIFIER, &reason).await,
                Err(problem) => why = format!("Headroom cannot undo it by itself: {problem}"),
            }
            // A person has to look. Pausing first: a crash in between leaves a pause too many.
            let _logged =
                self.set_paused(&action.workload, true, VERIFIER, &format!("{reason}; {why}"), "budget").await;
        }
        self.finish_measuring(&action.workload, at, false)?;
        let reason = format!("{reason}; {why}: `headroom rollback {}` does", action.action_id);
        self.advance(action, ActionState::Failed, at, VERIFIER, reason)
    }

    /// What Headroom undoes with an action, in an order that keeps the budgets; else why it has to be a person.
    async fn ordered_by_itself(
        &mut self,
        action: &ActionRecord,
        at: EventTime,
    ) -> Result<Result<Vec<ActionRecord>, String>, ActuatorError> {
        let ordered = match self.in_order(std::slice::from_ref(action)).await {
            Ok(ordered) => ordered,
            Err(why) => return Ok(Err(why)),
        };
        for other in &ordered {
            if !self.may_undo(other, at)? {
                let id = &other.action_id;
                return Ok(Err(format!("{id} would have to be undone first, and the policy leaves that to a person")));
            }
        }
        Ok(Ok(ordered))
    }

    fn may_undo(&self, action: &ActionRecord, at: EventTime) -> Result<bool, ActuatorError> {
        let question = self.question(action, "rollback", None, at);
        Ok(self.policy.ask(&question)?.allowed)
    }
}

/// Workload, end and value of each window of that size that has the column.
pub(super) fn values_of(batch: &RecordBatch, column: &str, size_s: i32) -> Option<Vec<(String, i64, f64)>> {
    let names = batch.column_by_name(schema::WORKLOAD)?.as_string_opt::<i32>()?;
    let ends = batch.column_by_name("window_end")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let sizes = batch.column_by_name("window_size_s")?.as_primitive_opt::<Int32Type>()?;
    let values = batch.column_by_name(column)?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a window")]
    let value = |row: usize| {
        let float = values.as_primitive_opt::<Float64Type>().map(|values| values.value(row));
        let signed = || values.as_primitive_opt::<Int64Type>().map(|values| values.value(row) as f64);
        let unsigned = || values.as_primitive_opt::<UInt64Type>().map(|values| values.value(row) as f64);
        float.or_else(signed).or_else(unsigned)
    };
    let rows = (0..batch.num_rows()).filter(|row| sizes.value(*row) == size_s && values.is_valid(*row));
    Some(rows.filter_map(|row| Some((names.value(row).to_owned(), ends.value(row), value(row)?))).collect())
}
