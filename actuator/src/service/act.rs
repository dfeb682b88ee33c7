//! Decisions and what follows from them.

use std::time::Duration;

use headroom_actuator_decide::protocol::{self, Standing, Step};
use headroom_actuator_decide::stage::{Kind, Stage};
use headroom_actuator_decide::{Decision, ForecastView, Observation, PlannerConfig, audit, decide_with};
use headroom_proto::EventTime;
use headroom_proto::v1::{ActionRecord, ActionState, Forecast, Plan};

use super::Work;
use super::ahead::begun;
use super::foreign::Base;
use crate::workload::{Borne, Measuring, POLICY, Workload};
use crate::{ActuatorError, journal};

impl Work {
    /// Decides for every window whose forecast is there, in order.
    pub(super) async fn decide_due(&mut self) -> Result<(), ActuatorError> {
        let patience = Duration::from_micros(self.config.forecast_patience.micros().unsigned_abs());
        let names: Vec<String> = self.workloads.keys().cloned().collect();
        for name in names {
            while let Some((at, load, forecast)) = self.workloads.get_mut(&name).and_then(|w| w.due(patience)) {
                self.finish_rollback(&name).await;
                for provider in self.providers_of(&name) {
                    self.finish_rollback(&provider).await;
                }
                self.measure(&name, at, load).await?;
                self.note_expected(&name, at, forecast.as_ref());
                let is_new = self.workloads.get(&name).is_some_and(|workload| at > workload.last_decided);
                if is_new && at > self.decided_before {
                    self.decide(&name, at, load, forecast).await?;
                }
                self.reached = self.reached.max(Some(at));
                self.clock.advance(at);
            }
        }
        Ok(())
    }

    async fn decide(
        &mut self,
        name: &str,
        at: EventTime,
        load: f64,
        forecast: Option<Forecast>,
    ) -> Result<(), ActuatorError> {
        self.learn(name, at, load).await;
        let commanded = match self.base(name, at).await? {
            Base::Units(units) => Some(units),
            Base::Unknown => return Ok(()),
            Base::Foreign => None,
        };
        let planner = self.config.planner_of(name).clone();
        let view = forecast.as_ref().map(view_of);
        self.shadow(name, (at, load), commanded, view.as_ref());
        let verdict = self.verdict_of(name, forecast.as_ref());
        let Some(workload) = self.workloads.get_mut(name) else { return Ok(()) };
        workload.last_decided = at;
        workload.last_load = load;
        workload.verdict = verdict.to_owned();
        let last_change = workload.last_change;
        self.track_verdict(name, at);
        self.expire(name, at)?;
        let Some(commanded) = commanded else { return Ok(()) };
        let commanded = self.brought_forward(name, commanded, at, load).await;
        let seen = Observation { now: at, load: Some(load), units_commanded: commanded, last_change };
        let target = self.targets.of(name);
        let learned = self.lessons.of(name, target.name(), &planner);
        let decision = decide_with(&planner, &learned, &seen, view.as_ref());
        let decision = self.within_budgets(name, &seen, decision, forecast.as_ref()).await?;
        self.counters.decisions.inc();
        if !matches!(verdict, "fresh" | "suspect") {
            self.counters.guard_alone.inc();
        }
        if decision.units_now == commanded || self.is_paused(name) {
            return Ok(());
        }
        self.propose(name, &seen, &decision, forecast.as_ref()).await
    }

    /// A plan and its action; carried out when the policy allows it.
    pub(super) async fn propose(
        &mut self,
        name: &str,
        seen: &Observation,
        decision: &Decision,
        forecast: Option<&Forecast>,
    ) -> Result<(), ActuatorError> {
        let (at, commanded) = (seen.now, seen.units_commanded);
        let plan = self.plan(name, seen, decision, forecast);
        let action = self.action(&plan, decision.needed_now, at);
        if self.stage_of(name, Kind::of(commanded, decision.units_now)) == Stage::Observe {
            return self.observe_only(plan, &action, at);
        }
        let Some(workload) = self.workloads.get_mut(name) else { return Ok(()) };
        if let Some(waiting) = workload.waiting().cloned() {
            if (waiting.units_before, waiting.units_after) == (commanded, decision.units_now) {
                return self.ask_again(&waiting, action.needed_now, at).await;
            }
            let reason = format!("a newer plan asks for {} units", decision.units_now);
            self.advance(&waiting, ActionState::Superseded, at, "planner", reason)?;
        }
        self.publish(plan);
        let (_, asked) = self.answer(&self.question(&action, "apply", None, at))?;
        let action = ActionRecord { decision: Some(asked), ..action };
        self.advance(&action, ActionState::Proposed, at, "planner", decision.reason.clone())?;
        if let Some(why) = &decision.refused {
            return self.advance(&action, ActionState::Rejected, at, "budget", why.clone());
        }
        self.drive(&action, at).await
    }

