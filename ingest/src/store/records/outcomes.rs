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
}

pub(super) fn outcome_row(outcome: &Outcome) -> Result<RecordBatch, String> {
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
