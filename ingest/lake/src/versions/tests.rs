use super::*;
use crate::QueryLimits;
use crate::testing::{answer, at, windows};

async fn three_versions(folder: &std::path::Path) -> Lake {
    let lake = Lake::open(folder).await.expect("opens");
    for n in 0..3 {
        let batch = windows(n * 10, 10, "load");
        lake.append(Table::Windows, vec![batch], at([("p/0", n + 1)])).await.expect("commits");
    }
    lake
}

async fn refused(lake: &Lake, sql: &str) -> String {
    match lake.query(sql, &QueryLimits::default()).await {
        Err(error) => {
            assert!(error.is_users_fault(), "{sql}: {error:?}");
            error.to_string()
        }
        Ok(_) => panic!("{sql} is answered"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_versions_answer_beside_the_newest() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = three_versions(folder.path()).await;
    for (sql, expected) in [
        ("SELECT count(*) FROM windows", vec![30]),
        ("SELECT count(*) FROM windows VERSION AS OF 0", vec![0]),
        ("SELECT count(windows.workload) FROM windows version as of 2 WHERE windows.load >= 5", vec![15]),
        (
            "SELECT count(*) FROM windows AS w JOIN windows VERSION AS OF 1 AS o ON o.window_start = w.window_start",
            vec![10],
        ),
        (
            "WITH old AS (SELECT * FROM windows VERSION AS OF 1)\nSELECT (SELECT count(*) FROM old) AS old, count(*) \
             FROM \"windows\" VERSION AS OF 2",
            vec![10, 20],
        ),
        ("SELECT count(*) FROM windows TIMESTAMP AS OF '2100-01-01T00:00:00Z'", vec![30]),
        ("SELECT length('windows VERSION AS OF 1')", vec![23]),
    ] {
        assert_eq!(answer(&lake, sql).await, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_there_names_those_that_are() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = three_versions(folder.path()).await;
    for (sql, parts) in [
        ("SELECT 1 FROM windows VERSION AS OF 12", vec!["no version 12", "versions 0 to 3"]),
        ("SELECT 1 FROM windows TIMESTAMP AS OF '1999-01-01'", vec!["no version of 1999-01-01", "versions 0 to 3"]),
        ("SELECT 1 FROM plans VERSION AS OF 1", vec!["plans", "nothing has been written"]),
        ("SELECT 1 FROM window VERSION AS OF 1", vec!["`window`", "windows, signals"]),
        ("SELECT 1 FROM windows VERSION AS OF x", vec!["whole number"]),
        ("SELECT 1 FROM windows TIMESTAMP AS OF 'yesterday'", vec!["`yesterday`", "RFC 3339"]),
        ("SELECT 1 FROM windows TIMESTAMP AS OF 5", vec!["in quotes"]),
        ("SELECT windows VERSION AS OF 1", vec!["behind the name of a table"]),
        ("SELECT a_mistake,\n 1 FROM windows VERSION AS OF 1", vec!["a_mistake", "line 1, column 8"]),
    ] {
        let error = refused(&lake, sql).await;
        assert!(parts.iter().all(|part| error.contains(part)), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vacuum_took_is_said() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = three_versions(folder.path()).await;
    lake.optimize(Table::Windows, &crate::OptimizeSettings::default()).await.expect("optimizes");
    for day in std::fs::read_dir(folder.path().join("windows/date=1970-01-01")).expect("a day") {
        let file = day.expect("a file").path();
        let kept = lake.loaded(Table::Windows).await.expect("reads").expect("exists");
        let is_needed =
            kept.get_file_uris().expect("files").any(|uri| file.ends_with(uri.rsplit('/').next().unwrap_or("")));
        if !is_needed {
            std::fs::remove_file(file).expect("removes");
        }
    }
    assert_eq!(answer(&lake, "SELECT count(*) FROM windows VERSION AS OF 4").await, [30]);
    let error = refused(&lake, "SELECT 1 FROM windows VERSION AS OF 2").await;
    assert!(error.contains("versions 4 to 4"), "{error}");
}
