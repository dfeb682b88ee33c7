//! Settings of what may be done, and of who is told.

use headroom_actuator_decide::stage::{Kind, Stage};
use serde::{Deserialize, Serialize};

use crate::ActuatorConfig;

/// What happens when a target is not as Headroom left it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignChanges {
    /// Automation of the workload pauses, until a person lets it go on from there.
    #[default]
    Pause,
    /// Nobody looks.
    Ignore,
}

impl ActuatorConfig {
    /// Everything that is out of range in what may be done and who is told.
    pub(crate) fn governance_problems(&self) -> Vec<String> {
        let earn = self.earn.problems().into_iter().map(|problem| format!("earn: {problem}"));
        let risk = self.risk.problems().into_iter().map(|problem| format!("risk: {problem}"));
        let notify = self.notify.iter().enumerate().flat_map(|(at, receiver)| {
            receiver.problems().into_iter().map(move |problem| format!("notify[{at}]: {problem}"))
        });
        earn.chain(risk).chain(notify).collect()
    }

    /// The configured stage of a workload for a kind of action.
    #[must_use]
    pub fn stage_of(&self, workload: &str, kind: Kind) -> Stage {
        self.stages.get(workload).copied().unwrap_or(self.stage).of(kind)
    }

    /// Can a change of that kind be undone there?
    #[must_use]
    pub fn is_reversible(&self, workload: &str, kind: Kind) -> bool {
        self.workloads.get(workload).is_none_or(|settings| !settings.irreversible.contains(&kind))
    }
}
