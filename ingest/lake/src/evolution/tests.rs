use deltalake::protocol::SaveMode;

use super::*;
use crate::testing::{answer, at, windows};
use crate::{Appended, DATE};

/// Writes a table as another program would have: without the last column, with this schema version.
async fn stored(lake: &Lake, version: Option<&str>) {
    let known: StructType = Table::Windows.schema().as_ref().try_into_kernel().expect("columns");
    let last = known.fields().last().expect("columns").name().clone();
    let columns: Vec<StructField> = known.fields().filter(|field| *field.name() != last).cloned().collect();
    let empty = lake.unloaded(Table::Windows).expect("a place");
    empty
        .create()
        .with_table_name("windows")
        .with_columns(columns)
        .with_partition_columns([DATE])
        .with_configuration(version.map(|version| (PROPERTY, Some(version))))
        .with_raise_if_key_not_exists(false)
        .with_save_mode(SaveMode::ErrorIfExists)
        .await
        .expect("creates");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_table_gets_the_columns_it_lacks() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = Lake::open(folder.path()).await.expect("opens");
    stored(&lake, None).await;
    assert_eq!(answer(&lake, "SELECT count(*) FROM windows").await, [0], "it can be read as it is");
    let before = lake.schema(Table::Windows).await.expect("reads");
    assert_eq!(before.fields().len() + 1, Table::Windows.schema().fields().len());

    let done = lake.append(Table::Windows, vec![windows(0, 5, "load")], at([("p/0", 5)])).await;
    assert!(matches!(done, Ok(Appended::Committed { rows: 5, .. })), "{done:?}");
    let reopened = Lake::open(folder.path()).await.expect("opens");
    let schema = reopened.schema(Table::Windows).await.expect("reads");
    for field in Table::Windows.schema().fields() {
        assert!(schema.field_with_name(field.name()).is_ok(), "{}", field.name());
    }
    let current = reopened.loaded(Table::Windows).await.expect("reads").expect("exists");
    assert_eq!(found_version(Table::Windows, &current).expect("reads"), SCHEMA_VERSION.to_string());
    assert_eq!(answer(&reopened, "SELECT count(*), count(load) FROM windows").await, [5, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_later_program_is_refused() {
    let later = (SCHEMA_VERSION + 1).to_string();
    for version in [&later, "next"] {
        let folder = tempfile::tempdir().expect("temp folder");
        let lake = Lake::open(folder.path()).await.expect("opens");
        stored(&lake, Some(version)).await;
        let written = lake.append(Table::Windows, vec![windows(0, 5, "load")], at([("p/0", 5)])).await;
        let read = lake.query("SELECT 1 FROM windows", &crate::QueryLimits::default()).await;
        for error in [written.expect_err("refused"), read.expect_err("refused")] {
            let text = error.to_string();
            assert!(error.is_users_fault() && text.contains(&format!("schema version {version}")), "{text}");
        }
    }
}