    /// The action that a plan asks for; `is_needed` when the planner knows that the load of now needs all of it.
    fn action(&self, plan: &Plan, is_needed: bool, at: EventTime) -> ActionRecord {
        let (name, before, after) = (plan.workload.as_str(), plan.units_before, plan.units_now);
        let reversible = self.is_reversible(name, before, after);
        ActionRecord {
            action_id: format!("{name}-{}", at.micros() / 1_000_000),
            plan_id: plan.plan_id.clone(),
            workload: name.to_owned(),
            target: self.targets.of(name).name().to_owned(),
            units_before: before,
            units_after: after,
            idempotency_key: format!("{name}/{}", at.micros()),
            stage: self.stage_of(name, Kind::of(before, after)).name().to_owned(),
            policy_version: self.policy.version().to_owned(),
            plan_hash: plan.plan_hash.clone(),
            model_version: plan.model_version.clone(),
            verdict: plan.verdict.clone(),
            signal_ids: plan.signal_ids.clone(),
            expected_peak: plan.expected_peak,
            expected_low: plan.peak_values.first().copied().map_or(0.0, f64::from),
            undo_units: before,
            decided_at_us: at.micros(),
            begin_at_us: self.begin_at(plan),
            needed_now: after > before && (is_needed || after <= self.needed_by_load(plan)),
            risk: self.risk_of(name, before, after, reversible, at).name().to_owned(),
            irreversible: !reversible,
            ..ActionRecord::default()
        }
    }

    /// Units that the load of now needs, by what a unit is counted on to serve.
    pub(super) fn needed_by_load(&self, plan: &Plan) -> u32 {
        let planner = self.config.planner_of(&plan.workload).clone();
        PlannerConfig { unit_capacity: plan.unit_capacity, ..planner }.units_for(plan.observed_load)
    }

    /// At stage `observe` a plan is recorded with what would have become of it, once as long as it stays the same.
    fn observe_only(&mut self, plan: Plan, action: &ActionRecord, at: EventTime) -> Result<(), ActuatorError> {
        let last = self.workloads.get(&plan.workload).and_then(|workload| workload.plans.back());
        let is_same = |last: &Plan| (last.units_before, last.units_now) == (plan.units_before, plan.units_now);
        if last.is_some_and(|last| !last.would.is_empty() && is_same(last)) {
            return Ok(());
        }
        let plan = Plan { would: self.would(action, at)?, plan_hash: String::new(), ..plan };
        self.publish(Plan { plan_hash: audit::plan_hash(&plan), ..plan });
        Ok(())
    }

    fn publish(&mut self, plan: Plan) {
        if self.known_plans.insert(plan.plan_hash.clone()) {
            self.outbox.push(journal::plan(&plan));
        }
        let workload = super::workload_of(&mut self.workloads, &plan.workload);
        workload.take_plan(plan);
        workload.trim(self.config.kept_records);
    }

    /// Takes an action as far as it goes by itself, from wherever its record stands.
    pub(super) async fn drive(&mut self, action: &ActionRecord, at: EventTime) -> Result<(), ActuatorError> {
        let mut before = None;
        while let Some(action) = self.known(action).filter(|action| before != Some(action.state())) {
            before = Some(action.state());
            match protocol::next_step(self.standing(&action)) {
                Step::AskPolicy => self.ask_policy(&action, at)?,
                Step::Record(ActionState::Holding) => {
                    self.finish_measuring(&action.workload, at, true)?;
                    let ready = begun(&action, at) + self.lead_time_of(&action.workload);
                    let reason = format!("its units are ready by {ready}");
                    self.advance(&action, ActionState::Holding, at, "verifier", reason)?;
                }
                Step::Record(to) => {
                    let no_room = if to == ActionState::Intended { self.no_room(&action, at).await } else { None };
                    if let Some(why) = no_room {
                        self.advance(&action, ActionState::Superseded, at, "budget", why)?;
                        continue;
                    }
                    let reason = if to == ActionState::Intended {
                        told_of_change(&action)
                    } else if to == ActionState::Failed {
                        self.told_of_stop(&action, at).await
                    } else {
                        "automation was stopped".to_owned()
                    };
                    self.advance(&action, to, at, "actuator", reason)?;
                    self.flush().await?;
                    self.confirm_term().await?;
                }
                Step::Apply => {
                    self.apply(&action, at).await?;
                }
                Step::Measure => self.hold(action),
                Step::Undo => {
                    // A target that is away does not keep the others waiting, nor do later rollbacks overtake it.
                    let workload = super::workload_of(&mut self.workloads, &action.workload);
                    if workload.unfinished.is_empty() {
                        let _logged = self.undo(vec![action], at).await;
                    } else {
                        workload.unfinished.push_back(action);
                    }
                }
                Step::Rest => {}
            }
        }
        Ok(())
    }

