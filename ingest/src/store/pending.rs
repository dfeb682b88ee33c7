//! What has been taken in since the last commit.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use headroom_ingest_broker::{Received, Record};
use headroom_ingest_lake::Commit;
use headroom_proto::headers;
use headroom_proto::topics::Topic;

/// Small batches of one schema are joined once they hold this many rows.
const JOIN_ROWS: usize = 8_192;

/// The rows and positions of one table's next commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    joined: Vec<RecordBatch>,
    small: Vec<RecordBatch>,
    small_rows: usize,
    /// Rows held.
    pub(super) rows: usize,
    /// Their memory, in bytes.
    pub(super) bytes: usize,
    /// The positions that the commit moves.
    pub(super) commit: Commit,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.commit.positions.is_empty()
    }

    /// Adds rows.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), ArrowError> {
        if self.small.first().is_some_and(|first| first.schema() != batch.schema()) {
            self.join()?;
        }
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        self.small_rows += batch.num_rows();
        self.small.push(batch);
        if self.small_rows >= JOIN_ROWS { self.join() } else { Ok(()) }
    }

    /// Moves a position; a later one of the same id replaces it.
    pub(super) fn move_to(&mut self, id: String, position: i64) {
        self.commit.positions.insert(id, position);
    }

    /// Everything, joined.
    pub(super) fn into_parts(mut self) -> Result<(Vec<RecordBatch>, Commit), ArrowError> {
        self.join()?;
        Ok((self.joined, self.commit))
    }

    fn join(&mut self) -> Result<(), ArrowError> {
        if let Some(first) = self.small.first() {
            self.joined.push(concat_batches(&first.schema(), &self.small)?);
            self.small.clear();
            self.small_rows = 0;
        }
        Ok(())
    }
}

/// The position that counts a partition's offsets.
pub(super) fn offset_id(topic: Topic, partition: i32) -> String {
    format!("{}/{partition}", topic.name())
}

/// A record as it came, with what is wrong with it.
pub(super) fn dead_letter(record: &Received, reason: String) -> Record {
    let mut letter = Record::new(Topic::DeadLetter, record.value.clone());
    letter.key.clone_from(&record.key);
    letter.headers.clone_from(&record.headers);
    letter.time = record.time;
    letter.header(headers::DEAD_REASON, reason).header(headers::DEAD_ORIGIN, record.origin())
}

/// The offset behind the last record of each partition.
pub(super) type NextOffsets = BTreeMap<(Topic, i32), i64>;
