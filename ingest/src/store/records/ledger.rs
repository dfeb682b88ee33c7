//! What became of the telemetry's rows, as rows.

use arrow::array::RecordBatch;
use headroom_ingest_lake::{Table, date_of};
use headroom_proto::v1::LedgerEntry;
use serde::Serialize;

use super::{count, required, row, time};

#[derive(Serialize)]
struct LedgerRow<'a> {
    date: i32,
    shard: &'a str,
    epoch: i64,
    from_offset: i64,
    to_offset: i64,
    watermark: Option<i64>,
    open_before: i64,
    read: i64,
    emitted: i64,
    corrected: i64,
    late: i64,
    dead: i64,
    filtered: i64,
    open_after: i64,
    windows: i64,
}

pub(super) fn ledger_row(entry: &LedgerEntry) -> Result<RecordBatch, String> {
    row(
        Table::Ledger,
        &LedgerRow {
            date: date_of(entry.watermark_us),
            shard: required("shard", &entry.shard)?,
            epoch: count(entry.epoch),
            from_offset: entry.from_offset,
            to_offset: entry.to_offset,
            watermark: time(entry.watermark_us),
            open_before: count(entry.open_before),
            read: count(entry.read),
            emitted: count(entry.emitted),
            corrected: count(entry.corrected),
            late: count(entry.late),
            dead: count(entry.dead),
            filtered: count(entry.filtered),
            open_after: count(entry.open_after),
            windows: count(entry.windows),
        },
    )
}