    fn known(&self, action: &ActionRecord) -> Option<ActionRecord> {
        self.workloads.get(&action.workload).and_then(|workload| workload.action(&action.action_id)).cloned()
    }

    fn standing(&self, action: &ActionRecord) -> Standing {
        Standing {
            state: action.state(),
            is_automatic: action.permitted_by == POLICY,
            is_stopped: self.is_paused(&action.workload),
            is_undone_last: self.workloads.get(&action.workload).is_some_and(|w| w.is_undone_last(action)),
        }
    }

    /// The effect, which may have happened before a crash: the target drops a repeat by its key.
    async fn apply(&mut self, action: &ActionRecord, at: EventTime) -> Result<(), ActuatorError> {
        let is_asked = self.workloads.get(&action.workload).and_then(|w| w.unsure.as_ref()).is_some_and(|u| !u.drains);
        let drained = if is_asked { Some(String::new()) } else { self.drained(action, at).await };
        let Some(drained) = drained else { return Ok(()) };
        let applied = match self.ask(action, None, at).await {
            Ok(applied) => applied,
            Err(error) => return self.not_taken(action, &error, at).await,
        };
        self.counters.actions.inc();
        let reason = format!("{drained}the target has taken the change: {} -> {}", applied.before, applied.after);
        let action = ActionRecord { target_value: applied.after, ..action.clone() };
        self.advance(&action, ActionState::Applied, at, "actuator", reason)?;
        self.wait_for_units(&action, at).await;
        Ok(())
    }

    /// Begins to measure the effect, as of when it was held.
    fn hold(&mut self, action: ActionRecord) {
        let ready = begun(&action, EventTime::from_micros(action.at_us)) + self.lead_time_of(&action.workload);
        let until = ready + self.config.hold;
        if let Some(workload) = self.workloads.get_mut(&action.workload) {
            workload.measuring = Some(Measuring::new(action, ready, until));
        }
    }

    /// Adds a window to what is being measured, and ends that when its time is over.
    pub(super) async fn measure(&mut self, name: &str, at: EventTime, load: f64) -> Result<(), ActuatorError> {
        let planner = self.config.planner_of(name).clone();
        let window = self.config.window_size;
        let violation = planner.violation_utilisation;
        if self.workloads.get(name).is_none_or(|workload| workload.measuring.is_none()) {
            return Ok(());
        }
        let state = self.observe(name, at - window).await;
        let measured = self.workloads.get(name).and_then(|workload| workload.measuring.as_ref());
        let before = measured.map_or(1, |measuring| measuring.action.units_before.max(1));
        let utilisation = state.map(|state| load / self.lessons.capacity(name, state.ready.max(1), &planner));
        let utilisation_without = load / self.lessons.capacity(name, before, &planner);
        let Some(measuring) = self.workloads.get_mut(name).and_then(|workload| workload.measuring.as_mut()) else {
            return Ok(());
        };
        let minutes = window.as_secs_f64() / 60.0;
        if let Some(utilisation) = utilisation {
            measuring.add(at, load, Borne { utilisation, utilisation_without, violation, minutes });
        }
        let (action, until) = (measuring.action.clone(), measuring.until);
        // The windows tell of harm also while the target cannot be asked.
        let evidence = self.weigh_harm(name, at);
        if evidence.is_harmful {
            return self.stop_harm(&action, at, &evidence).await;
        }
        if at < until {
            return Ok(());
        }
        // A target that does not answer is asked at the next window.
        let Some(state) = self.observe(name, at).await else { return Ok(()) };
        self.finish_measuring(name, at, false)?;
        let (finding, reason) = self.found(&action, &state, &evidence);
        let to = protocol::found(finding, self.is_paused(name));
        self.advance(&action, to, at, "verifier", reason)
    }

