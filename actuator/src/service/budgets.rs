//! What workloads share: a change is made when every budget has room for it, and a provider moves for its members.

use std::collections::{BTreeMap, BTreeSet};

use headroom_actuator_decide::budget::{Answer, Budget, Held};
use headroom_actuator_decide::planner::Wanted;
use headroom_actuator_decide::{Decision, Observation};
use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, ActionState, Forecast};

use super::Work;
use crate::ActuatorError;
use crate::workload::Workload;

/// What is known of the budgets beside their settings.
#[derive(Debug, Default)]
pub(super) struct BudgetLog {
    /// Workloads whose own windows are decided.
    decided: BTreeSet<String>,
    /// What was refused last: told once.
    refused: BTreeMap<String, (u32, String)>,
    /// What members wait for: units by provider and member, and whether the member's load of now needs more than it has.
    wanted: BTreeMap<(String, String), (u32, bool)>,
}

/// A provider that a member waits for.
#[derive(Clone, Copy)]
struct Need<'a> {
    member: &'a str,
    provider: &'a str,
    units: u32,
    /// The member's load of now needs more than the member has.
    is_now: bool,
    why: &'a str,
}

/// What the budgets make of a change.
enum Ruling {
    Units(u32, Option<String>),
    Wait { provider: String, units: u32, why: String },
    Refuse(String),
}

impl Work {
    /// The decision, as far as the budgets have room for it. A provider that has none is raised first, and its member waits.
    pub(super) async fn within_budgets(
        &mut self,
        name: &str,
        seen: &Observation,
        decision: Decision,
        forecast: Option<&Forecast>,
    ) -> Result<Decision, ActuatorError> {
        if self.is_paused(name) || !self.config.budgets.values().any(|budget| concerns(budget, name)) {
            return Ok(decision);
        }
        self.budget_log.decided.insert(name.to_owned());
        self.budget_log.wanted.retain(|(_, member), _| member != name);
        let held = self.held(seen.now).await;
        let (wanted, is_now) = self.wanted_of(name);
        // Without a forecast of its own to trust it is raised for what is needed now alone.
        let counts = is_now || self.workloads.get(name).is_some_and(Workload::is_trusted);
        let wanted = if counts { wanted.max(decision.units_now) } else { decision.units_now };
        let refused = self.budget_log.refused.remove(name);
        let decision = if wanted > decision.units_now {
            let reason = format!("{}; those who share it need {wanted} units", decision.reason);
            let needed_now = wanted > seen.units_commanded && is_now;
            Decision { units_now: wanted, binding: "budget", needed_now, reason, ..decision }
        } else {
            decision
        };
        let ruled = match self.rule(name, decision.units_now, &held) {
            Ruling::Units(_, None) => decision,
            Ruling::Units(units, Some(why)) => {
                let reason = format!("{}; {why}: cut to {units}", decision.reason);
                Decision { units_now: units, binding: "budget", reason, ..decision }
            }
            Ruling::Wait { provider, units, why } => {
                let planner = self.config.planner_of(name);
                let is_now =
                    decision.needed_now || seen.load.is_some_and(|load| planner.units_for(load) > seen.units_commanded);
                self.budget_log.wanted.insert((provider.clone(), name.to_owned()), (units, is_now));
                let need = Need { member: name, provider: &provider, units, is_now, why: &why };
                let part = self.most_that_fits(name, seen.units_commanded, decision.units_now, &held);
                let raised = self.raise_provider(need, seen.now, forecast).await?;
                match raised {
                    Ok(()) => {
                        let reason = format!("{}; {why}: {part} until `{provider}` is ready", decision.reason);
                        Decision { units_now: part, binding: "budget", reason, ..decision }
                    }
                    Err(beyond) => {
                        let why = format!("{why}; {beyond}");
                        self.refusal(name, seen.units_commanded, decision, why, refused.as_ref())
                    }
                }
            }
            Ruling::Refuse(why) => self.refusal(name, seen.units_commanded, decision, why, refused.as_ref()),
        };
        self.release_providers(name, seen.now, forecast).await?;
        Ok(ruled)
    }

    /// Why an action that was decided earlier does not fit any more.
    pub(super) async fn no_room(&mut self, action: &ActionRecord, at: EventTime) -> Option<String> {
        if !self.config.budgets.values().any(|budget| concerns(budget, &action.workload)) {
            return None;
        }
        // Others may have been decided since.
        let held = self.held(self.reached.map_or(at, |reached| reached.max(at))).await;
        self.no_room_within(action, action.units_after, &held)
    }

