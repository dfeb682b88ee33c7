use std::num::NonZeroU64;
use std::path::Path;

use headroom_proto::EventTime;
use headroom_proto::time::Span;

use super::vacuum::Mode;
use crate::testing::{DAY_US, MINUTES_PER_DAY, all_windows, answer, at, windows};
use crate::{Appended, Expired, Lake, LakeError, OptimizeSettings, Optimized, Table};

const COMMITS: i64 = 25;
const FAR_FUTURE: EventTime = EventTime::from_micros(i64::MAX);

/// Windows over three days: ten small files on each of the first two, five on the last.
async fn filled(folder: &Path) -> Lake {
    let lake = Lake::open(folder).await.expect("opens");
    for n in 0..COMMITS {
        let batch = windows(n * MINUTES_PER_DAY / 10, 10, "load");
        lake.append(Table::Windows, vec![batch], at([("p/0", n + 1), ("once", 7)])).await.expect("commits");
    }
    lake
}

async fn files(lake: &Lake) -> u64 {
    let tables = lake.tables().await.expect("reads");
    tables.iter().find(|state| state.table == Table::Windows).expect("listed").files
}

fn log_entries(folder: &Path, ending: &str) -> usize {
    let entries = std::fs::read_dir(folder.join("windows/_delta_log")).expect("the log");
    entries.filter(|entry| entry.as_ref().expect("an entry").file_name().to_string_lossy().contains(ending)).count()
}

fn data_files(folder: &Path) -> usize {
    let days = std::fs::read_dir(folder.join("windows")).expect("the table").map(|day| day.expect("a day").path());
    let days = days.filter(|day| day.is_dir() && !day.ends_with("_delta_log"));
    days.map(|day| std::fs::read_dir(day).expect("a day").count()).sum()
}

