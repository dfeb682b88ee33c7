//! The sections of a plan's story.

use headroom_proto::Span;
use headroom_proto::signal::kind_word;
use headroom_proto::v1::{ActionRecord, ActionState, Outcome, Plan, Signal};

use super::{Story, level, sum, time, units};
use crate::transition::state_word;

/// Signals and forecast.
pub(super) fn coming(story: &Story<'_>) -> Vec<String> {
    let plan = story.plan;
    let mut lines = vec![capital(&plan.reason)];
    if plan.forecast_origin_us == 0 {
        lines.push(format!("There was no forecast; the load was {:.1}.", plan.observed_load));
        return lines;
    }
    let why = if plan.verdict_reason.is_empty() { String::new() } else { format!(" ({})", plan.verdict_reason) };
    lines.push(format!(
        "The forecast was made {} by model {}; its verdict was {}{why}. The load was {:.1}.",
        time(plan.forecast_origin_us),
        plan.model_version,
        plan.verdict,
        plan.observed_load
    ));
    if plan.peak_at_us != 0 {
        let values = plan.levels.iter().zip(&plan.peak_values);
        let quantiles: Vec<String> = values.map(|(at, value)| format!("{} {value:.1}", level(*at))).collect();
        lines.push(format!("Its quantiles at the peak, {}: {}.", time(plan.peak_at_us), quantiles.join(", ")));
    }
    if plan.signal_ids.is_empty() {
        lines.push("It used no event signal.".to_owned());
    }
    lines.extend(plan.signal_ids.iter().map(|id| {
        let known = story.signals.iter().find(|signal| signal.signal_id == *id);
        known.map_or_else(|| format!("Signal {id}."), told)
    }));
    lines
}

fn told(signal: &Signal) -> String {
    let name = if signal.name.is_empty() { String::new() } else { format!(" \"{}\"", signal.name) };
    let audience = signal.audience_size.map(|size| format!(", audience {size}")).unwrap_or_default();
    format!(
        "Signal {}{name} ({}): {} to {}, weight {}{audience}, revision {}.",
        signal.signal_id,
        kind_word(signal.kind()),
        time(signal.starts_at_us),
        time(signal.ends_at_us),
        signal.weight,
        signal.revision
    )
}

/// What the costs alone ask for: the critical ratio of the newsvendor.
pub(super) fn quantile_from_costs(plan: &Plan) -> f64 {
    1.0 - plan.cost_per_unit_hour / (60.0 * plan.cost_per_violation_minute)
}

/// Quantile and units, with their arithmetic.
pub(super) fn sizing(plan: &Plan) -> Vec<String> {
    let from_costs = quantile_from_costs(plan);
    let (unit, violation) = (plan.cost_per_unit_hour, plan.cost_per_violation_minute);
    let mut lines = vec![format!(
        "A unit costs {} an hour, a minute in violation {}. One more unit pays as long as the chance that it is missed, \
         times the cost of an hour in violation, is above what it costs: 1 - unit / (60 x violation) = 1 - {} / (60 x {}) \
         = {from_costs:.3}.",
        sum(unit),
        sum(violation),
        sum(unit),
        sum(violation)
    )];
    let sized = level(plan.quantile);
    lines.push(if (from_costs - plan.quantile).abs() < 5e-4 {
        format!("So it is sized for {sized} of the forecast.")
    } else if plan.set_quantile > 0.0 {
        format!("It is sized for {sized} all the same, which the configuration sets.")
    } else {
        format!("It is sized for {sized}, the nearest within p50 to p99.")
    });
    let per_unit = plan.unit_capacity * plan.target_utilisation;
    if per_unit > 0.0 && plan.expected_peak > 0.0 {
        let exact = plan.expected_peak / per_unit;
        lines.push(format!(
            "Units: {:.1} / ({:.1} x {:.2}) = {exact:.2}, rounded up {:.0}.",
            plan.expected_peak,
            plan.unit_capacity,
            plan.target_utilisation,
            exact.ceil()
        ));
    }
    if let Some(curve) = &plan.capacity_curve {
        lines.push(format!(
            "What a unit serves was learned from {} windows with {} to {} units.",
            curve.windows, curve.fewest_units, curve.most_units
        ));
    }
    lines.push(format!(
        "What binds is the {}; asked for now: {}. They are ready {} after the command.",
        plan.binding,
        units(plan.units_now),
        Span::from_micros(plan.lead_time_us)
    ));
    lines
}

