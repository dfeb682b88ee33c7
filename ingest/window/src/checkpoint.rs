//! The state of an aggregation as bytes, and back.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use headroom_proto::codec::{decode_stream, encode_stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{FeatureQuery, WindowAggregate, WindowError};

/// What a restart needs of one query over one shard.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AggregateState {
    /// SQL, state schema and DataFusion version, hashed.
    pub fingerprint: String,
    /// For each window length, up to where windows have been emitted, in microseconds.
    pub closed: Vec<i64>,
    /// The smallest event time of the shard, in microseconds.
    pub first_row: Option<i64>,
    /// Starts of panes that lack rows, each with the watermark at which the first was missed, in microseconds.
    pub damaged: Vec<(i64, i64)>,
    /// The panes' states as an Arrow IPC stream.
    #[serde(with = "hex_bytes")]
    pub states: Vec<u8>,
}

impl FeatureQuery {
    /// Identifies states that this query can go on from.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for part in [
            self.config.sql.as_str(),
            &self.config.windows.join(","),
            &format!("{:?}", self.state_schema),
            datafusion::DATAFUSION_VERSION,
        ] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hex(&hash.finalize())
    }
}

impl WindowAggregate {
    /// The state as it is now.
    ///
    /// # Errors
    /// When Arrow cannot encode it.
    pub fn checkpoint(&self) -> Result<AggregateState, WindowError> {
        let batches: Vec<RecordBatch> = self.panes.values().flat_map(|pane| pane.batches.iter().cloned()).collect();
        let states = encode_stream(&self.query.state_schema, &batches)
            .map_err(|error| WindowError::Checkpoint(error.to_string()))?;
        Ok(AggregateState {
            fingerprint: self.query.fingerprint(),
            closed: self.closed.clone(),
            first_row: self.first_row,
            damaged: self.damaged.iter().map(|(start, watermark)| (*start, *watermark)).collect(),
            states: states.to_vec(),
        })
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// When the state belongs to another version of the query, or cannot be read.
    pub fn restore(query: Arc<FeatureQuery>, state: &AggregateState) -> Result<Self, WindowError> {
        if state.fingerprint != query.fingerprint() || state.closed.len() != query.sizes.len() {
            return Err(WindowError::Fingerprint { query: query.name().to_owned() });
        }
        let batches = decode_stream(&state.states).map_err(|error| WindowError::Checkpoint(error.to_string()))?;
        let mut aggregate = Self::new(query);
        aggregate.closed.clone_from(&state.closed);
        aggregate.first_row = state.first_row;
        aggregate.damaged = state.damaged.iter().copied().collect();
        aggregate.file(&batches)?;
        Ok(aggregate)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks_exact(2).map(|pair| match pair {
            [high, low] => nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        });
        pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}