async fn positions(folder: &Path) -> Vec<(String, i64)> {
    let reopened = Lake::open(folder).await.expect("opens");
    reopened.positions(Table::Windows, ["p/0", "once"]).await.expect("reads").into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_positions_outlive_all_upkeep() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = filled(folder.path()).await;
    let (rows, before) = (all_windows(&lake).await, positions(folder.path()).await);
    assert_eq!(before, [("once".to_owned(), 7), ("p/0".to_owned(), COMMITS)]);
    assert!(log_entries(folder.path(), ".checkpoint") > 0, "a checkpoint within {COMMITS} commits");

    let done = lake.optimize(Table::Windows, &OptimizeSettings::default()).await.expect("optimizes");
    assert_eq!((done.files_joined, done.files_written), (25, 3));
    assert_eq!((all_windows(&lake).await, positions(folder.path()).await), (rows.clone(), before.clone()));
    let again = lake.optimize(Table::Windows, &OptimizeSettings::default()).await.expect("optimizes");
    assert_eq!(again, Optimized::default());

    let planned = lake.vacuum_unchecked(Table::Windows, Span::from_micros(0), Mode::Dry).await.expect("plans");
    assert_eq!((planned.files.len(), data_files(folder.path())), (25, 28));
    let removed = lake.vacuum_unchecked(Table::Windows, Span::from_micros(0), Mode::Real).await.expect("vacuums");
    assert_eq!((removed.files.len(), data_files(folder.path())), (25, 3));
    assert_eq!((all_windows(&lake).await, positions(folder.path()).await), (rows.clone(), before.clone()));

    let entries = log_entries(folder.path(), ".json");
    let cleaned = lake.clean_log(Table::Windows, Span::from_micros(0), FAR_FUTURE).await.expect("cleans");
    assert!(cleaned > 20 && log_entries(folder.path(), ".json") < entries, "{cleaned} of {entries}");
    let reopened = Lake::open(folder.path()).await.expect("opens");
    assert_eq!((all_windows(&reopened).await, positions(folder.path()).await), (rows, before));
    let repeated = reopened.append(Table::Windows, vec![windows(0, 1, "load")], at([("p/0", 25)])).await;
    assert_eq!(repeated.expect("skips"), Appended::Repeated);
    let next = reopened.append(Table::Windows, vec![windows(9_000, 1, "load")], at([("p/0", 26)])).await;
    assert!(matches!(next, Ok(Appended::Committed { rows: 1, .. })), "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_days_with_enough_files_are_joined() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = filled(folder.path()).await;
    let closed = OptimizeSettings { closed_day_files: 10, open_day_files: 100, ..OptimizeSettings::default() };
    let done = lake.optimize(Table::Windows, &closed).await.expect("optimizes");
    assert_eq!((done.files_joined, files(&lake).await), (20, 7), "the newest day is left alone");
    let open = OptimizeSettings { open_day_files: 5, ..closed };
    lake.optimize(Table::Windows, &open).await.expect("optimizes");
    assert_eq!(files(&lake).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rewriting_keeps_to_its_pace() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = filled(folder.path()).await;
    let bytes: u64 = lake.tables().await.expect("reads").iter().map(|state| state.bytes).sum();
    let rate = NonZeroU64::new(bytes);
    let started = tokio::time::Instant::now();
    let settings = OptimizeSettings { bytes_per_s: rate, ..OptimizeSettings::default() };
    let done = lake.optimize(Table::Windows, &settings).await.expect("optimizes");
    assert_eq!(done.bytes_rewritten, bytes);
    assert!(started.elapsed().as_secs_f64() >= 1.0, "{:?} for one second's bytes", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_and_two_optimizers_at_once_lose_nothing() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = filled(folder.path()).await;
    let [one, other] =
        [Lake::open(folder.path()).await.expect("opens"), Lake::open(folder.path()).await.expect("opens")];
    let settings = OptimizeSettings::default();
    let appending = async {
        for n in COMMITS..COMMITS + 15 {
            let batch = windows(n * MINUTES_PER_DAY / 10, 10, "load");
            lake.append(Table::Windows, vec![batch], at([("p/0", n + 1)])).await.expect("commits");
        }
    };
    let optimizing = |lake: Lake| async move {
        for _ in 0..3 {
            lake.optimize(Table::Windows, &settings).await.expect("optimizes");
        }
    };
    tokio::join!(appending, optimizing(one), optimizing(other));
    let counted = "SELECT count(*), count(DISTINCT window_start), sum(load) FROM windows";
    let expected: i64 = (0..40).map(|n| (0..10).map(|row| n * MINUTES_PER_DAY / 10 + row).sum::<i64>()).sum();
    assert_eq!(answer(&lake, counted).await, [400, 400, expected]);
    assert_eq!(positions(folder.path()).await, [("once".to_owned(), 7), ("p/0".to_owned(), 40)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_past_their_retention_go_as_a_whole() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = filled(folder.path()).await;
    let now = EventTime::from_micros(2 * DAY_US + DAY_US / 2);
    let none = lake.expire(Table::Windows, Span::from_hours(72), now).await.expect("expires");
    assert_eq!(none, Expired::default());
    let some = lake.expire(Table::Windows, Span::from_hours(24), now).await.expect("expires");
    assert_eq!(some, Expired { files: 10 });
    let days = "SELECT count(*), min(window_start) / 1 FROM (SELECT CAST(window_start AS BIGINT) AS window_start FROM windows)";
    assert_eq!(answer(&lake, days).await, [150, DAY_US]);
    assert_eq!(positions(folder.path()).await, [("once".to_owned(), 7), ("p/0".to_owned(), COMMITS)]);
    assert_eq!(lake.expire(Table::Signals, Span::from_hours(1), now).await.expect("nothing"), Expired::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_tells_what_made_each_version() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = filled(folder.path()).await;
    lake.optimize(Table::Windows, &OptimizeSettings::default()).await.expect("optimizes");
    let history = lake.history(Table::Windows, 100).await.expect("reads");
    let made: Vec<&str> = history.iter().map(|entry| entry.operation.as_str()).collect();
    assert_eq!((made.len(), made.first(), made.last()), (29, Some(&"OPTIMIZE"), Some(&"CREATE TABLE")));
    let written = history.iter().find(|entry| entry.version == 4).expect("version 4");
    assert_eq!((written.rows_added, written.files_added, written.positions.get("p/0")), (10, 1, Some(&4)));
    assert!(history.iter().all(|entry| entry.at.is_some()));
    assert_eq!(lake.history(Table::Windows, 3).await.expect("reads").len(), 3);
    assert!(lake.history(Table::Plans, 3).await.expect("reads").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_spares_what_others_may_read() {
    let folder = tempfile::tempdir().expect("temp folder");
    let lake = filled(folder.path()).await;
    lake.optimize(Table::Windows, &OptimizeSettings::default()).await.expect("optimizes");
    let refused = lake.vacuum(Table::Windows, Span::from_mins(5)).await.expect_err("too short");
    assert!(matches!(refused, LakeError::Retention { .. }) && refused.is_users_fault(), "{refused}");
    let spared = lake.vacuum(Table::Windows, Span::from_mins(60)).await.expect("vacuums");
    assert!(spared.files.is_empty(), "{spared:?}");
    assert_eq!(answer(&lake, "SELECT count(*) FROM windows VERSION AS OF 10").await, [100]);
}
