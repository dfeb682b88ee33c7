//! Control records as rows: signals, plans, actions and switches, outcomes, models.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::json::ReaderBuilder;
use headroom_ingest_broker::Received;
use headroom_ingest_lake::{Table, date_of};
use headroom_proto::v1::{ActionRecord, ActionState, Model, Outcome, Plan, Switch};
use headroom_proto::{EventTime, headers, signal};
use prost::Message;
use serde::Serialize;

use super::forecasts;

/// The rows of a record of any table but windows.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn rows(table: Table, record: &Received) -> Result<RecordBatch, String> {
    match table {
        Table::Windows => Err("windows are no control record".to_owned()),
        Table::Forecasts => forecasts::rows(&message(record, "Forecast")?),
        Table::Signals => signal_row(record),
        Table::Plans => plan_row(&message(record, "Plan")?),
        Table::Actions if record.header(headers::MESSAGE) == Some("Switch") => switch_row(&message(record, "Switch")?),
        Table::Actions => action_row(&message(record, "ActionRecord")?),
        Table::Outcomes => outcome_row(&message(record, "Outcome")?),
        Table::Models => model_row(&message(record, "Model")?),
    }
}

/// The message in a record, whose header must name it: protobuf alone does not tell messages apart.
///
/// # Errors
/// When it is another message, or none.
pub(super) fn message<M: Message + Default>(record: &Received, name: &str) -> Result<M, String> {
    match record.header(headers::MESSAGE) {
        Some(found) if found == name => M::decode(record.value.as_ref()).map_err(|error| format!("{name}: {error}")),
        Some(found) => Err(format!("header `{}` is `{found}`, expected `{name}`", headers::MESSAGE)),
        None => Err(format!("no header `{}`, expected `{name}`", headers::MESSAGE)),
    }
}

/// A protobuf enumerator as it is written elsewhere: `ACTION_STATE_ROLLED_BACK` is `rolled_back`.
pub(super) fn word(enumerator: &str, prefix: &str) -> String {
    enumerator.strip_prefix(prefix).unwrap_or(enumerator).to_ascii_lowercase()
}

/// One row, by the names of the table's columns; times are microseconds, dates days.
fn row(table: Table, row: &impl Serialize) -> Result<RecordBatch, String> {
    let told = |error: arrow::error::ArrowError| error.to_string();
    let mut decoder = ReaderBuilder::new(table.schema()).with_strict_mode(true).build_decoder().map_err(told)?;
    decoder.serialize(std::slice::from_ref(row)).map_err(told)?;
    decoder.flush().map_err(told)?.ok_or_else(|| "no row".to_owned())
}

fn required<'a>(name: &str, value: &'a str) -> Result<&'a str, String> {
    if value.is_empty() { Err(format!("no {name}")) } else { Ok(value) }
}

fn text(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

/// A time that protobuf leaves at 0 when there is none.
fn time(micros: i64) -> Option<i64> {
    (micros != 0).then_some(micros)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn seconds(micros: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
    let micros = micros as f64;
    micros / 1e6
}

#[derive(Serialize)]
struct SignalRow<'a> {
    signal_id: &'a str,
    revision: i64,
    kind: String,
    status: String,
    starts_at: i64,
    ends_at: i64,
    announced_at: i64,
    name: Option<&'a str>,
    channel: Option<&'a str>,
    audience_size: Option<i64>,
    audience_quality: String,
    send_rate_per_s: Option<f64>,
    expected_response_ratio: Option<f64>,
    weight: f64,
    workloads: &'a [String],
}

fn signal_row(record: &Received) -> Result<RecordBatch, String> {
    let received_at = record.time.unwrap_or(EventTime::from_micros(0));
    let signal = signal::from_record(&record.headers, &record.value, received_at).map_err(|error| error.to_string())?;
    row(
        Table::Signals,
        &SignalRow {
            signal_id: &signal.signal_id,
            revision: count(signal.revision),
            kind: signal::kind_word(signal.kind()),
            status: word(signal.status().as_str_name(), "SIGNAL_STATUS_"),
            starts_at: signal.starts_at_us,
            ends_at: signal.ends_at_us,
            announced_at: signal.announced_at_us,
            name: text(&signal.name),
            channel: text(&signal.channel),
            audience_size: signal.audience_size.map(count),
            audience_quality: word(signal.audience_quality().as_str_name(), "AUDIENCE_QUALITY_"),
            send_rate_per_s: signal.send_rate_per_s,
            expected_response_ratio: signal.expected_response_ratio,
            weight: signal.weight,
            workloads: &signal.workloads,
        },
    )
}

#[derive(Serialize)]
struct PlanRow<'a> {
    date: i32,
    plan_id: &'a str,
    workload: &'a str,
    decided_at: i64,
    step_s: f64,
    units: &'a [u32],
    units_before: u32,
    units_now: u32,
    quantile: f64,
    cost_per_unit_hour: f64,
    cost_per_violation_minute: f64,
    lead_time_s: f64,
    binding: Option<&'a str>,
    reason: Option<&'a str>,
    forecast_origin: Option<i64>,
    model_version: Option<&'a str>,
    verdict: Option<&'a str>,
    signal_ids: &'a [String],
    observed_load: f64,
    expected_peak: f64,
    plan_hash: Option<&'a str>,
}

