//! One record that answers all: what, why, by whom, on which model, policy and signals, what was expected, what was
//! observed, how it was undone.

use headroom_proto::v1::{ActionRecord, ActionState, Outcome, Plan};
use serde_json::{Value, json};

use super::{parts, time, units};
use crate::transition::state_word;

/// What is on record of one action, in words and as a document; nothing without a move.
#[must_use]
pub fn record_of(moves: &[ActionRecord], plan: Option<&Plan>, outcome: Option<&Outcome>) -> Option<(String, Value)> {
    let (first, last) = (moves.first()?, moves.last()?);
    let of = |state: ActionState| moves.iter().rfind(|record| record.state() == state);
    let approval = of(ActionState::Approved);
    let undone = of(ActionState::RolledBack);
    let signals = if last.signal_ids.is_empty() { "none".to_owned() } else { last.signal_ids.join(", ") };
    let model = if last.model_version.is_empty() { "none" } else { last.model_version.as_str() };
    let forecast = plan.map(|plan| plan.forecast_origin_us).filter(|origin| *origin != 0);
    let by = approval.map_or_else(
        || "nobody".to_owned(),
        |approval| match parts::why(approval) {
            "" => format!("{}, {}", approval.actor, time(approval.at_us)),
            why => format!("{}, {} ({why})", approval.actor, time(approval.at_us)),
        },
    );
    let effect = of(ActionState::Applied).or_else(|| of(ActionState::Failed));
    let rows = [
        ("Action", format!("{} of plan {}", last.action_id, last.plan_id)),
        (
            "What",
            format!("{} {} -> {} on target {}", last.workload, last.units_before, units(last.units_after), last.target),
        ),
        ("State", format!("{} since {}", state_word(last.state()), time(last.at_us))),
        ("Why", first.reason.clone()),
        ("Decided", format!("{} at stage {}", time(last.decided_at_us), last.stage)),
        ("Approved by", by),
        ("Policy", last.policy_version.clone()),
        (
            "Model",
            format!(
                "{model}, verdict {}{}",
                last.verdict,
                forecast.map(|at| format!(", forecast of {}", time(at))).unwrap_or_default()
            ),
        ),
        ("Signals", signals),
        ("Expected", format!("a load of at most {:.1}", last.expected_peak)),
        ("Effect", effect.map_or_else(|| "none yet".to_owned(), |effect| effect.reason.clone())),
        ("Observed", outcome.map_or_else(|| "nothing is measured yet".to_owned(), parts::measured)),
        (
            "Undone",
            undone.map_or_else(
                || format!("no; headroom rollback {} returns to {}", last.action_id, units(last.undo_units)),
                |undone| {
                    let because = match parts::why(undone) {
                        "" => String::new(),
                        why => format!(" ({why})"),
                    };
                    let (at, actor) = (time(undone.at_us), &undone.actor);
                    format!("{at} by {actor}{because}: back to {}", units(undone.undo_units))
                },
            ),
        ),
        (
            "On record",
            format!("moves {} to {} of {}, last hash {}", first.sequence, last.sequence, last.workload, last.hash),
        ),
    ];
    let mut text: String = rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    for line in parts::moves(moves).iter().take(moves.len()) {
        text += &format!("  {line}\n");
    }
    let named = rows.iter().map(|(name, value)| (name.to_lowercase().replace(' ', "_"), json!(value)));
    let document = json!({
        "summary": named.collect::<serde_json::Map<String, Value>>(),
        "moves": moves,
        "plan": plan,
        "outcome": outcome,
    });
    Some((text, document))
}
