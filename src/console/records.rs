//! Reads records of the topics into the view.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use headroom_actuator_decide::audit::succession::Succession;
use headroom_ingest_broker::Received;
use headroom_proto::codec::{self, CodecError};
use headroom_proto::signal::{self, SignalError};
use headroom_proto::topics::Topic;
use headroom_proto::v1::{ActionRecord, Forecast, Outcome, Plan, Term};
use headroom_proto::{DecodeError, EventTime, Message, headers, schema};

use crate::console::Scale;
use crate::console::view::{LoadPoint, Update, View, ViewError};

/// Which moves count, by partition of the actions topic.
pub(super) type Terms = BTreeMap<i32, Succession>;

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
    Message(#[from] DecodeError),
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
pub(super) fn read(record: &Received, scale: &Scale, terms: &mut Terms, view: &mut View) -> Result<(), RecordError> {
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
            let term = terms.entry(record.partition).or_default();
            match record.header(headers::MESSAGE) {
                Some("Term") => term.begin(Term::decode(value)?.term),
                None | Some("ActionRecord") => {
                    let action = ActionRecord::decode(value)?;
                    if term.counts(action.term) {
                        // Its term may have begun before what is read here.
                        term.begin(action.term);
                        view.apply(Update::Action(action))?;
                    }
                }
                Some(_) => {}
            }
        }
        Topic::Outcomes => view.apply(Update::Outcome(Outcome::decode(value)?))?,
        Topic::Queries
        | Topic::Metrics
        | Topic::Outlooks
        | Topic::Models
        | Topic::Checkpoints
        | Topic::Ledger
        | Topic::Late
        | Topic::DeadLetter => {}
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use headroom_proto::Span;
    use headroom_proto::v1::ActionState;

    use super::*;
    use crate::console::view::{Limits, Request};

    const LIMITS: Limits = Limits { points: 10, actions: 10, signals: 10, workloads: 10 };

    fn scale() -> Scale {
        Scale {
            target: "requests_per_s".to_owned(),
            window: Span::from_mins(5),
            unit_capacity: 1.0,
            violation_utilisation: 0.85,
        }
    }

    fn received(topic: Topic, value: impl Into<axum::body::Bytes>) -> Received {
        Received { topic, partition: 0, offset: 0, key: None, value: value.into(), headers: Vec::new(), time: None }
    }

    /// Two windows that end at 300 s, of one minute and of five, with a gap in the second workload.
    fn windows(feature: &str) -> RecordBatch {
        let micros = |times: [i64; 3]| TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["load"; 3])),
            Arc::new(Int32Array::from(vec![60, 300, 300])),
            Arc::new(micros([240_000_000, 0, 0])),
            Arc::new(micros([300_000_000; 3])),
            Arc::new(StringArray::from(vec!["a", "a", "b"])),
            Arc::new(Int32Array::from(vec![0; 3])),
            Arc::new(BooleanArray::from(vec![true; 3])),
            Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), None])),
        ];
        let mut fields = schema::window_envelope();
        fields.push(Field::new(feature, DataType::Float64, true));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit the schema")
    }

    fn points_of(view: &View, workload: &str) -> serde_json::Value {
        let recent = Span::from_hours(1);
        let state = view.state(&Request { workload: Some(workload.to_owned()), recent, ..Request::default() });
        serde_json::to_value(state).expect("serialises")["points"].clone()
    }

    #[test]
    fn windows_of_the_target_and_the_shown_length_are_taken() {
        let mut view = View::new(LIMITS, Span::from_hours(1), Span::from_mins(5));
        for feature in ["requests_per_s", "errors_per_s"] {
            let batch = windows(feature);
            let value = codec::encode_stream(&batch.schema(), &[batch]).expect("encodes");
            read(&received(Topic::Windows, value), &scale(), &mut Terms::default(), &mut view).expect("reads");
        }
        assert_eq!(points_of(&view, "a"), serde_json::json!([[0, 2.0, null]]));
        assert_eq!(points_of(&view, "b"), serde_json::json!([[0, null, null]]));
    }

    #[test]
    fn what_is_not_what_its_topic_promises_is_an_error() {
        let mut view = View::new(LIMITS, Span::from_hours(1), Span::from_mins(5));
        for topic in [Topic::Windows, Topic::Signals, Topic::Forecasts, Topic::Plans, Topic::Actions, Topic::Outcomes] {
            assert!(
                read(&received(topic, "not a record"), &scale(), &mut Terms::default(), &mut view).is_err(),
                "{topic:?}"
            );
        }
        let mut switch = received(Topic::Actions, "a switch is not shown");
        switch.headers.push((headers::MESSAGE.to_owned(), "Switch".into()));
        read(&switch, &scale(), &mut Terms::default(), &mut view).expect("passed over");
    }

    #[test]
    fn a_move_of_an_actuator_whose_term_was_over_is_not_shown() {
        let (mut view, mut terms) = (View::new(LIMITS, Span::from_hours(1), Span::from_mins(5)), Terms::default());
        let record = |partition: i32, message: &str, value: Vec<u8>| {
            let headers = vec![(headers::MESSAGE.to_owned(), message.to_owned().into())];
            Received { partition, headers, ..received(Topic::Actions, value) }
        };
        let moved = |id: &str, term: u64| ActionRecord {
            action_id: id.to_owned(),
            workload: "shop".to_owned(),
            state: ActionState::Applied.into(),
            sequence: term,
            term,
            ..ActionRecord::default()
        };
        let mut take = |record: &Received| read(record, &scale(), &mut terms, &mut view).expect("reads");
        // The first term began before what is read here.
        take(&record(0, "ActionRecord", moved("first", 1).encode_to_vec()));
        take(&record(0, "Term", Term { term: 2, ..Term::default() }.encode_to_vec()));
        take(&record(0, "ActionRecord", moved("late", 1).encode_to_vec()));
        take(&record(0, "ActionRecord", moved("second", 2).encode_to_vec()));
        // In the other partition the second term has not begun yet.
        take(&record(1, "ActionRecord", moved("elsewhere", 1).encode_to_vec()));
        let state = serde_json::to_value(view.state(&Request::default())).expect("serialises");
        let mut shown: Vec<&str> =
            state["actions"].as_array().expect("actions").iter().filter_map(|action| action["id"].as_str()).collect();
        shown.sort_unstable();
        assert_eq!(shown, ["elsewhere", "first", "second"]);
    }
}
