use arrow::util::pretty::pretty_format_batches;

use super::*;

async fn empty() -> (tempfile::TempDir, Lake) {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    (folder, lake)
}

async fn refused(lake: &Lake, sql: &str) -> LakeError {
    match lake.query(sql, &QueryLimits::default()).await {
        Err(error) => error,
        Ok(rows) => rows.collect().await.expect_err(sql),
    }
}

#[tokio::test]
async fn an_empty_lake_answers_with_no_rows() {
    let (_folder, lake) = empty().await;
    for table in Table::ALL {
        let rows = lake.query(&format!("SELECT * FROM {table}"), &QueryLimits::default()).await.expect("a plan");
        assert_eq!(rows.schema().fields().len(), table.schema().fields().len(), "{table}");
        assert!(rows.collect().await.expect("runs").is_empty(), "{table}");
    }
    let rows = lake.query("SHOW TABLES", &QueryLimits::default()).await.expect("a plan").collect().await.expect("runs");
    let text = pretty_format_batches(&rows).expect("formats").to_string();
    assert!(Table::ALL.iter().all(|table| text.contains(table.name())), "{text}");
    assert_eq!(lake.version(Table::Windows).await.expect("reads"), None);
}

#[tokio::test]
async fn whatever_writes_is_refused() {
    let (folder, lake) = empty().await;
    let target = folder.path().join("out.csv");
    for sql in [
        "DROP TABLE windows",
        "DELETE FROM windows",
        "UPDATE windows SET revision = 1",
        "INSERT INTO plans SELECT * FROM plans",
        "CREATE TABLE mine AS SELECT * FROM windows",
        "CREATE VIEW mine AS SELECT * FROM windows",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "EXPLAIN ANALYZE INSERT INTO plans SELECT * FROM plans",
        "BEGIN",
        &format!("COPY windows TO '{}' STORED AS CSV", target.display()),
        &format!("EXPLAIN COPY windows TO '{}' STORED AS CSV", target.display()),
    ] {
        let error = refused(&lake, sql).await;
        assert!(matches!(error, LakeError::ReadOnly(_)), "{sql}: {error}");
    }
    assert!(!target.exists());
    let files = refused(&lake, "SELECT * FROM '/etc/passwd'").await;
    assert!(matches!(files, LakeError::UnknownTable { .. }), "{files}");
}

#[tokio::test]
async fn a_mistake_is_named_and_placed() {
    let (_folder, lake) = empty().await;
    for (sql, parts) in [
        ("SELECT * FROM window", vec!["`window`", "windows, signals, forecasts"]),
        ("SELECT workload FROM windows w JOIN nothing n ON true", vec!["`nothing`"]),
        ("SELECT worklod\nFROM windows", vec!["worklod", "workload", "line 1, column 8"]),
        ("SELEC 1", vec!["SELEC", "Column: 1"]),
        ("SELECT * FROM windows WHERE", vec!["SQL:"]),
        ("SELECT 1; SELECT 2", vec!["single"]),
        ("", vec!["SQL:"]),
    ] {
        let error = refused(&lake, sql).await;
        assert!(error.is_users_fault(), "{sql}: {error:?}");
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{sql}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    let (_folder, lake) = empty().await;
    let numbers = "SELECT value FROM generate_series(1, 100000)";
    let limits = QueryLimits { rows: Some(10), ..QueryLimits::default() };
    let mut rows = lake.query(numbers, &limits).await.expect("a plan");
    assert_eq!(rows.next().await.expect("runs").expect("a batch").num_rows(), 10);
    assert!(rows.next().await.expect("ends").is_none() && rows.is_truncated());

    let exact = QueryLimits { rows: Some(3), ..QueryLimits::default() };
    let mut rows = lake.query("SELECT value FROM generate_series(1, 3)", &exact).await.expect("a plan");
    while rows.next().await.expect("runs").is_some() {}
    assert!(!rows.is_truncated());

    let narrow = QueryLimits { memory_bytes: 100_000, spill_bytes: 100_000, ..QueryLimits::default() };
    let sql = "SELECT array_agg(a.value) FROM generate_series(1, 3000) a, generate_series(1, 3000) b GROUP BY b.value";
    let error = lake.query(sql, &narrow).await.expect("a plan").collect().await.expect_err("too much");
    assert!(matches!(error, LakeError::Limit { limit: "disk", .. }), "{error}");
    let narrow = QueryLimits { memory_bytes: 1_000, ..QueryLimits::default() };
    let sql = "SELECT value, count(*) FROM generate_series(1, 99999) GROUP BY value";
    let error = lake.query(sql, &narrow).await.expect("a plan").collect().await.expect_err("too much");
    assert!(matches!(error, LakeError::Limit { limit: "memory", .. }), "{error}");

    let short = QueryLimits { time: Duration::from_millis(50), ..QueryLimits::default() };
    let sql = "SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let outcome = match lake.query(sql, &short).await {
        Err(error) => Err(error),
        Ok(rows) => rows.collect().await,
    };
    let error = outcome.expect_err("too slow");
    assert!(matches!(error, LakeError::Limit { limit: "time", .. }), "{error}");
}
