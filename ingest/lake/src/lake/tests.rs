use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::testing::{answer, at, windows};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_twice_is_one() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    let commit = at([("headroom.windows/0", 10), ("shard:headroom.telemetry.metrics/0", 3)]);
    let first = lake.append(Table::Windows, vec![windows(0, 10, "load")], commit.clone()).await.expect("commits");
    assert_eq!(first, Appended::Committed { version: 1, rows: 10 });
    let again = lake.append(Table::Windows, vec![windows(0, 10, "load")], commit.clone()).await.expect("skips");
    assert_eq!(again, Appended::Repeated);

    let reopened = Lake::open(folder.path()).await.expect("opens");
    let again = reopened.append(Table::Windows, vec![windows(0, 10, "load")], commit.clone()).await.expect("skips");
    assert_eq!(again, Appended::Repeated);
    let ids = ["headroom.windows/0", "headroom.windows/1", "shard:headroom.telemetry.metrics/0"];
    assert_eq!(reopened.positions(Table::Windows, ids).await.expect("reads"), commit.positions);
    assert_eq!(answer(&reopened, "SELECT count(*), count(DISTINCT window_start) FROM windows").await, [10, 10]);
    assert_eq!(reopened.positions(Table::Plans, ids).await.expect("reads"), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn skipping_files_misses_no_microsecond() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    let batch = windows(1, 1, "load");
    let mut columns = batch.columns().to_vec();
    columns[3] = Arc::new(TimestampMicrosecondArray::from(vec![60_123_457]).with_timezone("UTC"));
    let odd = RecordBatch::try_new(batch.schema(), columns).expect("fits");
    lake.append(Table::Windows, vec![odd], at([("p/0", 1)])).await.expect("commits");
    for condition in
        ["= '1970-01-01T00:01:00.123457Z'", "> '1970-01-01T00:01:00.123456Z'", "< '1970-01-01T00:01:00.123458Z'"]
    {
        assert_eq!(answer(&lake, &format!("SELECT count(*) FROM windows WHERE window_start {condition}")).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_is_found_out() {
    let folder = tempfile::tempdir().expect("temp folder");
    let [one, other] =
        [Lake::open(folder.path()).await.expect("opens"), Lake::open(folder.path()).await.expect("opens")];
    one.append(Table::Windows, vec![windows(0, 4, "load")], at([("p/0", 4)])).await.expect("commits");
    other.append(Table::Windows, vec![windows(4, 4, "load")], at([("p/0", 8)])).await.expect("commits");
    let partly = one.append(Table::Windows, vec![windows(4, 2, "load")], at([("p/0", 6), ("p/1", 1)])).await;
    assert!(matches!(partly, Err(LakeError::Conflict { .. })), "{partly:?}");
    let repeated = one.append(Table::Windows, vec![windows(4, 2, "load")], at([("p/0", 6)])).await.expect("skips");
    assert_eq!(repeated, Appended::Repeated);
    assert_eq!(answer(&one, "SELECT count(*) FROM windows").await, [8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_at_once_one_commits() {
    let folder = tempfile::tempdir().expect("temp folder");
    let [one, other] =
        [Lake::open(folder.path()).await.expect("opens"), Lake::open(folder.path()).await.expect("opens")];
    for n in 1..=5 {
        let commit = || (vec![windows(n * 10, 10, "load")], at([("p/0", n)]));
        let ((first, to_first), (second, to_second)) = (commit(), commit());
        let (first, second) =
            tokio::join!(one.append(Table::Windows, first, to_first), other.append(Table::Windows, second, to_second));
        let committed = [&first, &second].iter().filter(|o| matches!(o, Ok(Appended::Committed { .. }))).count();
        assert_eq!(committed, 1, "{first:?} {second:?}");
        assert_eq!(answer(&one, "SELECT count(*) FROM windows").await, [n * 10]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_features_widen_the_table() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    lake.append(Table::Windows, vec![windows(0, 3, "load")], at([("p/0", 1)])).await.expect("commits");
    let mixed = vec![windows(3, 2, "load"), windows(5, 2, "errors")];
    lake.append(Table::Windows, mixed, at([("p/0", 2)])).await.expect("commits");
    let sql = "SELECT count(*), count(load), count(errors), sum(load), sum(errors) FROM windows";
    assert_eq!(answer(&lake, sql).await, [7, 5, 2, 10, 11]);
    let schema = lake.schema(Table::Windows).await.expect("reads");
    assert_eq!(schema.field_with_name("errors").expect("added").data_type(), &DataType::Float64);

    let mut clash = windows(7, 1, "load");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["high"]));
    let fields: Vec<Field> = clash.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut fields = fields;
    *fields.last_mut().expect("columns") = Field::new("load", DataType::Utf8, true);
    let mut columns = clash.columns().to_vec();
    *columns.last_mut().expect("columns") = text;
    clash = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("fits");
    let refused = lake.append(Table::Windows, vec![clash], at([("p/0", 3)])).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(lake.positions(Table::Windows, ["p/0"]).await.expect("reads").get("p/0"), Some(&2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_rows_moves_positions() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    let moved = lake.append(Table::Plans, Vec::new(), at([("p/0", 5)])).await.expect("commits");
    assert_eq!(moved, Appended::Committed { version: 1, rows: 0 });
    let reopened = Lake::open(folder.path()).await.expect("opens");
    assert_eq!(reopened.positions(Table::Plans, ["p/0"]).await.expect("reads").get("p/0"), Some(&5));
    assert_eq!(answer(&reopened, "SELECT count(*) FROM plans").await, [0]);
}

#[tokio::test]
async fn a_missing_folder_is_said() {
    let folder = tempfile::tempdir().expect("temp folder");
    let error = Lake::open(folder.path().join("nowhere")).await.expect_err("missing");
    assert!(error.is_users_fault() && error.to_string().contains("nowhere"), "{error}");
    std::fs::write(folder.path().join("file"), "x").expect("writes");
    let error = Lake::open(folder.path().join("file")).await.expect_err("a file");
    assert!(error.to_string().contains("not a folder"), "{error}");
}
