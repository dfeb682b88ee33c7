//! Settings of the actuator.

use std::collections::BTreeMap;
use std::path::PathBuf;

use headroom_actuator_decide::PlannerConfig;
use headroom_actuator_decide::budget::Budget;
use headroom_actuator_decide::limits::Limits;
use headroom_actuator_decide::risk::RiskConfig;
use headroom_actuator_decide::stage::StageSetting;
use headroom_actuator_decide::track::EarnConfig;
use headroom_actuator_decide::verify::VerifyConfig;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};

use crate::notary::AuditConfig;
use crate::targets::{TargetSettings, WorkloadSettings};
use crate::{ForeignChanges, NotifyConfig};

/// Settings of the actuator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActuatorConfig {
    /// How much is done without a person: `observe`, `recommend`, `automate` or `expand`, for all kinds of actions or for
    /// each.
    pub stage: StageSetting,
    /// Stages of single workloads.
    pub stages: BTreeMap<String, StageSetting>,
    /// How workloads are sized.
    pub planner: PlannerConfig,
    /// Sizing of single workloads, in place of `planner`.
    pub planners: BTreeMap<String, PlannerConfig>,
    /// What workloads share, by a name of yours.
    pub budgets: BTreeMap<String, Budget>,
    /// The systems whose capacity is changed, by a name of yours.
    pub targets: BTreeMap<String, TargetSettings>,
    /// The target of each workload; one that is not here has the simulated target.
    pub workloads: BTreeMap<String, WorkloadSettings>,
    /// Where KEDA's external scaler listens, alone; without one it is among the other gRPC services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keda_listen: Option<String>,
    /// How stages are earned; off, what is configured holds.
    pub earn: EarnConfig,
    /// What makes a change risky.
    pub risk: RiskConfig,
    /// How much may happen at once, over all workloads.
    pub limits: Limits,
    /// What happens when somebody else has changed a target.
    pub foreign_changes: ForeignChanges,
    /// Who is told what happens.
    pub notify: Vec<NotifyConfig>,
    /// Cedar policies in place of those shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_file: Option<PathBuf>,
    /// Signed checkpoints of the record.
    pub audit: AuditConfig,
    /// Length of the windows that decisions follow.
    #[serde(with = "span_text")]
    pub window_size: Span,
    /// The feature column that is the load.
    pub target: String,
    /// A plan that waits this long for a person expires.
    #[serde(with = "span_text")]
    pub approval_ttl: Span,
    /// An action is verified, and its outcome measured, over this time from when its units are ready.
    #[serde(with = "span_text")]
    pub hold: Span,
    /// What tells a harmful change from a harmless one.
    pub verify: VerifyConfig,
    /// Wall time for which a change is asked for again whose answer was lost; then it has failed as not known, and
    /// automation of its workload pauses.
    #[serde(with = "span_text")]
    pub answer_within: Span,
    /// This actuator's name among those that stand by for each other, when it has a lasting one: it has its turn again at
    /// once when it comes back within `session.timeout.ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Wall time that a decision waits for its forecast before the guard decides alone.
    #[serde(with = "span_text")]
    pub forecast_patience: Span,
    /// Plans and actions kept in memory for each workload.
    pub kept_records: usize,
    /// Records read at once.
    pub max_poll_records: usize,
}

impl Default for ActuatorConfig {
    fn default() -> Self {
        Self {
            stage: StageSetting::default(),
            stages: BTreeMap::new(),
            planner: PlannerConfig::default(),
            planners: BTreeMap::new(),
            budgets: BTreeMap::new(),
            targets: BTreeMap::new(),
            workloads: BTreeMap::new(),
            keda_listen: None,
            earn: EarnConfig::default(),
            risk: RiskConfig::default(),
            limits: Limits::default(),
            foreign_changes: ForeignChanges::default(),
            notify: Vec::new(),
            policy_file: None,
            audit: AuditConfig::default(),
            window_size: Span::from_mins(5),
            target: "requests_per_s".to_owned(),
            approval_ttl: Span::from_hours(1),
            hold: Span::from_hours(1),
            verify: VerifyConfig::default(),
            answer_within: Span::from_mins(2),
            instance: None,
            forecast_patience: Span::from_secs(30),
            kept_records: 2_000,
            max_poll_records: 500,
        }
    }
}

impl ActuatorConfig {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.planner.problems().into_iter().map(|p| format!("planner: {p}")).collect();
        for (workload, planner) in &self.planners {
            problems.extend(planner.problems().into_iter().map(|p| format!("planners.{workload}: {p}")));
        }
        for (name, budget) in &self.budgets {
            problems.extend(budget.problems().into_iter().map(|p| format!("budgets.{name}: {p}")));
        }
        if self.window_size.micros() < 1_000_000 || self.hold.micros() < self.window_size.micros() {
            problems.push("`hold` must not be shorter than `window_size`, which must be a second or more".to_owned());
        }
        if self.answer_within.micros() <= 0 || self.answer_within > Span::from_hours(1) {
            problems.push("`answer_within` must be positive, and an hour at the most".to_owned());
        }
        if self.kept_records == 0 || self.max_poll_records == 0 {
            problems.push("`kept_records` and `max_poll_records` must be positive".to_owned());
        }
        problems.extend(self.governance_problems());
        problems.extend(self.audit.problems());
        problems.extend(self.verify.problems().into_iter().map(|problem| format!("verify: {problem}")));
        problems.extend(self.target_problems());
        problems
    }

    /// Paths, which are relative to the folder of the configuration.
    pub fn paths(&mut self) -> Vec<&mut PathBuf> {
        let targets = self.targets.values_mut().flat_map(TargetSettings::paths);
        let notify = self.notify.iter_mut().flat_map(NotifyConfig::paths);
        let own = self.policy_file.iter_mut().chain(self.audit.key_file.as_mut());
        own.chain(targets).chain(notify).collect()
    }

    /// How a workload is sized.
    #[must_use]
    pub fn planner_of(&self, workload: &str) -> &PlannerConfig {
        self.planners.get(workload).unwrap_or(&self.planner)
    }
}
