//! The tables against one batch query over the same input, and the ledger against what was sent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use headroom_ingest_broker::Broker;
use headroom_ingest_lake::{Lake, QueryLimits};
use headroom_proto::topics::Topic;
use headroom_proto::{codec, headers, schema};
use tokio::time::Instant;

use crate::input::{AGGREGATES, Sent};

const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until everything has been taken in, then compares.
pub(crate) async fn tables_hold(broker: &Broker, folder: &Path, sent: &Sent) {
    let lake = Lake::open_in(&crate::processor::storage(folder)).expect("opens");
    let deadline = Instant::now() + PATIENCE;
    let expected = in_one_batch(sent).await;
    let mut found = Vec::new();
    while found.len() < expected.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
        found = windows(&lake).await;
    }
    let differing = expected.iter().zip(&found).find(|(expected, found)| expected != found);
    assert_eq!(differing, None, "the first window that differs");
    assert_eq!(found.len(), expected.len(), "windows");
    let (late, dead) = (sent.late + sent.corrected, sent.dead);
    assert!(late > 100 && dead > 10, "{late} rows late, {dead} dead: too few");
    let doubled = "SELECT count(*) FROM (SELECT 1 FROM windows GROUP BY window_size_s, window_start, workload, revision
        HAVING count(*) > 1)";
    assert_eq!(asked(&lake, doubled).await.iter().map(first_number).sum::<i64>(), 0, "a revision came twice");
    assert_eq!(late_rows(broker).await, sent.late, "late rows");
    ledger_balances(&lake, sent).await;
}

/// A line for each window as it was emitted last, in order.
async fn windows(lake: &Lake) -> Vec<String> {
    let sql = "SELECT window_size_s, window_start, workload, n, total, least, most FROM (
            SELECT *, row_number() OVER (PARTITION BY window_size_s, window_start, workload ORDER BY revision DESC) AS back
            FROM windows)
        WHERE back = 1 ORDER BY 1, 2, 3";
    lines(&asked(lake, sql).await)
}

async fn in_one_batch(sent: &Sent) -> Vec<String> {
    let context = SessionContext::new();
    let table = MemTable::try_new(schema::metrics(), vec![sent.kept.clone()]).expect("a table");
    context.register_table("metrics", Arc::new(table)).expect("registers");
    let of_length = |interval: &str, seconds: i32| {
        format!(
            "SELECT {seconds} AS window_size_s, date_bin(INTERVAL '{interval}', event_time) AS window_start, workload, \
             {AGGREGATES} FROM metrics GROUP BY 2, 3"
        )
    };
    let sql = format!("{} UNION ALL {} ORDER BY 1, 2, 3", of_length("10 seconds", 10), of_length("1 minute", 60));
    lines(&context.sql(&sql).await.expect("plans").collect().await.expect("runs"))
}

/// Every row is in exactly one epoch of its shard, and every epoch balances.
async fn ledger_balances(lake: &Lake, sent: &Sent) {
    let sql =
        "SELECT shard, epoch, from_offset, to_offset, open_before, read, emitted, corrected, late, dead, filtered,
            open_after
        FROM ledger WHERE shard LIKE '%metrics%' ORDER BY shard, epoch";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let read: i64 = asked(lake, "SELECT sum(read) FROM ledger").await.iter().map(first_number).sum();
        if u64::try_from(read).is_ok_and(|read| read >= sent.rows) || Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (mut sums, mut last) = ([0; 5], BTreeMap::new());
    for batch in asked(lake, sql).await {
        let shards = cast(batch.column(0), &DataType::Utf8).expect("texts");
        for row in 0..batch.num_rows() {
            let shard = shards.as_string::<i32>().value(row).to_owned();
            let number = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
            let [epoch, from, to, before, read, emitted] = [1, 2, 3, 4, 5, 6].map(number);
            let [corrected, late, dead, filtered, after] = [7, 8, 9, 10, 11].map(number);
            let told = emitted + corrected + late + dead + filtered + after;
            assert_eq!(before + read, told, "{shard} epoch {epoch}");
            let next = last.insert(shard.clone(), (epoch, to, after)).unwrap_or((0, from, 0));
            assert_eq!(next, (epoch - 1, from, before), "{shard} epoch {epoch} goes on from the last");
            for (sum, value) in sums.iter_mut().zip([read, emitted, corrected, late, dead]) {
                *sum += value;
            }
        }
    }
    assert!(last.values().all(|(_, _, open)| *open == 0), "no row is left: {last:?}");
    let [rows, corrected, late, dead] =
        [sent.rows, sent.corrected, sent.late, sent.dead].map(|count| i64::try_from(count).expect("small"));
    let emitted = rows - corrected - late - dead;
    assert_eq!(sums, [rows, emitted, corrected, late, dead], "read, emitted, corrected, late, dead");
}

fn first_number(batch: &RecordBatch) -> i64 {
    batch.column(0).as_primitive::<Int64Type>().iter().flatten().sum()
}

/// The rows on the late topic; a record that was sent again has the same origin.
async fn late_rows(broker: &Broker) -> u64 {
    let mut by_origin = BTreeMap::new();
    for (partition, _, _) in broker.ends(Topic::Late).await.expect("answers") {
        for record in broker.tail(Topic::Late, partition, usize::MAX).await.expect("reads") {
            let rows = codec::decode_bare(&record.value, schema::metrics()).expect("metrics").num_rows();
            by_origin.insert(record.header(headers::DEAD_ORIGIN).expect("an origin").to_owned(), rows);
        }
    }
    u64::try_from(by_origin.into_values().sum::<usize>()).expect("small")
}

async fn asked(lake: &Lake, sql: &str) -> Vec<RecordBatch> {
    // Before the first commit there is nothing to ask.
    let Ok(rows) = lake.query(sql, &QueryLimits::default()).await else { return Vec::new() };
    rows.collect().await.expect("answers")
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let Some(first) = batches.first() else { return Vec::new() };
    let all = concat_batches(&first.schema(), batches).expect("one schema");
    let columns: Vec<_> = all.columns().iter().map(|column| cast(column, &DataType::Utf8).expect("texts")).collect();
    let cell = |column: &Arc<dyn Array>, row: usize| column.as_string::<i32>().value(row).to_owned();
    (0..all.num_rows())
        .map(|row| columns.iter().map(|column| cell(column, row)).collect::<Vec<_>>().join(" "))
        .collect()
}
