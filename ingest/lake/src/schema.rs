//! The columns of the tables. Times are microseconds, UTC; every type is one that all Delta readers know.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use headroom_proto::schema::{timestamp, window_envelope};

/// Name of the partition column: the day, in UTC, of the row's leading time.
pub const DATE: &str = "date";
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The day of a time, in days since the Unix epoch; the ends of the range for times beyond it.
#[must_use]
pub fn date_of(time_us: i64) -> i32 {
    let day = time_us.div_euclid(MICROS_PER_DAY);
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX })
}

/// The column of a quantile: the level's decimals, at least two of them. 0.025 is `q025`, 0.5 is `q50`, 0.99 is `q99`.
#[must_use]
pub fn quantile_column(level: f64) -> String {
    let decimals = format!("{level:.6}");
    let decimals = decimals.split_once('.').map_or("", |(_, decimals)| decimals).trim_end_matches('0');
    format!("q{decimals:0<2}")
}

fn list_of(element: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", element, true)))
}

/// A map from texts, named within as Delta names it.
fn map_to(value: DataType) -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn schema_of(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

/// The envelope of `headroom_proto::schema`, then a column for each feature. `date` is that of `window_start`.
pub(crate) fn windows() -> SchemaRef {
    let mut fields = vec![required(DATE, DataType::Date32)];
    fields.extend(window_envelope());
    schema_of(fields)
}

pub(crate) fn signals() -> SchemaRef {
    schema_of(vec![
        required("signal_id", DataType::Utf8),
        required("revision", DataType::Int64),
        required("kind", DataType::Utf8),
        required("status", DataType::Utf8),
        required("starts_at", timestamp()),
        required("ends_at", timestamp()),
        required("announced_at", timestamp()),
        optional("name", DataType::Utf8),
        optional("channel", DataType::Utf8),
        optional("audience_size", DataType::Int64),
        optional("audience_quality", DataType::Utf8),
        optional("send_rate_per_s", DataType::Float64),
        optional("expected_response_ratio", DataType::Float64),
        required("weight", DataType::Float64),
        optional("workloads", list_of(DataType::Utf8)),
    ])
}

/// `at` is the start of the step, `date` that of the origin. An abstention is one row without quantiles.
pub(crate) fn forecasts() -> SchemaRef {
    schema_of(vec![
        required(DATE, DataType::Date32),
        required("workload", DataType::Utf8),
        required("target", DataType::Utf8),
        required("origin", timestamp()),
        required("step", DataType::Int32),
        required("at", timestamp()),
        required("step_s", DataType::Float64),
        required("event", DataType::Boolean),
        optional("model_version", DataType::Utf8),
        optional("feature_version", DataType::Utf8),
        required("verdict", DataType::Utf8),
        optional("verdict_reason", DataType::Utf8),
        optional("signals", DataType::Utf8),
    ])
}

/// `date` is that of `decided_at`.
pub(crate) fn plans() -> SchemaRef {
    schema_of(vec![
        required(DATE, DataType::Date32),
        required("plan_id", DataType::Utf8),
        required("workload", DataType::Utf8),
        required("decided_at", timestamp()),
        required("step_s", DataType::Float64),
        required("units", list_of(DataType::Int64)),
        required("units_before", DataType::Int64),
        required("units_now", DataType::Int64),
        required("quantile", DataType::Float64),
        required("cost_per_unit_hour", DataType::Float64),
        required("cost_per_violation_minute", DataType::Float64),
        required("lead_time_s", DataType::Float64),
        optional("binding", DataType::Utf8),
        optional("reason", DataType::Utf8),
        optional("forecast_origin", timestamp()),
        optional("model_version", DataType::Utf8),
        optional("verdict", DataType::Utf8),
        optional("signal_ids", list_of(DataType::Utf8)),
        required("observed_load", DataType::Float64),
        required("expected_peak", DataType::Float64),
        optional("plan_hash", DataType::Utf8),
        optional("unit_capacity", DataType::Float64),
        optional("violation_utilisation", DataType::Float64),
    ])
}

/// `date` is that of `at`. A switch is a row without an action: its state is `paused` or `resumed`. So is the beginning of
/// an actuator's term, `term`. The table has what the topic has; a move whose `term` is earlier than that of another with the
/// same or a smaller `sequence` came too late and does not count.
pub(crate) fn actions() -> SchemaRef {
    schema_of(vec![
        required(DATE, DataType::Date32),
        optional("action_id", DataType::Utf8),
        optional("plan_id", DataType::Utf8),
        optional("workload", DataType::Utf8),
        optional("sequence", DataType::Int64),
        required("state", DataType::Utf8),
        optional("previous_state", DataType::Utf8),
        required("at", timestamp()),
        optional("target", DataType::Utf8),
        optional("units_before", DataType::Int64),
        optional("units_after", DataType::Int64),
        optional("idempotency_key", DataType::Utf8),
        optional("reason", DataType::Utf8),
        optional("actor", DataType::Utf8),
        optional("stage", DataType::Utf8),
        optional("policy_version", DataType::Utf8),
        optional("plan_hash", DataType::Utf8),
        optional("model_version", DataType::Utf8),
        optional("verdict", DataType::Utf8),
        optional("signal_ids", list_of(DataType::Utf8)),
        optional("expected_peak", DataType::Float64),
        optional("undo_units", DataType::Int64),
        optional("decided_at", timestamp()),
        optional("previous_hash", DataType::Utf8),
        optional("hash", DataType::Utf8),
        optional("term", DataType::Int64),
    ])
}

/// `date` is that of `measured_to`. What is counterfactual is an estimate, and `counterfactual_method` says how it was made.
pub(crate) fn outcomes() -> SchemaRef {
    schema_of(vec![
        required(DATE, DataType::Date32),
        required("action_id", DataType::Utf8),
        required("workload", DataType::Utf8),
        required("measured_from", timestamp()),
        required("measured_to", timestamp()),
        required("expected_peak", DataType::Float64),
        required("observed_peak", DataType::Float64),
        required("observed_mean", DataType::Float64),
        required("units", DataType::Int64),
        required("peak_utilisation", DataType::Float64),
        required("violation_minutes", DataType::Int64),
        required("completeness", DataType::Float64),
        optional("signal_ids", list_of(DataType::Utf8)),
        optional("model_version", DataType::Utf8),
        optional("judgement", DataType::Utf8),
        optional("counterfactual_violation_minutes", DataType::Float64),
        optional("counterfactual_peak_utilisation", DataType::Float64),
        optional("counterfactual_method", DataType::Utf8),
        optional("e_value", DataType::Float64),
        optional("worst_guard", DataType::Utf8),
        optional("guard_observed", DataType::Float64),
        optional("guard_usual", DataType::Float64),
    ])
}

pub(crate) fn models() -> SchemaRef {
    schema_of(vec![
        required("model_version", DataType::Utf8),
        required("workload", DataType::Utf8),
        optional("family", DataType::Utf8),
        required("trained_at", timestamp()),
        required("train_from", timestamp()),
        required("train_to", timestamp()),
        required("train_steps", DataType::Int64),
        required("train_signals", DataType::Int64),
        required("train_outcomes", DataType::Int64),
        optional("table_versions", map_to(DataType::Int64)),
        optional("feature_schema_hash", DataType::Utf8),
        optional("code_version", DataType::Utf8),
        optional("parameters_json", DataType::Utf8),
        optional("scores", map_to(DataType::Float64)),
        optional("parent", DataType::Utf8),
        optional("reason", DataType::Utf8),
        required("champion", DataType::Boolean),
    ])
}

/// `open_before + read = emitted + corrected + late + dead + filtered + open_after`, in rows. `date` is that of `watermark`, or of
/// the Unix epoch before there is one.
pub(crate) fn ledger() -> SchemaRef {
    schema_of(vec![
        required(DATE, DataType::Date32),
        required("shard", DataType::Utf8),
        required("epoch", DataType::Int64),
        required("from_offset", DataType::Int64),
        required("to_offset", DataType::Int64),
        optional("watermark", timestamp()),
        required("open_before", DataType::Int64),
        required("read", DataType::Int64),
        required("emitted", DataType::Int64),
        required("corrected", DataType::Int64),
        required("late", DataType::Int64),
        required("dead", DataType::Int64),
        required("filtered", DataType::Int64),
        required("open_after", DataType::Int64),
        required("windows", DataType::Int64),
    ])
}

/// `low` to `high` are the interval of 80 %, null where the load may be more than the capacity; `date` is that of `origin`. An
/// abstention is one row without them, with its reason.
pub(crate) fn derived() -> SchemaRef {
    schema_of(vec![
        required(DATE, DataType::Date32),
        required("workload", DataType::Utf8),
        required("quantity", DataType::Utf8),
        optional("unit", DataType::Utf8),
        required("origin", timestamp()),
        required("at", timestamp()),
        required("step_s", DataType::Float64),
        optional("low", DataType::Float64),
        optional("middle", DataType::Float64),
        optional("high", DataType::Float64),
        optional("rests_on", DataType::Utf8),
        optional("finding", DataType::Utf8),
        optional("abstains", DataType::Utf8),
    ])
}

/// What a model or a policy came to on one workload of one run; scores that do not apply are null.
pub(crate) fn backtests() -> SchemaRef {
    let mut fields = vec![
        required("run", DataType::Utf8),
        required("run_at", timestamp()),
        required("workload", DataType::Utf8),
        required("kind", DataType::Utf8),
        required("name", DataType::Utf8),
        required("scored_from", timestamp()),
        required("scored_to", timestamp()),
        required("step_s", DataType::Float64),
        required("horizon_s", DataType::Float64),
    ];
    let scores = [
        "wql",
        "event_wql",
        "wape",
        "event_wape",
        "mase",
        "coverage_80",
        "coverage_95",
        "event_coverage_80",
        "event_coverage_95",
        "peak_error",
        "spike_recall",
        "spike_precision",
        "violation_minutes",
        "unit_hours",
        "lead_minutes",
    ];
    fields.extend(scores.map(|name| optional(name, DataType::Float64)));
    schema_of(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_names_its_column() {
        let named = [0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 0.1 + 0.2, 0.9, 0.975, 0.99].map(quantile_column);
        assert_eq!(named, ["q005", "q025", "q05", "q10", "q25", "q50", "q30", "q90", "q975", "q99"]);
    }

    #[test]
    fn days_are_rounded_down() {
        assert_eq!([-1, 0, MICROS_PER_DAY - 1, MICROS_PER_DAY].map(date_of), [-1, 0, 0, 1]);
        assert_eq!(date_of(i64::MIN), -106_751_992);
    }
}
