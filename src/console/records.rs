//! Reads records of the topics into the view.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use headroom_ingest_broker::Received;
use headroom_proto::codec::{self, CodecError};
use headroom_proto::signal::{self, SignalError};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, Forecast, Outcome, Plan};
use headroom_proto::{EventTime, headers, schema};
use prost::Message;

use crate::console::Scale;
use crate::console::view::{LoadPoint, Update, View, ViewError};

/// A record that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// Not the Arrow batch that the topic promises.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A windows batch without a column of the envelope.
    #[error("no column `{0}` of the expected type")]
    Column(&'static str),
    /// Not the protobuf message that the topic promises.
    #[error("not a message of this topic: {0}")]
    Message(#[from] prost::DecodeError),
    /// Not a signal.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// Read, but it makes no sense.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// Reads one record into the view; records that the page does not show are passed over.
///
/// # Errors
/// When the record is not what its topic promises.
pub(super) fn read(record: &Received, scale: &Scale, view: &mut View) -> Result<(), RecordError> {
    let value = record.value.as_ref();
    match record.topic {
        Topic::Windows => {
            for batch in codec::decode_stream(value)? {
                for point in load_points(&batch, scale)? {
                    view.apply(Update::Load(point))?;
                }
            }
        }
        Topic::Signals => {
            let received_at = record.time.unwrap_or(EventTime::MIN);
            view.apply(Update::Signal(signal::from_record(&record.headers, value, received_at)?))?;
        }
        Topic::Forecasts => view.apply(Update::Forecast(Forecast::decode(value)?))?,
        Topic::Plans => view.apply(Update::Plan(Plan::decode(value)?))?,
        Topic::Actions => {
            if record.header(headers::MESSAGE).is_none_or(|message| message == "ActionRecord") {
                view.apply(Update::Action(ActionRecord::decode(value)?))?;
            }
        }
        Topic::Outcomes => view.apply(Update::Outcome(Outcome::decode(value)?))?,
        Topic::Queries | Topic::Metrics | Topic::Models | Topic::Late | Topic::DeadLetter => {}
    }
    Ok(())
}

/// The target's windows of the shown length; other feature queries have other columns and are none of the page's.
fn load_points(batch: &RecordBatch, scale: &Scale) -> Result<Vec<LoadPoint>, RecordError> {
    let Some(loads) = batch.column_by_name(&scale.target).and_then(|c| c.as_primitive_opt::<Float64Type>()) else {
        return Ok(Vec::new());
    };
    let column = |name: &'static str| batch.column_by_name(name).ok_or(RecordError::Column(name));
    let workloads = column(schema::WORKLOAD)?.as_string_opt::<i32>().ok_or(RecordError::Column(schema::WORKLOAD))?;
    let sizes = column("window_size_s")?.as_primitive_opt::<Int32Type>().ok_or(RecordError::Column("window_size_s"))?;
    let revisions = column("revision")?.as_primitive_opt::<Int32Type>().ok_or(RecordError::Column("revision"))?;
    let starts = column("window_start")?
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or(RecordError::Column("window_start"))?;
    let shown_s = scale.window.micros() / 1_000_000;
    let rows = (0..batch.num_rows()).filter(|&row| i64::from(sizes.value(row)) == shown_s);
    Ok(rows
        .map(|row| LoadPoint {
            workload: workloads.value(row).to_owned(),
            start_us: starts.value(row),
            revision: revisions.value(row),
            load: loads.is_valid(row).then(|| loads.value(row)),
        })
        .collect())
}
