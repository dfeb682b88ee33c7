//! What a page is told: all that it should show, or what has changed since it was last told.
//!
//! Times are in milliseconds since the Unix epoch, since that is what a page counts in.

use headroom_proto::Span;
use headroom_proto::v1::{
    ActionRecord, ActionState, Forecast, Outcome, Plan, Signal, SignalKind, SignalStatus, Verdict,
};
use serde::Serialize;

use super::View;
use super::actions::Action;
use super::capacity::ready_steps;
use super::workload::{Band, Workload, bands};

/// What a page asks for.
#[derive(Clone, Debug, Default)]
pub(in crate::console) struct Request {
    /// The first by name unless given.
    pub(in crate::console) workload: Option<String>,
    /// Only what has changed after this number of the view's sequence.
    pub(in crate::console) since: Option<u64>,
    /// Only what lies at or after this time, in microseconds; a snapshot reaches back by `recent` unless given.
    pub(in crate::console) from_us: Option<i64>,
    /// Only what lies before this time, in microseconds.
    pub(in crate::console) to_us: Option<i64>,
    /// How far back a snapshot reaches from the load's newest window.
    pub(in crate::console) recent: Span,
}

/// What is shown of one workload.
#[derive(Debug, Default, Serialize)]
pub(in crate::console) struct State {
    /// Is it all there is to show, rather than what has changed?
    snapshot: bool,
    workload: Option<String>,
    workloads: Vec<String>,
    /// Event time that the load has reached.
    now: Option<i64>,
    /// Start of the window, its load, and the quantiles that had been forecast for it.
    points: Vec<(i64, Option<f32>, Option<Band>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<Ahead>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanShown>,
    /// Units ready from a time on; replaces what the page knows from the first of these times on.
    capacity: Vec<(i64, u32)>,
    signals: Vec<SignalShown>,
    actions: Vec<ActionShown>,
}

/// The newest forecast.
#[derive(Debug, Serialize)]
struct Ahead {
    origin: i64,
    step: i64,
    bands: Vec<Band>,
    model: String,
    verdict: &'static str,
    reason: String,
    /// How many event signals it has used.
    signals: usize,
}

/// The newest plan.
#[derive(Debug, Serialize)]
struct PlanShown {
    decided: i64,
    step: i64,
    units: Vec<u32>,
    units_now: u32,
    quantile: f64,
    binding: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct SignalShown {
    id: String,
    kind: String,
    name: String,
    announced: i64,
    starts: i64,
    ends: i64,
    audience: Option<u64>,
    cancelled: bool,
}

#[derive(Debug, Serialize)]
struct ActionShown {
    id: String,
    at: i64,
    before: u32,
    after: u32,
    state: String,
    /// Why it was proposed.
    reason: String,
    target: String,
    stage: String,
    model: String,
    verdict: String,
    policy: String,
    signals: Vec<String>,
    expected_peak: f64,
    moves: Vec<MoveShown>,
    outcome: Option<OutcomeShown>,
}

#[derive(Debug, Serialize)]
struct MoveShown {
    at: i64,
    state: String,
    actor: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct OutcomeShown {
    from: i64,
    to: i64,
    observed_peak: f64,
    peak_utilisation: f64,
    violation_minutes: u32,
    judgement: String,
}

impl View {
    /// What the request asks for; a workload that is not known has nothing to show.
    pub(in crate::console) fn state(&self, request: &Request) -> State {
        let names: Vec<String> = self.workloads.keys().cloned().collect();
        let name = request.workload.clone().or_else(|| names.first().cloned());
        let empty = State { snapshot: request.since.is_none(), workloads: names, ..State::default() };
        let Some((name, workload)) = name.as_deref().and_then(|name| self.workloads.get_key_value(name)) else {
            return empty;
        };
        let recent_us = || workload.now_us.map(|now_us| now_us.saturating_sub(request.recent.micros()));
        let from_us = request.from_us.or_else(|| request.since.is_none().then(recent_us).flatten());
        let part = Part { since: request.since.unwrap_or(0), from_us, to_us: request.to_us };
        State {
            workload: Some(name.clone()),
            now: workload.now_us.map(millis),
            points: part.points(workload),
            ahead: workload.ahead.as_ref().filter(|(_, number)| part.is_new(*number)).map(|(f, _)| ahead(f)),
            plan: workload.plan.as_ref().filter(|(_, number)| part.is_new(*number)).map(|(plan, _)| plan_shown(plan)),
            capacity: part.capacity(workload),
            signals: self
                .signals
                .of(name)
                .filter(|(signal, number)| {
                    part.is_new(*number) && part.holds(signal.starts_at_us, signal.ends_at_us.max(signal.starts_at_us))
                })
                .map(|(signal, _)| signal_shown(signal))
                .collect(),
            actions: part.actions(workload),
            ..empty
        }
    }
}

/// What of a workload is asked for.
struct Part {
    since: u64,
    from_us: Option<i64>,
    to_us: Option<i64>,
}

impl Part {
    fn is_new(&self, number: u64) -> bool {
        number > self.since
    }

    fn holds(&self, starts_us: i64, ends_us: i64) -> bool {
        self.from_us.is_none_or(|from| ends_us >= from) && self.to_us.is_none_or(|to| starts_us < to)
    }

