use std::sync::{Mutex, PoisonError};

use headroom_ingest_lake::Lake;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::*;

const SQL: &str = "SELECT * FROM (VALUES (1, 'a', [1, 2]), (2, NULL, NULL)) AS t (number, text, list) ORDER BY number";

/// Keeps what is written to it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn written(output: Output, sql: &str) -> String {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    let mut answer = lake.query(sql, &QueryLimits::default()).await.expect(sql);
    let kept = Kept::default();
    write(output, &mut answer, Box::new(kept.clone())).await.expect("writes");
    let bytes = kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    String::from_utf8(bytes).expect("text")
}

fn args(data_dir: &Path, sql: &str) -> QueryArgs {
    QueryArgs {
        sql: sql.to_owned(),
        place: LakePlace::in_folder(data_dir),
        output: Output::Parquet,
        to: Some(data_dir.join("answer.parquet")),
        limit: None,
    }
}

fn data_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("temp folder");
    std::fs::write(folder.path().join("VERSION"), crate::data_dir::FORMAT).expect("writes");
    std::fs::create_dir(folder.path().join("lake")).expect("creates");
    folder
}

#[tokio::test]
async fn every_form_holds_the_same_rows() {
    let table = written(Output::Table, SQL).await;
    assert!(table.contains("| 1      | a    | [1, 2] |") && table.contains("| 2      |"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&written(Output::Json, SQL).await).expect("JSON");
    let expected = serde_json::json!([
        {"number": 1, "text": "a", "list": [1, 2]}, {"number": 2, "text": null, "list": null},
    ]);
    assert_eq!(json, expected);
    assert_eq!(written(Output::Csv, SQL).await, "number,text,list\n1,a,\"[1, 2]\"\n2,,\n");
}

#[tokio::test]
async fn an_empty_answer_is_one_too() {
    let sql = "SELECT plan_id, units FROM plans";
    assert!(written(Output::Table, sql).await.contains("plan_id"));
    assert_eq!(written(Output::Json, sql).await, "[]\n");
    assert_eq!(written(Output::Csv, sql).await, "plan_id,units\n");
}

#[tokio::test]
async fn a_parquet_file_is_whole_or_absent() {
    let folder = data_folder();
    let file = folder.path().join("answer.parquet");
    run(args(folder.path(), SQL)).await.expect("answers");
    let reader = ParquetRecordBatchReader::try_new(File::open(&file).expect("opens"), 10).expect("Parquet");
    assert_eq!(reader.map(|batch| batch.expect("rows").num_rows()).sum::<usize>(), 2);
    std::fs::remove_file(&file).expect("removes");

    let fails = "SELECT 1 / (value - value) FROM generate_series(1, 3)";
    run(args(folder.path(), fails)).await.expect_err("division by zero");
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("reads").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn mistakes_are_the_users() {
    let folder = data_folder();
    let nowhere = folder.path().join("nowhere");
    for (arguments, part) in [
        (args(folder.path(), "SELECT * FROM nothing"), "the tables are windows"),
        (args(folder.path(), "DELETE FROM plans"), "read-only"),
        (args(folder.path(), "SELECT"), "SQL"),
        (args(&nowhere, "SELECT 1"), "headroom demo"),
        (QueryArgs { to: Some(nowhere.join("a.csv")), ..args(folder.path(), "SELECT 1") }, "writable"),
    ] {
        let error = run(arguments).await.expect_err(part);
        assert!(error.is::<UserError>() && error.to_string().contains(part), "{part}: {error}");
    }
}
