//! The rows of a trace, read and decoded on a thread that may block.

use std::path::Path;

use tokio::sync::mpsc;

use crate::collect::trace::{Row, TraceColumns, TraceError, TraceReader};

const CHUNK_ROWS: usize = 1_024;
/// Chunks that are read ahead.
const CHUNKS_AHEAD: usize = 4;

/// Rows in the order of the file.
pub(super) struct Rows {
    chunks: mpsc::Receiver<Result<Vec<Row>, TraceError>>,
    ready: std::vec::IntoIter<Row>,
}

impl Rows {
    pub(super) fn open(path: &Path, columns: &TraceColumns) -> Result<Self, TraceError> {
        let mut reader = TraceReader::open(path, columns)?;
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        tokio::task::spawn_blocking(move || {
            loop {
                let chunk: Result<Vec<Row>, TraceError> = reader.by_ref().take(CHUNK_ROWS).collect();
                let is_last = chunk.as_ref().map_or(true, Vec::is_empty);
                if sender.blocking_send(chunk).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Self { chunks, ready: Vec::new().into_iter() })
    }

    /// The next row; nothing at the end. May be dropped while it waits without losing a row.
    pub(super) async fn next(&mut self) -> Result<Option<Row>, TraceError> {
        if self.ready.len() == 0 {
            match self.chunks.recv().await {
                Some(chunk) => self.ready = chunk?.into_iter(),
                None => return Ok(None),
            }
        }
        Ok(self.ready.next())
    }
}
