//! Moves of actions, and the switches that stop them, as rows.

use arrow::array::RecordBatch;
use headroom_ingest_lake::{Table, date_of};
use headroom_proto::v1::{ActionRecord, ActionState, Approval, StageMove, Switch, Term};
use serde::Serialize;

use super::{count, required, row, text, time, word};

#[derive(Default, Serialize)]
struct ActionRow<'a> {
    date: i32,
    action_id: Option<&'a str>,
    plan_id: Option<&'a str>,
    workload: Option<&'a str>,
    sequence: Option<i64>,
    state: String,
    previous_state: Option<String>,
    at: i64,
    target: Option<&'a str>,
    units_before: Option<u32>,
    units_after: Option<u32>,
    idempotency_key: Option<&'a str>,
    reason: Option<&'a str>,
    actor: Option<&'a str>,
    stage: Option<&'a str>,
    policy_version: Option<&'a str>,
    plan_hash: Option<&'a str>,
    model_version: Option<&'a str>,
    verdict: Option<&'a str>,
    signal_ids: Option<&'a [String]>,
    expected_peak: Option<f64>,
    undo_units: Option<u32>,
    decided_at: Option<i64>,
    previous_hash: Option<&'a str>,
    hash: Option<&'a str>,
    term: Option<i64>,
}

pub(super) fn action_row(action: &ActionRecord) -> Result<RecordBatch, String> {
    let state = |state: ActionState| word(state.as_str_name(), "ACTION_STATE_");
    if action.state() == ActionState::Unspecified {
        return Err(format!("state {} is unknown", action.state));
    }
    let previous = action.previous_state();
    row(
        Table::Actions,
        &ActionRow {
            date: date_of(action.at_us),
            action_id: Some(required("action_id", &action.action_id)?),
            plan_id: text(&action.plan_id),
            workload: Some(required("workload", &action.workload)?),
            sequence: Some(count(action.sequence)),
            state: state(action.state()),
            previous_state: (previous != ActionState::Unspecified).then(|| state(previous)),
            at: action.at_us,
            target: text(&action.target),
            units_before: Some(action.units_before),
            units_after: Some(action.units_after),
            idempotency_key: text(&action.idempotency_key),
            reason: text(&action.reason),
            actor: text(&action.actor),
            stage: text(&action.stage),
            policy_version: text(&action.policy_version),
            plan_hash: text(&action.plan_hash),
            model_version: text(&action.model_version),
            verdict: text(&action.verdict),
            signal_ids: Some(&action.signal_ids),
            expected_peak: Some(action.expected_peak),
            undo_units: Some(action.undo_units),
            decided_at: time(action.decided_at_us),
            previous_hash: text(&action.previous_hash),
            hash: text(&action.hash),
            term: (action.term > 0).then(|| count(action.term)),
        },
    )
}

/// A switch stands between the actions that it stops, without an action of its own.
pub(super) fn switch_row(switch: &Switch) -> Result<RecordBatch, String> {
    row(
        Table::Actions,
        &ActionRow {
            date: date_of(switch.at_us),
            workload: text(&switch.workload),
            state: if switch.paused { "paused" } else { "resumed" }.to_owned(),
            at: switch.at_us,
            reason: text(&switch.reason),
            actor: text(&switch.actor),
            ..ActionRow::default()
        },
    )
}

/// One of several approvals: its state is `approval`.
pub(super) fn approval_row(approval: &Approval) -> Result<RecordBatch, String> {
    row(
        Table::Actions,
        &ActionRow {
            date: date_of(approval.at_us),
            action_id: Some(required("action_id", &approval.action_id)?),
            plan_id: text(&approval.plan_id),
            workload: Some(required("workload", &approval.workload)?),
            state: "approval".to_owned(),
            at: approval.at_us,
            reason: text(&approval.comment),
            actor: text(&approval.actor),
            plan_hash: text(&approval.plan_hash),
            ..ActionRow::default()
        },
    )
}

/// From here on this actuator acts: its state is `term`.
pub(super) fn term_row(term: &Term) -> Result<RecordBatch, String> {
    row(
        Table::Actions,
        &ActionRow {
            date: date_of(term.at_us),
            state: "term".to_owned(),
            at: term.at_us,
            reason: text(&format!("term {}", term.term)),
            term: Some(count(term.term)),
            actor: text(&term.holder),
            ..ActionRow::default()
        },
    )
}

/// A stage that was earned or lost, of one kind of action: its state is `stage`.
pub(super) fn stage_row(moved: &StageMove) -> Result<RecordBatch, String> {
    let reason = format!("{}, {} -> {}: {}", moved.kind, moved.from, moved.to, moved.reason);
    row(
        Table::Actions,
        &ActionRow {
            date: date_of(moved.at_us),
            workload: Some(required("workload", &moved.workload)?),
            state: "stage".to_owned(),
            at: moved.at_us,
            reason: text(&reason),
            stage: text(&moved.to),
            ..ActionRow::default()
        },
    )
}
