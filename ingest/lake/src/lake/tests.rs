use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::{Compaction, QueryLimits};

const DAY_US: i64 = 86_400_000_000;
const MINUTE_US: i64 = 60_000_000;

/// One minute windows from `first` on, with a feature column of that name.
fn windows(first: i64, count: i64, feature: &str) -> RecordBatch {
    let rows = usize::try_from(count).expect("small");
    let starts: Vec<i64> = (first..first + count).map(|minute| minute * MINUTE_US).collect();
    let ends: Vec<i64> = starts.iter().map(|start| start + MINUTE_US).collect();
    let dates: Vec<i32> = starts.iter().map(|start| crate::date_of(*start)).collect();
    let mut fields: Vec<Field> = Table::Windows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(feature, DataType::Float64, true));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from(dates)),
        Arc::new(StringArray::from(vec!["load"; rows])),
        Arc::new(Int32Array::from(vec![60; rows])),
        Arc::new(TimestampMicrosecondArray::from(starts).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(ends).with_timezone("UTC")),
        Arc::new(StringArray::from(vec!["shop"; rows])),
        Arc::new(Int32Array::from(vec![0; rows])),
        Arc::new(BooleanArray::from(vec![true; rows])),
        Arc::new(Float64Array::from((first..first + count).map(|n| n as f64).collect::<Vec<_>>())),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit the schema")
}

fn at<const N: usize>(positions: [(&str, i64); N]) -> Commit {
    Commit { positions: positions.into_iter().map(|(id, position)| (id.to_owned(), position)).collect() }
}

async fn answer(lake: &Lake, sql: &str) -> Vec<i64> {
    let batches = lake.query(sql, &QueryLimits::default()).await.expect(sql).collect().await.expect(sql);
    let cast = |column: &ArrayRef| arrow::compute::cast(column, &DataType::Int64).expect("numbers");
    batches
        .iter()
        .flat_map(|batch| {
            let columns: Vec<ArrayRef> = batch.columns().iter().map(cast).collect();
            (0..batch.num_rows())
                .flat_map(|row| {
                    columns
                        .iter()
                        .map(move |column| {
                            column.as_any().downcast_ref::<arrow::array::Int64Array>().expect("cast").value(row)
                        })
                        .collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

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

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_and_compaction_keep_rows_and_positions() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    let per_day = DAY_US / MINUTE_US;
    for n in 0..25 {
        let batch = windows(n * per_day / 10, 10, "load");
        lake.append(Table::Windows, vec![batch], at([("p/0", n + 1)])).await.expect("commits");
    }
    let log = folder.path().join("windows/_delta_log");
    let has_checkpoint = std::fs::read_dir(&log)
        .expect("the log's folder")
        .any(|entry| entry.expect("entry").file_name().to_string_lossy().contains(".checkpoint"));
    assert!(has_checkpoint, "a checkpoint within 25 commits");
    assert_eq!(lake.surplus_files(Table::Windows).await.expect("reads"), 22);
    let compaction = lake.compact(Table::Windows).await.expect("compacts");
    assert_eq!(compaction, Compaction { files_joined: 25, files_written: 3 });

    let reopened = Lake::open(folder.path()).await.expect("opens");
    assert_eq!(reopened.surplus_files(Table::Windows).await.expect("reads"), 0);
    assert_eq!(reopened.positions(Table::Windows, ["p/0"]).await.expect("reads").get("p/0"), Some(&25));
    assert_eq!(answer(&reopened, "SELECT count(*), count(DISTINCT window_start) FROM windows").await, [250, 250]);
    let tables = reopened.tables().await.expect("reads");
    let windows = tables.iter().find(|state| state.table == Table::Windows).expect("listed");
    assert_eq!((windows.rows, windows.files), (250, 3));
    let next = reopened.append(Table::Windows, vec![self::windows(9_000, 1, "load")], at([("p/0", 26)])).await;
    assert!(matches!(next, Ok(Appended::Committed { rows: 1, .. })), "{next:?}");
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
