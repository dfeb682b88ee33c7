//! The state of an aggregation as a message, and back.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use headroom_proto::codec::{decode_stream, encode_stream};
use headroom_proto::v1::QueryState;
use sha2::{Digest, Sha256};

use crate::fingerprints::Fingerprints;
use crate::{FeatureQuery, WindowAggregate, WindowError};

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
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl WindowAggregate {
    /// The state as it is now.
    ///
    /// # Errors
    /// When Arrow cannot encode it.
    pub fn checkpoint(&self) -> Result<QueryState, WindowError> {
        let batches: Vec<RecordBatch> = self.panes.values().flat_map(|pane| pane.batches.iter().cloned()).collect();
        let states = encode_stream(&self.query.state_schema, &batches)
            .map_err(|error| WindowError::Checkpoint(error.to_string()))?;
        Ok(QueryState {
            query: self.query.name().to_owned(),
            fingerprint: self.query.fingerprint(),
            closed_us: self.closed.clone(),
            first_row_us: self.first_row,
            damaged_us: self.damaged.iter().map(|(start, watermark)| (*start, *watermark)).collect(),
            states: states.to_vec(),
            revisions: self.corrections.saved(),
            fingerprints: self.fingerprints.as_ref().map(Fingerprints::saved).unwrap_or_default(),
        })
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// When the state belongs to another version of the query, or cannot be read.
    pub fn restore(query: Arc<FeatureQuery>, state: &QueryState) -> Result<Self, WindowError> {
        if state.fingerprint != query.fingerprint() || state.closed_us.len() != query.sizes.len() {
            return Err(WindowError::Fingerprint { query: query.name().to_owned() });
        }
        let batches = decode_stream(&state.states).map_err(|error| WindowError::Checkpoint(error.to_string()))?;
        let mut aggregate = Self::new(query);
        aggregate.closed.clone_from(&state.closed_us);
        aggregate.first_row = state.first_row_us;
        aggregate.damaged = state.damaged_us.iter().map(|(start, watermark)| (*start, *watermark)).collect();
        if aggregate.fingerprints.is_some() {
            aggregate.fingerprints = Some(Fingerprints::restore(&state.fingerprints));
        }
        aggregate.corrections.restore(&state.revisions);
        aggregate.file(&batches)?;
        Ok(aggregate)
    }
}