/// What it costs, against doing nothing and against static capacity.
pub(super) fn cost(plan: &Plan) -> Vec<String> {
    let unit = plan.cost_per_unit_hour;
    let (now, before) = (f64::from(plan.units_now), f64::from(plan.units_before));
    let mut lines = vec![format!(
        "{} cost{} {} an hour: {} than doing nothing ({}).",
        units(plan.units_now),
        if plan.units_now == 1 { "s" } else { "" },
        sum(now * unit),
        against((now - before) * unit),
        units(plan.units_before)
    )];
    if plan.look_ahead_us > 0 {
        let span = Span::from_micros(plan.look_ahead_us);
        let hours = span.as_hours_f64();
        lines.push(format!(
            "Over the {span} that it covers: {}, {} than doing nothing.",
            sum(now * unit * hours),
            against((now - before) * unit * hours)
        ));
    }
    if plan.static_units > 0 {
        let fixed = f64::from(plan.static_units);
        let top = plan.levels.last().map_or_else(|| "the top".to_owned(), |top| level(*top));
        lines.push(format!(
            "Static capacity for the highest load of the horizon ({top} {:.1}) would be {}: {} an hour. This is {}.",
            plan.horizon_peak,
            units(plan.static_units),
            sum(fixed * unit),
            against((now - fixed) * unit).replace(" more", " above it").replace(" less", " below it")
        ));
    }
    lines
}

fn against(difference: f64) -> String {
    if difference.abs() < 1e-9 {
        "no more".to_owned()
    } else if difference > 0.0 {
        format!("{} more", sum(difference))
    } else {
        format!("{} less", sum(-difference))
    }
}

/// The chance that the load at the peak is above what the units bear, by the forecast; none when it has no quantiles.
pub(super) fn chance_of_violation(plan: &Plan) -> Option<f64> {
    let limit = limit(plan);
    let points: Vec<(f64, f64)> =
        plan.levels.iter().zip(&plan.peak_values).map(|(level, value)| (*level, f64::from(*value))).collect();
    let (first, last) = (points.first()?, points.last()?);
    if limit <= first.1 {
        return Some(1.0 - first.0);
    }
    if limit >= last.1 {
        return Some(1.0 - last.0);
    }
    let pair = points.windows(2).find_map(|pair| match pair {
        [low, high] if limit < high.1 => Some((*low, *high)),
        _ => None,
    })?;
    let ((low_level, low), (high_level, high)) = pair;
    Some(1.0 - (low_level + (high_level - low_level) * (limit - low) / (high - low)))
}

fn limit(plan: &Plan) -> f64 {
    plan.violation_utilisation * plan.unit_capacity * f64::from(plan.units_now)
}

/// Both ways of being wrong.
pub(super) fn risk(plan: &Plan) -> Vec<String> {
    let limit = limit(plan);
    let mut low = format!(
        "Too low: a load above {limit:.1} ({:.0} % of {}) is a violation; each minute of it costs {}.",
        plan.violation_utilisation * 100.0,
        units(plan.units_now),
        sum(plan.cost_per_violation_minute)
    );
    match chance_of_violation(plan) {
        Some(chance) => {
            let edge = |at: Option<&f32>| at.map(|value| f64::from(*value));
            let word = match (edge(plan.peak_values.first()), edge(plan.peak_values.last())) {
                (_, Some(last)) if limit >= last => "at most",
                (Some(first), _) if limit <= first => "at least",
                _ => "about",
            };
            low += &format!(
                " By the forecast the chance at its peak is {word} {:.1} %: {} a minute to be expected there.",
                chance * 100.0,
                sum(chance * plan.cost_per_violation_minute)
            );
        }
        None => low += " Without a forecast to trust the chance is not known; the guard follows the load.",
    }
    let per_unit = plan.unit_capacity * plan.target_utilisation;
    let median = plan.levels.iter().position(|level| *level >= 0.5).and_then(|at| plan.peak_values.get(at));
    let load = median.map_or(plan.observed_load, |median| f64::from(*median));
    let needed = if per_unit > 0.0 { (load / per_unit).ceil().max(1.0) } else { 1.0 };
    let surplus = (f64::from(plan.units_now) - needed).max(0.0);
    let what = if median.is_some() { "the median at the peak" } else { "the load of now" };
    let high = format!(
        "Too high: if the load is {load:.1} ({what}), {needed:.0} would do; the surplus of {surplus:.0} costs {} an hour \
         until it is released.",
        sum(surplus * plan.cost_per_unit_hour)
    );
    vec![low, high]
}

