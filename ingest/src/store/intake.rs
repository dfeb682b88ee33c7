//! What becomes of each record: rows, a repeat, a dead letter.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use headroom_ingest_broker::Received;
use headroom_ingest_lake::{Lake, LakeError, Table};
use headroom_proto::time::Span;
use headroom_proto::v1::{Forecast, LedgerEntry};
use headroom_proto::{EventTime, topics::Topic};

use super::records::message;
use super::windows::{Columns, Place};
use super::{forecasts, records};

/// Begins the ids of the positions that keep how far event time has come in each shard.
pub(super) const WATERMARK_PREFIX: &str = "watermark:";

/// What became of a record.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is these rows.
    Rows(Vec<RecordBatch>),
    /// It has been stored before.
    Repeat,
    /// A forecast between those that are kept.
    Thinned,
    /// It cannot be read, for this reason.
    Dead(String),
}

/// A fate, and the positions that move with it.
pub(super) type Taken = (Fate, Vec<(String, i64)>);

/// Remembers what has been seen. What it does not know it asks the lake.
pub(super) struct Intake {
    lake: Arc<Lake>,
    forecast_every: Span,
    columns: Columns,
    seen: HashMap<String, Option<i64>>,
}

impl Intake {
    pub(super) async fn new(lake: Arc<Lake>, forecast_every: Span) -> Result<Self, LakeError> {
        let columns = Columns::new(&lake.schema(Table::Windows).await?);
        Ok(Self { lake, forecast_every, columns, seen: HashMap::new() })
    }

    /// Decides about one record of a table's topic.
    ///
    /// # Errors
    /// When the lake cannot be asked.
    pub(super) async fn take(&mut self, table: Table, record: &Received) -> Result<Taken, LakeError> {
        match table {
            Table::Windows => self.take_windows(record).await,
            Table::Forecasts => self.take_forecast(table, "origin", record).await,
            Table::Outlooks => self.take_forecast(table, "outlook", record).await,
            Table::Ledger => self.take_ledger(record).await,
            Table::Signals
            | Table::Plans
            | Table::Actions
            | Table::Outcomes
            | Table::Models
            | Table::Derived
            | Table::Backtests => {
                let rows = records::rows(table, record);
                Ok((rows.map_or_else(Fate::Dead, |rows| Fate::Rows(vec![rows])), Vec::new()))
            }
        }
    }

    /// The event time that a processor's shard had reached when its last stored windows were made.
    pub(super) async fn watermark(&mut self, topic: Topic, partition: i32) -> Result<Option<i64>, LakeError> {
        self.last(Table::Windows, &watermark_id(&format!("{}/{partition}", topic.name()))).await
    }

    /// A shard counts its records over all partitions, so the last of them is kept for each partition.
    async fn take_windows(&mut self, record: &Received) -> Result<Taken, LakeError> {
        let place = match Place::of(record) {
            Ok(place) => place,
            Err(reason) => return Ok((Fate::Dead(reason), Vec::new())),
        };
        let id = format!("shard:{}/{}", place.shard, record.partition);
        if self.last(Table::Windows, &id).await?.is_some_and(|last| place.sequence <= last) {
            return Ok((Fate::Repeat, Vec::new()));
        }
        let mut moved = vec![self.move_to(id, place.sequence)];
        if let Some(watermark_us) = place.watermark_us {
            let id = watermark_id(place.shard);
            let last = self.last(Table::Windows, &id).await?;
            moved.push(self.move_to(id, last.map_or(watermark_us, |last| last.max(watermark_us))));
        }
        Ok((self.columns.rows(&record.value).map_or_else(Fate::Dead, Fate::Rows), moved))
    }

    /// A workload's forecasts come in the order of their origins. The first in each `forecast_every` is kept.
    async fn take_forecast(&mut self, table: Table, kind: &str, record: &Received) -> Result<Taken, LakeError> {
        let forecast: Forecast = match message(record, "Forecast") {
            Ok(forecast) => forecast,
            Err(reason) => return Ok((Fate::Dead(reason), Vec::new())),
        };
        let id = format!("{kind}:{}", forecast.workload);
        let last = self.last(table, &id).await?;
        if last.is_some_and(|last| forecast.origin_us <= last) {
            return Ok((Fate::Repeat, Vec::new()));
        }
        let slot = |origin_us: i64| EventTime::from_micros(origin_us).floor(self.forecast_every);
        let is_kept = last.is_none_or(|last| slot(last) < slot(forecast.origin_us));
        let fate = match forecasts::rows(&forecast) {
            Err(reason) => return Ok((Fate::Dead(reason), Vec::new())),
            Ok(rows) if is_kept => Fate::Rows(vec![rows]),
            Ok(_) => Fate::Thinned,
        };
        Ok((fate, vec![self.move_to(id, forecast.origin_us)]))
    }

    /// A shard's epochs come in order.
    async fn take_ledger(&mut self, record: &Received) -> Result<Taken, LakeError> {
        let entry: LedgerEntry = match message(record, "LedgerEntry") {
            Ok(entry) => entry,
            Err(reason) => return Ok((Fate::Dead(reason), Vec::new())),
        };
        let (id, epoch) = (format!("epoch:{}", entry.shard), i64::try_from(entry.epoch).unwrap_or(i64::MAX));
        if self.last(Table::Ledger, &id).await?.is_some_and(|last| epoch <= last) {
            return Ok((Fate::Repeat, Vec::new()));
        }
        let rows = records::rows(Table::Ledger, record);
        Ok((rows.map_or_else(Fate::Dead, |rows| Fate::Rows(vec![rows])), vec![self.move_to(id, epoch)]))
    }

    async fn last(&mut self, table: Table, id: &str) -> Result<Option<i64>, LakeError> {
        if let Some(known) = self.seen.get(id) {
            return Ok(*known);
        }
        let stored = self.lake.positions(table, [id]).await?.remove(id);
        self.seen.insert(id.to_owned(), stored);
        Ok(stored)
    }

    fn move_to(&mut self, id: String, position: i64) -> (String, i64) {
        self.seen.insert(id.clone(), Some(position));
        (id, position)
    }
}

fn watermark_id(shard: &str) -> String {
    format!("{WATERMARK_PREFIX}{shard}")
}
