use arrow::array::{BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use headroom_proto::schema::window_envelope;
use headroom_proto::topics::Topic;

use super::*;

const DAY_US: i64 = 86_400_000_000;

fn one_window(features: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let mut fields = window_envelope();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["load"])),
        Arc::new(Int32Array::from(vec![300])),
        Arc::new(TimestampMicrosecondArray::from(vec![DAY_US]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![DAY_US + 300_000_000]).with_timezone("UTC")),
        Arc::new(StringArray::from(vec!["shop"])),
        Arc::new(Int32Array::from(vec![0])),
        Arc::new(BooleanArray::from(vec![true])),
    ];
    for (name, column) in features {
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("fits");
    codec::encode_stream(&batch.schema(), &[batch]).expect("encodes").to_vec()
}

fn columns() -> Columns {
    Columns::new(&Table::Windows.schema())
}

#[test]
fn features_are_kept_as_numbers_and_texts() {
    let value = one_window(vec![
        ("requests_per_s", Arc::new(Float64Array::from(vec![1.5]))),
        ("errors", Arc::new(Int64Array::from(vec![3]))),
        ("region", Arc::new(StringArray::from(vec!["eu"]).slice(0, 1))),
    ]);
    let rows = columns().rows(&value).expect("windows");
    let [batch] = rows.as_slice() else { panic!("one batch") };
    let types: Vec<(&str, DataType)> =
        batch.schema_ref().fields().iter().skip(8).map(|f| (f.name().as_str(), f.data_type().clone())).collect();
    let expected = [("requests_per_s", DataType::Float64), ("errors", DataType::Float64), ("region", DataType::Utf8)];
    assert_eq!(types, expected);
    assert_eq!(batch.column_by_name(DATE).expect("date").as_primitive::<Date32Type>().value(0), 1);
}

#[test]
fn a_feature_that_cannot_be_a_column_is_refused() {
    let mut columns = columns();
    let number = || -> ArrayRef { Arc::new(Float64Array::from(vec![1.0])) };
    columns.rows(&one_window(vec![("load", number())])).expect("new columns are welcome");
    columns.rows(&one_window(vec![("load", number())])).expect("and come again");
    for (part, features) in [
        ("the table has `load`", vec![("load", Arc::new(StringArray::from(vec!["high"])) as ArrayRef)]),
        ("the table has `load`", vec![("Load", number())]),
        ("the table has `date`", vec![("date", number())]),
        ("twice", vec![("p99", number()), ("P99", number())]),
        ("without blanks", vec![("p99 (ms)", number())]),
        ("cast it", vec![("gap", Arc::new(arrow::array::NullArray::new(1)))]),
    ] {
        let reason = columns.rows(&one_window(features)).expect_err(part);
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let missing = {
        let schema = Arc::new(Schema::new(vec![Field::new("load", DataType::Float64, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![number()]).expect("fits");
        codec::encode_stream(&schema, &[batch]).expect("encodes")
    };
    assert!(columns.rows(&missing).expect_err("no envelope").contains("window_start"));
    assert!(columns.rows(b"nonsense").is_err());
}

#[test]
fn a_record_says_its_place() {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec().into());
    let mut record = Received {
        topic: Topic::Windows,
        partition: 0,
        offset: 0,
        key: None,
        value: Vec::new().into(),
        headers: vec![header(headers::SHARD, "t/1"), header(headers::SEQUENCE, "7")],
        time: None,
    };
    let place = Place::of(&record).expect("a place");
    assert_eq!((place.shard, place.sequence, place.watermark_us), ("t/1", 7, None));
    record.headers.push(header(headers::SCHEMA_VERSION, "99"));
    assert!(Place::of(&record).is_err_and(|reason| reason.contains("version 99")));
    record.headers = vec![header(headers::SHARD, "t/1"), header(headers::SEQUENCE, "seven")];
    assert!(Place::of(&record).is_err_and(|reason| reason.contains("seven")));
}