    /// The same, beside what everyone holds.
    pub(super) fn no_room_within(
        &self,
        action: &ActionRecord,
        units: u32,
        held: &BTreeMap<String, Held>,
    ) -> Option<String> {
        match self.rule(&action.workload, units, held) {
            Ruling::Units(_, why) => why,
            Ruling::Wait { why, .. } | Ruling::Refuse(why) => Some(why),
        }
    }

    /// A refusal is on the record once, not with each window.
    fn refusal(
        &mut self,
        name: &str,
        stay: u32,
        decision: Decision,
        why: String,
        before: Option<&(u32, String)>,
    ) -> Decision {
        let told = (decision.units_now, why.clone());
        let is_known = before == Some(&told);
        self.budget_log.refused.insert(name.to_owned(), told);
        if is_known {
            return Decision { units_now: stay, binding: "budget", ..decision };
        }
        tracing::warn!(workload = name, why, "refused by a budget");
        Decision { binding: "budget", refused: Some(why), ..decision }
    }

    /// Asks every budget; one may cut what another has let through.
    fn rule(&self, name: &str, wanted: u32, held: &BTreeMap<String, Held>) -> Ruling {
        let unknown = Held { least: 0, most: u32::MAX };
        let held = |other: &str| held.get(other).copied().unwrap_or(unknown);
        let (mut units, mut cut) = (wanted, None);
        for (budget_name, budget) in &self.config.budgets {
            match budget.ask(name, units, &held) {
                Answer::Fits => {}
                Answer::Cut { units: fewer, why } => {
                    (units, cut) = (fewer, Some(format!("budget {budget_name}: {why}")));
                }
                Answer::Waits { provider, units, why } => {
                    return Ruling::Wait { provider, units, why: format!("budget {budget_name}: {why}") };
                }
                Answer::Refused { why } => return Ruling::Refuse(format!("budget {budget_name}: {why}")),
            }
        }
        // A size that the workload can have.
        let planner = self.config.planner_of(name);
        if units > wanted {
            units = planner.sizes.round_up(units, planner.min_units, planner.max_units);
        } else if units < wanted {
            let fitting = planner.sizes.step_down(units.saturating_add(1), units).min(units);
            units = fitting.max(held(name).least.min(wanted));
        }
        Ruling::Units(units, cut)
    }

    /// The most units, from those that there are to those wanted, that fit now.
    fn most_that_fits(&self, name: &str, from: u32, wanted: u32, held: &BTreeMap<String, Held>) -> u32 {
        let planner = self.config.planner_of(name);
        let is_size = |units: &u32| planner.sizes.round_up(*units, planner.min_units, planner.max_units) == *units;
        let fits = |units: &u32| matches!(self.rule(name, *units, held), Ruling::Units(_, None));
        (from..wanted).rev().filter(is_size).find(fits).unwrap_or(from)
    }

    /// Raises a provider for a member's sake. The inner error says why it cannot be.
    async fn raise_provider(
        &mut self,
        need: Need<'_>,
        at: EventTime,
        forecast: Option<&Forecast>,
    ) -> Result<Result<(), String>, ActuatorError> {
        let Need { member, provider, units, is_now, why } = need;
        let planner = self.config.planner_of(provider).clone();
        if units > planner.max_units {
            return Ok(Err(format!("`{provider}` would need {units} units and may have {}", planner.max_units)));
        }
        let units = planner.sizes.round_up(units, planner.min_units, planner.max_units);
        let Some(commanded) = self.commanded(provider, at).await else {
            return Ok(Err(format!("`{provider}` cannot be asked")));
        };
        if commanded >= units || self.is_paused(provider) {
            return Ok(Ok(()));
        }
        let held = self.held(at).await;
        let units = match self.rule(provider, units, &held) {
            Ruling::Units(_, None) => planner.settle(Wanted::exactly(units), commanded, planner.dwell).0,
            Ruling::Units(_, Some(beyond)) | Ruling::Refuse(beyond) | Ruling::Wait { why: beyond, .. } => {
                return Ok(Err(format!("`{provider}` cannot have {units} units: {beyond}")));
            }
        };
        let reason = format!("`{member}` can grow only after this has: {why}");
        self.move_provider(provider, (units, is_now), reason, at, forecast).await?;
        Ok(Ok(()))
    }

