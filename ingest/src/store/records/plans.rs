//! Capacity plans as rows.

use arrow::array::RecordBatch;
use headroom_ingest_lake::{Table, date_of};
use headroom_proto::v1::Plan;
use serde::Serialize;

use super::{measure, required, row, seconds, text, time};

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
    unit_capacity: Option<f64>,
    violation_utilisation: Option<f64>,
}

pub(super) fn plan_row(plan: &Plan) -> Result<RecordBatch, String> {
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
            unit_capacity: measure(plan.unit_capacity),
            violation_utilisation: measure(plan.violation_utilisation),
        },
    )
}
