//! Changes that somebody else has made to a target: they are noticed, and respected.
//!
//! At each decision the target is asked what it has. When that is not what the last change left there, automation of the
//! workload pauses and says so; a person lets it go on, from what is there then.

use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, ActionState, Switch};

use super::Work;
use crate::{ActuatorError, ForeignChanges, TargetState};

impl Work {
    /// What a decision may start from.
    pub(super) async fn base(&mut self, name: &str, at: EventTime) -> Result<Base, ActuatorError> {
        if self.config.foreign_changes == ForeignChanges::Ignore {
            return Ok(self.commanded(name, at).await.map_or(Base::Unknown, Base::Units));
        }
        let state = self.observe(name, at).await;
        let workload = super::workload_of(&mut self.workloads, name);
        workload.seen.clone_from(&state);
        if let Some(state) = state.filter(|_| !workload.has_unfinished()) {
            match &workload.left {
                None => workload.commanded = Some(state.commanded),
                Some(left) if left.is_as(&state) => {}
                Some(left) => {
                    let reason = format!(
                        "the target says {} ({}), the last change set {} ({}): somebody else has changed it; \
                         `headroom resume {name}` goes on from there",
                        units(state.commanded),
                        state.value,
                        units(left.units),
                        left.action_id
                    );
                    if !self.is_paused(name) {
                        self.respect(name, at, &state, reason).await?;
                    }
                    return Ok(Base::Foreign);
                }
            }
        }
        let known = super::workload_of(&mut self.workloads, name).commanded;
        Ok(known.map_or(Base::Unknown, Base::Units))
    }

    /// Why a plan that waits has lost its ground: somebody has changed the target since it was made.
    pub(super) async fn lost_ground(
        &mut self,
        action: &ActionRecord,
        at: EventTime,
    ) -> Result<Option<String>, ActuatorError> {
        let (name, before) = (&action.workload, action.units_before);
        let now = match self.base(name, at).await? {
            Base::Unknown => return Ok(None),
            Base::Foreign => {
                let seen = self.workloads.get(name).and_then(|workload| workload.seen.as_ref());
                let says = seen.map(|state| state.value.clone()).unwrap_or_default();
                return Ok(Some(format!(
                    "somebody else has changed the target, which says {says}: `headroom resume {name}` goes on from there"
                )));
            }
            Base::Units(now) => now,
        };
        // What is to come by itself counts as commanded, and is not what a plan starts from.
        if now == before || self.targets.of(name).schedules() {
            return Ok(None);
        }
        let now = units(now);
        Ok(Some(format!(
            "the target has {now} by now, and the plan was made from {before}: the next window decides anew"
        )))
    }

    /// Pauses automation of the workload; what waits or is being measured has lost its ground.
    async fn respect(
        &mut self,
        name: &str,
        at: EventTime,
        state: &TargetState,
        reason: String,
    ) -> Result<(), ActuatorError> {
        let workload = super::workload_of(&mut self.workloads, name);
        let measured = workload.measuring.as_ref().map(|measuring| measuring.action.clone());
        let waiting = workload.waiting().cloned();
        self.finish_measuring(name, at, false)?;
        for action in measured.into_iter().chain(waiting) {
            self.advance(&action, ActionState::Superseded, at, "verifier", reason.clone())?;
        }
        self.flush().await?;
        let switch = Switch {
            workload: name.to_owned(),
            paused: true,
            actor: "headroom".to_owned(),
            reason,
            at_us: at.micros(),
            cause: "foreign".to_owned(),
            units: state.commanded,
            target_value: state.value.clone(),
        };
        // It counts at once; what kept it from the record is logged there.
        let _logged = self.board.set(switch).await;
        Ok(())
    }
}

/// What a decision may start from.
pub(super) enum Base {
    /// Units that the target has.
    Units(u32),
    /// The target does not answer, and nothing is known of it.
    Unknown,
    /// Somebody else has changed it.
    Foreign,
}

pub(super) fn units(count: u32) -> String {
    if count == 1 { "1 unit".to_owned() } else { format!("{count} units") }
}