    /// Releases what no member needs any more of providers that have no load of their own.
    async fn release_providers(
        &mut self,
        member: &str,
        at: EventTime,
        forecast: Option<&Forecast>,
    ) -> Result<(), ActuatorError> {
        for provider in self.providers_of(member) {
            let has_own_load = self.budget_log.decided.contains(&provider);
            if has_own_load || self.wanted_of(&provider).0 > 0 || self.is_paused(&provider) {
                continue;
            }
            let Some(commanded) = self.commanded(&provider, at).await else { continue };
            let held = self.held(at).await;
            let needed = self.needed_of(&provider, &held);
            let planner = self.config.planner_of(&provider).clone();
            let needed = planner.sizes.round_up(needed, planner.min_units, planner.max_units);
            let last_change = self.workloads.get(&provider).map_or(EventTime::MIN, |workload| workload.last_change);
            let (units, _) = planner.settle(Wanted::exactly(needed.min(commanded)), commanded, at - last_change);
            if units < commanded && planner.calendar.may_release(at).is_ok() && planner.calendar.closed_at(at).is_none()
            {
                let reason = format!("those who share it need {needed} units");
                self.move_provider(&provider, (units, false), reason, at, forecast).await?;
            }
        }
        Ok(())
    }

    async fn move_provider(
        &mut self,
        provider: &str,
        (units, needed_now): (u32, bool),
        reason: String,
        at: EventTime,
        forecast: Option<&Forecast>,
    ) -> Result<(), ActuatorError> {
        let Some(commanded) = self.commanded(provider, at).await else { return Ok(()) };
        let planner = self.config.planner_of(provider);
        let target = self.targets.of(provider).name().to_owned();
        let decision = Decision {
            units_now: units,
            units: Vec::new(),
            quantile: planner.sizing_quantile(),
            binding: "budget",
            expected_peak: 0.0,
            unit_capacity: planner.unit_capacity,
            lead_time: self.lessons.lead_time(&target, planner),
            needed_now,
            refused: None,
            reason,
        };
        let workload = super::workload_of(&mut self.workloads, provider);
        let seen = Observation { now: at, load: None, units_commanded: commanded, last_change: workload.last_change };
        // Boxed, since it is asked within the decision for a member.
        Box::pin(self.propose(provider, &seen, &decision, forecast)).await
    }

    /// Those whose units a member uses.
    pub(super) fn providers_of(&self, member: &str) -> BTreeSet<String> {
        let budgets = self.config.budgets.values().filter(|budget| budget.members.contains_key(member));
        budgets.filter_map(|budget| Some(budget.provider.as_ref()?.workload.clone())).collect()
    }

    /// Units that members wait for, and whether one's load of now needs them.
    fn wanted_of(&self, provider: &str) -> (u32, bool) {
        let wanted = self.budget_log.wanted.iter().filter(|((of, _), _)| of == provider);
        wanted.map(|(_, wanted)| *wanted).max().unwrap_or((0, false))
    }

    /// Units that the members of a provider's budgets use.
    fn needed_of(&self, provider: &str, held: &BTreeMap<String, Held>) -> u32 {
        let unknown = Held { least: 0, most: u32::MAX };
        let held = |other: &str| held.get(other).copied().unwrap_or(unknown);
        let needs = self.config.budgets.values().filter_map(|budget| budget.provider_needs(&held));
        needs.filter(|(of, _)| *of == provider).map(|(_, units)| units).max().unwrap_or(0)
    }

    /// What everyone in a budget holds. A target that does not answer may have anything.
    pub(super) async fn held(&mut self, at: EventTime) -> BTreeMap<String, Held> {
        let budgets = self.config.budgets.values();
        let names: BTreeSet<String> = budgets
            .flat_map(|budget| budget.members.keys().chain(budget.provider.as_ref().map(|one| &one.workload)))
            .cloned()
            .collect();
        let mut held = BTreeMap::new();
        for name in names {
            let Some(state) = self.observe(&name, at).await else { continue };
            let mut known = Held::exactly(state.ready).and(state.commanded);
            let failed = self.workloads.get(&name).and_then(last_failure);
            if let Some(units) = failed {
                known = known.and(units);
            }
            held.insert(name, known);
        }
        held
    }
}

/// Units of a change that failed last: it may still have its effect.
fn last_failure(workload: &Workload) -> Option<u32> {
    let last = workload.actions().next()?;
    (last.state() == ActionState::Failed).then_some(last.units_after)
}

fn concerns(budget: &Budget, name: &str) -> bool {
    budget.members.contains_key(name) || budget.provider.as_ref().is_some_and(|provider| provider.workload == name)
}
