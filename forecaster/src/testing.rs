//! Made-up windows and signals for tests.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use headroom_ingest_broker::{Received, Record};
use headroom_models::Engine;
use headroom_proto::signal::{STRUCTURED, to_event};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{Forecast, Signal, SignalKind, SignalStatus};
use headroom_proto::{EventTime, Span, codec, headers, schema};
use prost::Message;

use crate::ForecasterConfig;
use crate::intake::Batch;
use crate::learner::{Learners, State, Turn};

pub(crate) const STEP_US: i64 = 300_000_000;
pub(crate) const HOUR_US: i64 = 12 * STEP_US;
pub(crate) const DAY_US: i64 = 24 * HOUR_US;
/// A Monday, 00:00 UTC.
pub(crate) const START_US: i64 = 894_844_800_000_000;

/// One row of a window record.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) size_s: i32,
    pub(crate) end_us: i64,
    pub(crate) value: Option<f64>,
    pub(crate) complete: bool,
}

impl Row {
    /// A complete window of 5 minutes.
    pub(crate) fn new(workload: &str, end_us: i64, value: f64) -> Self {
        Self { workload: workload.to_owned(), size_s: 300, end_us, value: Some(value), complete: true }
    }
}

/// The value of a window record with the feature column `column`.
pub(crate) fn window_bytes(column: &str, rows: &[Row]) -> Vec<u8> {
    let mut fields = schema::window_envelope();
    fields.push(Field::new(column, DataType::Float64, true));
    let schema = Arc::new(Schema::new(fields));
    let times = |time: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(rows.iter().map(time).collect::<Vec<_>>()).with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["load"; rows.len()])),
        Arc::new(Int32Array::from(rows.iter().map(|row| row.size_s).collect::<Vec<_>>())),
        times(|row| row.end_us - i64::from(row.size_s) * 1_000_000),
        times(|row| row.end_us),
        Arc::new(StringArray::from(rows.iter().map(|row| row.workload.clone()).collect::<Vec<_>>())),
        Arc::new(Int32Array::from(vec![0; rows.len()])),
        Arc::new(BooleanArray::from(rows.iter().map(|row| row.complete).collect::<Vec<_>>())),
        Arc::new(Float64Array::from(rows.iter().map(|row| row.value).collect::<Vec<_>>())),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("the columns fit");
    codec::encode_stream(&schema, &[batch]).expect("encodes").to_vec()
}

/// A short horizon and few levels, so that tests are quick.
pub(crate) fn config() -> ForecasterConfig {
    ForecasterConfig {
        horizon: Span::from_hours(2),
        outlook: Span::from_hours(0),
        levels: vec![0.1, 0.5, 0.9],
        snapshot_interval: Span::from_micros(50_000),
        ..ForecasterConfig::default()
    }
}

/// A daily wave with a fast ripple; one window of it is missing, one has no value, one is incomplete each day.
pub(crate) fn days(count: i64) -> Vec<Row> {
    let steps = count * DAY_US / STEP_US;
    let row = |step: i64| {
        let end_us = START_US + (step + 1) * STEP_US;
        let turn = std::f64::consts::TAU * f64::from(i32::try_from(step).expect("few steps")) / 288.0;
        let value = 100.0 + 60.0 * turn.sin() + 5.0 * (17.0 * turn).sin();
        let value = (step % 288 != 101).then_some(value);
        Row { value, complete: step % 288 != 150, ..Row::new("shop", end_us, 0.0) }
    };
    (0..steps).filter(|step| step % 288 != 100).map(row).collect()
}

/// Window records of half an hour each, numbered from `first_sequence` on as the processor numbers them.
pub(crate) fn window_records(rows: &[Row], first_sequence: u64) -> Vec<Record> {
    let record = |(sequence, rows): (u64, &[Row])| {
        Record::new(Topic::Windows, window_bytes("requests_per_s", rows))
            .key("shop")
            .header(headers::SHARD, "headroom.telemetry.metrics/0")
            .header(headers::SEQUENCE, sequence.to_string())
    };
    (first_sequence..).zip(rows.chunks(6)).map(record).collect()
}

/// A sale of three hours.
pub(crate) fn sale(announced_at_us: i64, starts_at_us: i64) -> Record {
    let mut signal = Signal {
        signal_id: "sale".to_owned(),
        revision: 1,
        starts_at_us,
        ends_at_us: starts_at_us + 3 * HOUR_US,
        announced_at_us,
        channel: "push".to_owned(),
        weight: 3.0,
        ..Signal::default()
    };
    signal.set_kind(SignalKind::Sale);
    signal.set_status(SignalStatus::Announced);
    let event = to_event(&signal, "test").expect("a legal source");
    let json = serde_json::to_vec(&event).expect("a CloudEvent is JSON");
    Record::new(Topic::Signals, json).key("sale").header(headers::CONTENT_TYPE, STRUCTURED)
}

/// The record as it is read at `offset` of partition 0.
pub(crate) fn received(record: Record, offset: i64) -> Received {
    let Record { topic, key, value, headers, time, .. } = record;
    Received { topic, partition: 0, offset, key, value, headers, time }
}

/// Learners that know nothing yet.
pub(crate) fn learners(config: &ForecasterConfig) -> Learners {
    with_state(config, State::default())
}

/// Learners that go on from a state.
pub(crate) fn with_state(config: &ForecasterConfig, state: State) -> Learners {
    let engine = Engine::try_new(config.engine().expect("legal settings")).expect("legal settings");
    Learners::new(Arc::new(config.clone()), engine, state)
        .looking_out(config.outlook().expect("legal settings"), config.group_outlook().expect("legal settings"))
}

/// Hands over one batch whose first records have these offsets.
pub(crate) fn handle(learners: &mut Learners, signals: Vec<Record>, windows: Vec<Record>, first_offset: i64) -> Turn {
    let numbered =
        |records: Vec<Record>, first| (first..).zip(records).map(|(at, record)| received(record, at)).collect();
    let batch = Batch { signals: numbered(signals, 0), records: numbered(windows, first_offset) };
    learners.handle(batch, EventTime::from_micros(START_US))
}

/// Origins and encoded forecasts.
pub(crate) fn encoded(forecasts: &[Forecast]) -> Vec<(i64, Vec<u8>)> {
    forecasts.iter().map(|forecast| (forecast.origin_us, forecast.encode_to_vec())).collect()
}
