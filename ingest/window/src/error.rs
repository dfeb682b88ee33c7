//! What can be wrong with a feature query or its state.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;

/// A feature query that cannot stream, or a step of it that failed.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// The declaration cannot be used.
    #[error("feature query `{query}`: {problem}")]
    Refused {
        /// The query's name.
        query: String,
        /// What is wrong, and what to write instead.
        problem: String,
    },
    /// A step of the aggregation failed.
    #[error("feature query `{query}`: {source}")]
    Failed {
        /// The query's name.
        query: String,
        /// What DataFusion said.
        source: DataFusionError,
    },
    /// A checkpoint of other SQL, another schema or another DataFusion.
    #[error("feature query `{query}`: the checkpoint was made by another version of the query or the program")]
    Fingerprint {
        /// The query's name.
        query: String,
    },
    /// A checkpoint that cannot be read.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
}

impl WindowError {
    pub(crate) fn refused(query: &str, problem: impl Into<String>) -> Self {
        Self::Refused { query: query.to_owned(), problem: problem.into() }
    }

    pub(crate) fn failed(query: &str) -> impl Fn(DataFusionError) -> Self + '_ {
        move |source| Self::Failed { query: query.to_owned(), source }
    }

    pub(crate) fn arrow(query: &str) -> impl Fn(ArrowError) -> Self + '_ {
        move |error| Self::Failed { query: query.to_owned(), source: error.into() }
    }
}
