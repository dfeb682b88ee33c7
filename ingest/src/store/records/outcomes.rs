//! What actions did, as rows.

use arrow::array::RecordBatch;
use headroom_ingest_lake::{Table, date_of};
use headroom_proto::v1::Outcome;
use serde::Serialize;

use super::{required, row, text};

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
    counterfactual_violation_minutes: Option<f64>,
    counterfactual_peak_utilisation: Option<f64>,
    counterfactual_method: Option<&'a str>,
    e_value: Option<f64>,
    worst_guard: Option<&'a str>,
    guard_observed: Option<f64>,
    guard_usual: Option<f64>,
}

/// Outcomes of earlier programs have no estimate, and some no evidence.
pub(super) fn outcome_row(outcome: &Outcome) -> Result<RecordBatch, String> {
    let is_estimated = !outcome.counterfactual_method.is_empty();
    let is_weighed = !outcome.worst_guard.is_empty();
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
            counterfactual_violation_minutes: is_estimated.then_some(outcome.counterfactual_violation_minutes),
            counterfactual_peak_utilisation: is_estimated.then_some(outcome.counterfactual_peak_utilisation),
            counterfactual_method: text(&outcome.counterfactual_method),
            e_value: is_weighed.then_some(outcome.e_value),
            worst_guard: text(&outcome.worst_guard),
            guard_observed: is_weighed.then_some(outcome.guard_observed),
            guard_usual: is_weighed.then_some(outcome.guard_usual),
        },
    )
}
