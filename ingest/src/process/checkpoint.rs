//! Checkpoints in an object store: one object an epoch, and a manifest that names the newest, swapped atomically.

use std::sync::Arc;

use headroom_ingest_window::AggregateState;
use headroom_proto::topics::Topic;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use super::ProcessError;
use super::output::{SavedRecord, shard_name};

const FORMAT: u32 = 2;
const MANIFEST: &str = "manifest.json";

/// Everything that a restart needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    format: u32,
    pub(crate) epoch: u64,
    shards: Vec<ShardState>,
    /// Output that may not have been sent.
    pub(crate) pending: Vec<SavedRecord>,
}

/// What a restart needs of one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShardState {
    pub(crate) name: String,
    pub(crate) next_offset: Option<i64>,
    pub(crate) watermark_us: Option<i64>,
    pub(crate) sequence: u64,
    pub(crate) aggregates: Vec<(String, AggregateState)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    epoch: u64,
}

/// The store of checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    store: Arc<dyn ObjectStore>,
    epoch: u64,
}

impl Checkpoint {
    pub(crate) fn shard(&self, topic: Topic, partition: i32) -> Option<&ShardState> {
        let name = shard_name(topic, partition);
        self.shards.iter().find(|shard| shard.name == *name)
    }
}

impl Checkpoints {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, epoch: 0 }
    }

    /// The newest checkpoint; none on a new store.
    pub(crate) async fn newest(&mut self) -> Result<Option<Checkpoint>, ProcessError> {
        let Some(bytes) = self.read(&Path::from(MANIFEST)).await? else { return Ok(None) };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| unreadable(MANIFEST, e.to_string()))?;
        let path = object_of(manifest.epoch);
        let bytes = self.read(&path).await?.ok_or_else(|| unreadable(path.as_ref(), "missing".to_owned()))?;
        let checkpoint: Checkpoint =
            serde_json::from_slice(&bytes).map_err(|e| unreadable(path.as_ref(), e.to_string()))?;
        if checkpoint.format != FORMAT {
            return Err(unreadable(path.as_ref(), format!("format {} is not {FORMAT}", checkpoint.format)));
        }
        self.epoch = checkpoint.epoch;
        Ok(Some(checkpoint))
    }

    /// Makes this the newest, and deletes the one before.
    pub(crate) async fn write(
        &mut self,
        shards: Vec<ShardState>,
        pending: Vec<SavedRecord>,
    ) -> Result<(), ProcessError> {
        let before = self.epoch;
        self.epoch += 1;
        let checkpoint = Checkpoint { format: FORMAT, epoch: self.epoch, shards, pending };
        self.put(&object_of(self.epoch), &checkpoint).await?;
        self.put(&Path::from(MANIFEST), &Manifest { epoch: self.epoch }).await?;
        match self.store.delete(&object_of(before)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn put(&self, path: &Path, value: &impl Serialize) -> Result<(), ProcessError> {
        let bytes = serde_json::to_vec(value).map_err(|e| unreadable(path.as_ref(), e.to_string()))?;
        self.store.put(path, PutPayload::from(bytes)).await?;
        Ok(())
    }

    async fn read(&self, path: &Path) -> Result<Option<bytes::Bytes>, ProcessError> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn object_of(epoch: u64) -> Path {
    Path::from(format!("epoch-{epoch:020}.json"))
}

fn unreadable(path: &str, problem: String) -> ProcessError {
    let problem = format!("{problem}: restore the folder from a copy, or remove it to read the topics from the start");
    ProcessError::Checkpoint { path: path.to_owned(), problem }
}
