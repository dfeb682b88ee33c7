//! Checkpoints in an object store: one object for each shard and epoch.
//!
//! An epoch belongs to whoever creates its object first, and the newest epoch is the truth. So two processors that both
//! believe to own a shard cannot both go on: one of them finds its next epoch taken, or a newer one behind it. An object
//! begins with the SHA-256 of the message that follows.

use std::sync::Arc;

use futures::TryStreamExt;
use headroom_proto::Message;
use headroom_proto::v1::ShardCheckpoint;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sha2::{Digest, Sha256};

use super::ProcessError;

/// Of the message; another one is refused.
pub(crate) const FORMAT: u32 = 3;
const HASH_BYTES: usize = 32;

/// What became of a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is the newest. These are older.
    Newest { older: Vec<Path> },
    /// Another processor has gone on with the shard.
    Overtaken,
}

/// The store of checkpoints; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints {
    store: Arc<dyn ObjectStore>,
}

impl Checkpoints {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// A shard's newest checkpoint; none when it never had one.
    pub(crate) async fn newest(&self, shard: &str) -> Result<Option<ShardCheckpoint>, ProcessError> {
        loop {
            let Some((path, _)) = self.epochs(shard).await?.pop() else { return Ok(None) };
            match self.store.get(&path).await {
                Ok(found) => return decoded(&path, &found.bytes().await?).map(Some),
                // Its owner has written a newer one meanwhile and removed this.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes this the newest, unless another processor has gone on with the shard.
    pub(crate) async fn write(&self, checkpoint: &ShardCheckpoint) -> Result<Written, ProcessError> {
        let path = Path::from(format!("{}/{:020}", checkpoint.shard, checkpoint.epoch));
        let message = checkpoint.encode_to_vec();
        let hash = Sha256::digest(&message).to_vec();
        let payload = PutPayload::from_iter([hash.into(), bytes::Bytes::from(message)]);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, payload, options).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => return Ok(Written::Overtaken),
            Err(error) => return Err(error.into()),
        }
        // A processor that was held up may create an epoch that others have passed and removed.
        let mut older = self.epochs(&checkpoint.shard).await?;
        if older.last().is_some_and(|(_, newest)| *newest > checkpoint.epoch) {
            self.remove(vec![path]).await?;
            return Ok(Written::Overtaken);
        }
        older.pop();
        Ok(Written::Newest { older: older.into_iter().map(|(path, _)| path).collect() })
    }

    /// Removes checkpoints that are not needed any more.
    pub(crate) async fn remove(&self, paths: Vec<Path>) -> Result<(), ProcessError> {
        for path in paths {
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The epochs that are there, oldest first.
    async fn epochs(&self, shard: &str) -> Result<Vec<(Path, u64)>, ProcessError> {
        let found: Vec<_> = self.store.list(Some(&Path::from(shard))).try_collect().await?;
        let epoch_of = |path: &Path| path.filename().and_then(|name| name.parse().ok());
        let mut epochs: Vec<(Path, u64)> = found
            .into_iter()
            .filter_map(|object| Some((object.location.clone(), epoch_of(&object.location)?)))
            .collect();
        epochs.sort_by_key(|(_, epoch)| *epoch);
        Ok(epochs)
    }
}

fn decoded(path: &Path, object: &[u8]) -> Result<ShardCheckpoint, ProcessError> {
    let unreadable = |problem: &str| {
        let problem = format!("{problem}: restore it from a copy");
        ProcessError::Checkpoint { path: path.to_string(), problem }
    };
    let (hash, message) = object.split_first_chunk::<HASH_BYTES>().ok_or_else(|| unreadable("cut short"))?;
    if Sha256::digest(message).as_slice() != hash {
        return Err(unreadable("damaged: its hash differs"));
    }
    let checkpoint = ShardCheckpoint::decode(message).map_err(|error| unreadable(&error.to_string()))?;
    if checkpoint.format != FORMAT {
        return Err(unreadable(&format!("format {} is not {FORMAT}", checkpoint.format)));
    }
    Ok(checkpoint)
}