fn plan_row(plan: &Plan) -> Result<RecordBatch, String> {
    row(
        Table::Plans,
        &PlanRow {
            date: date_of(plan.decided_at_us),
            plan_id: required("plan_id", &plan.plan_id)?,
            workload: required("workload", &plan.workload)?,
            decided_at: plan.decided_at_us,
            step_s: seconds(plan.step_us),
            units: &plan.units,
            units_before: plan.units_before,
            units_now: plan.units_now,
            quantile: plan.quantile,
            cost_per_unit_hour: plan.cost_per_unit_hour,
            cost_per_violation_minute: plan.cost_per_violation_minute,
            lead_time_s: seconds(plan.lead_time_us),
            binding: text(&plan.binding),
            reason: text(&plan.reason),
            forecast_origin: time(plan.forecast_origin_us),
            model_version: text(&plan.model_version),
            verdict: text(&plan.verdict),
            signal_ids: &plan.signal_ids,
            observed_load: plan.observed_load,
            expected_peak: plan.expected_peak,
            plan_hash: text(&plan.plan_hash),
        },
    )
}

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
}

fn action_row(action: &ActionRecord) -> Result<RecordBatch, String> {
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
        },
    )
}

/// A switch stands between the actions that it stops, without an action of its own.
fn switch_row(switch: &Switch) -> Result<RecordBatch, String> {
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

#[derive(Serialize)]
struct OutcomeRow<'a> {
    date: i32,
    action_id: &'a str,
    workload: &'a str,
    measured_from: i64,
    measured_to: i64,
    expected_peak: f64,
    observed_peak: f64,
    observed_mean: f64,
    units: u32,
    peak_utilisation: f64,
    violation_minutes: u32,
    completeness: f64,
    signal_ids: &'a [String],
    model_version: Option<&'a str>,
    judgement: Option<&'a str>,
}

fn outcome_row(outcome: &Outcome) -> Result<RecordBatch, String> {
    row(
        Table::Outcomes,
        &OutcomeRow {
            date: date_of(outcome.measured_to_us),
            action_id: required("action_id", &outcome.action_id)?,
            workload: required("workload", &outcome.workload)?,
            measured_from: outcome.measured_from_us,
            measured_to: outcome.measured_to_us,
            expected_peak: outcome.expected_peak,
            observed_peak: outcome.observed_peak,
            observed_mean: outcome.observed_mean,
            units: outcome.units,
            peak_utilisation: outcome.peak_utilisation,
            violation_minutes: outcome.violation_minutes,
            completeness: outcome.completeness,
            signal_ids: &outcome.signal_ids,
            model_version: text(&outcome.model_version),
            judgement: text(&outcome.judgement),
        },
    )
}

#[derive(Serialize)]
struct ModelRow<'a> {
    model_version: &'a str,
    workload: &'a str,
    family: Option<&'a str>,
    trained_at: i64,
    train_from: i64,
    train_to: i64,
    train_steps: i64,
    train_signals: i64,
    train_outcomes: i64,
    table_versions: BTreeMap<&'a str, i64>,
    feature_schema_hash: Option<&'a str>,
    code_version: Option<&'a str>,
    parameters_json: Option<&'a str>,
    scores: BTreeMap<&'a str, f64>,
    parent: Option<&'a str>,
    reason: Option<&'a str>,
    champion: bool,
}

fn model_row(model: &Model) -> Result<RecordBatch, String> {
    row(
        Table::Models,
        &ModelRow {
            model_version: required("model_version", &model.model_version)?,
            workload: required("workload", &model.workload)?,
            family: text(&model.family),
            trained_at: model.trained_at_us,
            train_from: model.train_from_us,
            train_to: model.train_to_us,
            train_steps: count(model.train_steps),
            train_signals: count(model.train_signals),
            train_outcomes: count(model.train_outcomes),
            table_versions: model.table_versions.iter().map(|(name, version)| (name.as_str(), *version)).collect(),
            feature_schema_hash: text(&model.feature_schema_hash),
            code_version: text(&model.code_version),
            parameters_json: text(&model.parameters_json),
            scores: model.scores.iter().map(|(name, score)| (name.as_str(), *score)).collect(),
            parent: text(&model.parent),
            reason: text(&model.reason),
            champion: model.champion,
        },
    )
}

#[cfg(test)]
mod tests;