/// The command that undoes it; none when there is nothing to undo.
pub(super) fn undo_command(story: &Story<'_>) -> Option<String> {
    let waits = matches!(
        story.moves.last().map(ActionRecord::state),
        Some(ActionState::Proposed | ActionState::Paused | ActionState::Approved)
    );
    (waits || story.is_in_effect()).then(|| format!("headroom rollback {}", story.plan.plan_id))
}

pub(super) fn undoing(story: &Story<'_>) -> Vec<String> {
    let (plan, last) = (story.plan, story.moves.last());
    if let Some(undone) = story.moves.iter().rfind(|record| record.state() == ActionState::RolledBack) {
        let (at, actor, why) = (time(undone.at_us), &undone.actor, why(undone));
        let because = if why.is_empty() { String::new() } else { format!(" ({why})") };
        return vec![format!("It was undone {at} by {actor}{because}: back to {}.", units(undone.undo_units))];
    }
    if story.is_observed() {
        return vec!["There is nothing to undo: it was only observed.".to_owned()];
    }
    match undo_command(story) {
        Some(command) if story.is_in_effect() => vec![
            command,
            format!("returns {} to {}, and undoes what followed from it.", plan.workload, units(plan.units_before)),
        ],
        Some(command) => vec![command, "ends the waiting: nothing has been done yet.".to_owned()],
        None => {
            let state = last.map_or_else(|| "only planned".to_owned(), |last| state_word(last.state()));
            vec![format!("There is nothing to undo: it is {state}.")]
        }
    }
}

/// Why a move was made, without its state, which is told beside it.
pub(super) fn why(record: &ActionRecord) -> &str {
    let (state, reason) = (state_word(record.state()), record.reason.as_str());
    match reason.strip_prefix(state.as_str()) {
        Some("") => "",
        Some(rest) => rest.strip_prefix(": ").unwrap_or(reason),
        None => reason,
    }
}

/// Every move with who made it and why.
pub(super) fn decided(story: &Story<'_>) -> Vec<String> {
    if story.is_observed() {
        return vec![format!("Nobody: at stage observe nothing is done. {}.", capital_word(&story.plan.would))];
    }
    moves(story.moves)
}

/// The moves, and what they rest on.
pub(super) fn moves(moves: &[ActionRecord]) -> Vec<String> {
    let mut lines: Vec<String> = moves
        .iter()
        .map(|record| {
            let state = state_word(record.state());
            let (at, actor, why) = (time(record.at_us), &record.actor, why(record));
            if why.is_empty() { format!("{at} {state} by {actor}") } else { format!("{at} {state} by {actor}: {why}") }
        })
        .collect();
    if let Some(last) = moves.last() {
        lines.push(format!("Stage {}, policy {}, plan hash {}.", last.stage, last.policy_version, last.plan_hash));
    }
    if lines.is_empty() {
        lines.push("No action follows from it yet.".to_owned());
    }
    lines
}

pub(super) fn outcome(story: &Story<'_>) -> Vec<String> {
    if story.outcomes.is_empty() {
        return vec!["Nothing is measured yet.".to_owned()];
    }
    story.outcomes.iter().map(measured).collect()
}

/// One outcome: what was, and what would have been without the action, which is told as the estimate that it is.
pub(super) fn measured(outcome: &Outcome) -> String {
    if outcome.completeness <= 0.0 {
        let (from, to) = (time(outcome.measured_from_us), time(outcome.measured_to_us));
        return format!("No window came from {from} to {to}. Judged {}.", outcome.judgement);
    }
    let seen = format!(
        "From {} to {}: highest load {:.1} (expected {:.1}), mean {:.1}, {} used up to {:.0} %, {} minutes in violation; \
         {:.0} % of the windows came. Judged {}.",
        time(outcome.measured_from_us),
        time(outcome.measured_to_us),
        outcome.observed_peak,
        outcome.expected_peak,
        outcome.observed_mean,
        units(outcome.units),
        outcome.peak_utilisation * 100.0,
        outcome.violation_minutes,
        outcome.completeness * 100.0,
        outcome.judgement
    );
    if outcome.counterfactual_method.is_empty() {
        return seen;
    }
    format!(
        "{seen} Without it: used up to {:.0} %, {:.0} minutes in violation ({}).",
        outcome.counterfactual_peak_utilisation * 100.0,
        outcome.counterfactual_violation_minutes,
        outcome.counterfactual_method
    )
}

fn capital(text: &str) -> String {
    if text.is_empty() { String::new() } else { capital_word(text) + "." }
}

fn capital_word(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}