    fn points(&self, workload: &Workload) -> Vec<(i64, Option<f32>, Option<Band>)> {
        let from_us = self.from_us.unwrap_or(i64::MIN);
        let end_us = self.to_us.unwrap_or(i64::MAX).min(workload.now_us.unwrap_or(i64::MIN)).max(from_us);
        let shown = workload.points.range(from_us..end_us).filter(|(_, point)| self.is_new(point.number));
        shown.map(|(start_us, point)| (millis(*start_us), point.load, point.band)).collect()
    }

    /// The steps within the span and the one that reaches into it; of changes, the steps from the first change on.
    fn capacity(&self, workload: &Workload) -> Vec<(i64, u32)> {
        let changed_us = workload.commands.iter().find(|(_, command)| self.is_new(command.number)).map(|(at, _)| *at);
        let is_all_new = self.since == 0 || workload.first_units.is_some_and(|first| self.is_new(first.number));
        if !is_all_new && changed_us.is_none() {
            return Vec::new();
        }
        let first = workload.first_units.map(|first| (first.at_us, first.units));
        let Some(start) = first.or_else(|| workload.commands.first_key_value().map(|(at, c)| (*at, c.before))) else {
            return Vec::new();
        };
        let lead_us = workload.plan.as_ref().map_or(0, |(plan, _)| plan.lead_time_us.max(0));
        let steps = ready_steps(&workload.commands, start, lead_us);
        let floor_us = if is_all_new { self.from_us } else { changed_us };
        let reaching = steps.partition_point(|(at, _)| floor_us.is_none_or(|floor| *at <= floor)).saturating_sub(1);
        let within = steps
            .iter()
            .skip(if floor_us.is_none() { 0 } else { reaching })
            .filter(|(at, _)| self.to_us.is_none_or(|to| *at < to));
        within.map(|(at, units)| (millis(*at), *units)).collect()
    }

    fn actions(&self, workload: &Workload) -> Vec<ActionShown> {
        let mut shown: Vec<ActionShown> = workload
            .actions
            .iter()
            .filter(|(action, _)| self.is_new(action.number) && self.holds(action.first_us(), action.first_us()))
            .filter_map(|(action, outcome)| action_shown(action, outcome))
            .collect();
        shown.sort_by(|a, b| (b.at, &b.id).cmp(&(a.at, &a.id)));
        shown
    }
}

fn ahead(forecast: &Forecast) -> Ahead {
    Ahead {
        origin: millis(forecast.origin_us),
        step: millis(forecast.step_us),
        bands: bands(forecast).map(|(_, band)| band).collect(),
        model: forecast.model_version.clone(),
        verdict: verdict_word(forecast.verdict()),
        reason: forecast.verdict_reason.clone(),
        signals: forecast.signals.len(),
    }
}

fn plan_shown(plan: &Plan) -> PlanShown {
    PlanShown {
        decided: millis(plan.decided_at_us),
        step: millis(plan.step_us),
        units: plan.units.clone(),
        units_now: plan.units_now,
        quantile: plan.quantile,
        binding: plan.binding.clone(),
        reason: plan.reason.clone(),
    }
}

fn signal_shown(signal: &Signal) -> SignalShown {
    SignalShown {
        id: signal.signal_id.clone(),
        kind: word(SignalKind::as_str_name(&signal.kind()), "SIGNAL_KIND_"),
        name: signal.name.clone(),
        announced: millis(signal.announced_at_us),
        starts: millis(signal.starts_at_us),
        ends: millis(signal.ends_at_us),
        audience: signal.audience_size,
        cancelled: signal.status() == SignalStatus::Cancelled,
    }
}

fn action_shown(action: &Action, outcome: Option<&Outcome>) -> Option<ActionShown> {
    let (first, last) = (action.moves.values().next()?, action.moves.values().next_back()?);
    Some(ActionShown {
        id: first.action_id.clone(),
        at: millis(first.at_us),
        before: first.units_before,
        after: first.units_after,
        state: state_word(last.state()),
        reason: first.reason.clone(),
        target: first.target.clone(),
        stage: last.stage.clone(),
        model: first.model_version.clone(),
        verdict: first.verdict.clone(),
        policy: last.policy_version.clone(),
        signals: first.signal_ids.clone(),
        expected_peak: first.expected_peak,
        moves: action.moves.values().map(move_shown).collect(),
        outcome: outcome.map(|outcome| OutcomeShown {
            from: millis(outcome.measured_from_us),
            to: millis(outcome.measured_to_us),
            observed_peak: outcome.observed_peak,
            peak_utilisation: outcome.peak_utilisation,
            violation_minutes: outcome.violation_minutes,
            judgement: outcome.judgement.clone(),
        }),
    })
}

fn move_shown(record: &ActionRecord) -> MoveShown {
    MoveShown {
        at: millis(record.at_us),
        state: state_word(record.state()),
        actor: record.actor.clone(),
        reason: record.reason.clone(),
    }
}

fn state_word(state: ActionState) -> String {
    word(state.as_str_name(), "ACTION_STATE_")
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unspecified => "unknown",
        Verdict::Fresh => "fresh",
        Verdict::Suspect => "suspect",
        Verdict::Stale => "stale",
        Verdict::Abstain => "abstain",
    }
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase().replace('_', " ")
}

fn millis(micros: i64) -> i64 {
    micros.div_euclid(1_000)
}