    /// Publishes the outcome of what is being measured; a newer action supersedes it.
    pub(super) fn finish_measuring(
        &mut self,
        name: &str,
        at: EventTime,
        superseded: bool,
    ) -> Result<(), ActuatorError> {
        let (window, target) = (self.config.window_size, self.config.planner_of(name).target_utilisation);
        let Some(measured) = self.workloads.get_mut(name).and_then(|workload| workload.measuring.take()) else {
            return Ok(());
        };
        if self.known_outcomes.insert(measured.action.action_id.clone()) {
            self.counters.outcomes.inc();
            let outcome = self.lessons.complete(measured.outcome(at, window, target), &measured.action);
            self.outbox.push(journal::outcome(&outcome));
            self.judge(&measured.action, &outcome.judgement, at);
        }
        if superseded {
            let reason = "a newer action has taken its place".to_owned();
            self.advance(&measured.action, ActionState::Superseded, at, "verifier", reason)?;
        }
        Ok(())
    }

    /// One move: into the chain and the outbox. An illegal one is refused and logged.
    pub(super) fn advance(
        &mut self,
        action: &ActionRecord,
        to: ActionState,
        at: EventTime,
        actor: &str,
        reason: String,
    ) -> Result<(), ActuatorError> {
        let workload = super::workload_of(&mut self.workloads, &action.workload);
        let action = &ActionRecord { term: self.term.number, ..action.clone() };
        match workload.moved(action, to, at, actor, reason) {
            Ok(record) => {
                self.outbox.push(journal::action(&record));
                self.after(&record);
            }
            Err(error) => tracing::error!(%error, action = action.action_id, "refused"),
        }
        Ok(())
    }

    /// How far a forecast is trusted, in records and policies; `none` without one.
    fn verdict_of(&self, name: &str, forecast: Option<&Forecast>) -> &'static str {
        let planner = self.config.planner_of(name);
        let learned = self.lessons.of(name, self.targets.of(name).name(), planner);
        forecast.map_or("none", |forecast| view_of(forecast).trust(planner, &learned))
    }

    pub(super) fn expire(&mut self, name: &str, at: EventTime) -> Result<(), ActuatorError> {
        let waiting = self.workloads.get(name).and_then(Workload::waiting).cloned();
        let Some(waiting) = waiting else { return Ok(()) };
        if at - EventTime::from_micros(waiting.decided_at_us) < self.config.approval_ttl {
            return Ok(());
        }
        let reason = format!("nobody decided within {}", self.config.approval_ttl);
        self.advance(&waiting, ActionState::Expired, at, "planner", reason)
    }

    fn plan(&self, name: &str, seen: &Observation, decision: &Decision, forecast: Option<&Forecast>) -> Plan {
        let at = seen.now;
        let planner = self.config.planner_of(name);
        let signals = forecast.map(|f| f.signals.iter().map(|signal| signal.signal_id.clone()).collect());
        let plan = Plan {
            plan_id: format!("plan-{name}-{}", at.micros() / 1_000_000),
            workload: name.to_owned(),
            decided_at_us: at.micros(),
            step_us: forecast.map_or(0, |forecast| forecast.step_us),
            units: decision.units.clone(),
            units_before: seen.units_commanded,
            units_now: decision.units_now,
            quantile: decision.quantile,
            cost_per_unit_hour: planner.cost_per_unit_hour,
            cost_per_violation_minute: planner.cost_per_violation_minute,
            lead_time_us: decision.lead_time.span.micros(),
            binding: decision.binding.to_owned(),
            reason: decision.reason.clone(),
            forecast_origin_us: forecast.map_or(0, |forecast| forecast.origin_us),
            model_version: forecast.map(|forecast| forecast.model_version.clone()).unwrap_or_default(),
            verdict: self.verdict_of(name, forecast).to_owned(),
            signal_ids: signals.unwrap_or_default(),
            observed_load: seen.load.unwrap_or(0.0),
            expected_peak: decision.expected_peak,
            plan_hash: String::new(),
            unit_capacity: decision.unit_capacity,
            violation_utilisation: planner.violation_utilisation,
            capacity_curve: self.lessons.curve(name, planner),
            lead_time_actions: decision.lead_time.actions,
            would: String::new(),
            ..Plan::default()
        };
        let plan = super::explain::with_story(plan, planner, forecast);
        Plan { plan_hash: audit::plan_hash(&plan), ..plan }
    }
}

fn told_of_change(action: &ActionRecord) -> String {
    let begin = Some(action.begin_at_us).filter(|begin| *begin > 0).map(EventTime::from_micros);
    let begin = begin.map(|begin| format!(", which the target begins by itself at {begin}")).unwrap_or_default();
    format!("{} -> {} units{begin}", action.units_before, action.units_after)
}

/// A forecast as the planner reads it.
pub(super) fn view_of(forecast: &Forecast) -> ForecastView<'_> {
    ForecastView {
        origin_us: forecast.origin_us,
        step_us: forecast.step_us,
        levels: &forecast.levels,
        values: &forecast.values,
        verdict: forecast.verdict(),
    }
}
