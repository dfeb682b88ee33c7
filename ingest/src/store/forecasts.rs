//! A forecast as rows: one for each step, one column for each quantile.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use headroom_ingest_lake::{Table, date_of, quantile_column};
use headroom_proto::v1::{Forecast, Verdict};

use super::records::word;

/// More steps than this is no forecast but a mistake.
const MAX_STEPS: usize = 100_000;

/// The rows of a forecast. One that abstains is a single row without quantiles, so that its reason is kept.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn rows(forecast: &Forecast) -> Result<RecordBatch, String> {
    let verdict = check(forecast)?;
    let steps = forecast.values.len().checked_div(forecast.levels.len()).unwrap_or_default();
    let rows = steps.max(1);
    let last = i32::try_from(rows).map_err(|_| "more steps than can be counted".to_owned())?;
    let origin = forecast.origin_us;
    let at = (0..i64::from(last)).map(|step| origin.saturating_add(step.saturating_mul(forecast.step_us)));
    #[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
    let step_s = forecast.step_us as f64 / 1e6;
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::new_repeated(value, rows)) };
    let optional = |value: &str| -> ArrayRef {
        if value.is_empty() { Arc::new(StringArray::new_null(rows)) } else { text(value) }
    };
    let events = (0..rows).map(|step| forecast.event_steps.get(step).copied().unwrap_or_default());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from_value(date_of(origin), rows)),
        text(&forecast.workload),
        text(&forecast.target),
        Arc::new(TimestampMicrosecondArray::from_value(origin, rows).with_timezone("UTC")),
        Arc::new(Int32Array::from_iter_values(0..last)),
        Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC")),
        Arc::new(Float64Array::from_value(step_s, rows)),
        Arc::new(BooleanArray::from_iter(events.map(Some))),
        optional(&forecast.model_version),
        optional(&forecast.feature_version),
        text(&word(verdict.as_str_name(), "VERDICT_")),
        optional(&forecast.verdict_reason),
        optional(&signals_used(forecast)),
    ];
    let mut fields: Vec<Field> =
        Table::Forecasts.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    for (index, level) in forecast.levels.iter().enumerate() {
        fields.push(Field::new(quantile_column(*level), DataType::Float32, true));
        columns.push(quantile(forecast, index, steps));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())
}

/// One quantile for each step; null where there is none.
fn quantile(forecast: &Forecast, index: usize, steps: usize) -> ArrayRef {
    if steps == 0 {
        return Arc::new(Float32Array::new_null(1));
    }
    let values = forecast.values.iter().skip(index).step_by(forecast.levels.len());
    Arc::new(values.map(|value| value.is_finite().then_some(*value)).collect::<Float32Array>())
}

/// `match-12@2, match-13@1`
fn signals_used(forecast: &Forecast) -> String {
    let used: Vec<String> =
        forecast.signals.iter().map(|signal| format!("{}@{}", signal.signal_id, signal.revision)).collect();
    used.join(", ")
}

fn check(forecast: &Forecast) -> Result<Verdict, String> {
    let verdict = Verdict::try_from(forecast.verdict).unwrap_or_default();
    if verdict == Verdict::Unspecified {
        return Err(format!("verdict {} is unknown", forecast.verdict));
    }
    if forecast.workload.is_empty() {
        return Err("no workload".to_owned());
    }
    if forecast.step_us <= 0 {
        return Err(format!("step of {} µs", forecast.step_us));
    }
    let levels = &forecast.levels;
    let ascend = levels.iter().zip(levels.iter().skip(1)).all(|(lower, higher)| lower < higher);
    if !(ascend && levels.iter().all(|level| (1e-6..1.0 - 1e-6).contains(level))) {
        return Err(format!("levels {levels:?} do not ascend within 0 and 1"));
    }
    let values = forecast.values.len();
    if values == 0 && verdict != Verdict::Abstain {
        return Err("no values, and it does not abstain".to_owned());
    }
    if values > 0 && values.checked_rem(levels.len()) != Some(0) {
        return Err(format!("{values} values for {} levels", levels.len()));
    }
    if values > MAX_STEPS.saturating_mul(levels.len()) {
        return Err(format!("{values} values are more than {MAX_STEPS} steps"));
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests;
