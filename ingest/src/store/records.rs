//! Control records as rows: signals, plans, actions and switches, outcomes, models.

mod actions;
mod ledger;
mod models;
mod outcomes;
mod plans;
mod signals;

use arrow::array::RecordBatch;
use arrow::json::ReaderBuilder;
use headroom_ingest_broker::Received;
use headroom_ingest_lake::Table;
use headroom_proto::headers;
use prost::Message;
use serde::Serialize;

use super::forecasts;

/// The rows of a record of any table but windows.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn rows(table: Table, record: &Received) -> Result<RecordBatch, String> {
    match table {
        Table::Windows | Table::Derived | Table::Backtests => Err(format!("{table} are no control record")),
        Table::Forecasts | Table::Outlooks => forecasts::rows(&message(record, "Forecast")?),
        Table::Signals => signals::signal_row(record),
        Table::Plans => plans::plan_row(&message(record, "Plan")?),
        Table::Actions => match record.header(headers::MESSAGE) {
            Some("Switch") => actions::switch_row(&message(record, "Switch")?),
            Some("Approval") => actions::approval_row(&message(record, "Approval")?),
            Some("StageMove") => actions::stage_row(&message(record, "StageMove")?),
            Some("Term") => actions::term_row(&message(record, "Term")?),
            _ => actions::action_row(&message(record, "ActionRecord")?),
        },
        Table::Outcomes => outcomes::outcome_row(&message(record, "Outcome")?),
        Table::Models => models::model_row(&message(record, "Model")?),
        Table::Ledger => ledger::ledger_row(&message(record, "LedgerEntry")?),
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

/// A positive quantity that protobuf leaves at 0 when it is not known.
fn measure(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn seconds(micros: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact below 285 years")]
    let micros = micros as f64;
    micros / 1e6
}

#[cfg(test)]
mod tests;
