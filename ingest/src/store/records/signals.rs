//! Event signals as rows.

use arrow::array::RecordBatch;
use headroom_ingest_broker::Received;
use headroom_ingest_lake::Table;
use headroom_proto::{EventTime, signal};
use serde::Serialize;

use super::{count, row, text, word};

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

pub(super) fn signal_row(record: &Received) -> Result<RecordBatch, String> {
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
