//! What can go wrong with the lake.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;

use crate::Table;

/// A failure of the lake or of a query.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// There is no lake where one was expected.
    #[error("no lake at {location}: {reason}")]
    Missing {
        /// The folder or URL.
        location: String,
        /// What was found instead.
        reason: String,
    },
    /// A table could not be read or written.
    #[error("{action} table {table}: {source}")]
    Delta {
        /// The table.
        table: Table,
        /// What was tried.
        action: &'static str,
        /// What Delta said.
        source: Box<DeltaTableError>,
    },
    /// Rows do not fit their table.
    #[error("rows for table {table}: {source}")]
    Rows {
        /// The table.
        table: Table,
        /// What does not fit.
        source: ArrowError,
    },
    /// Someone else commits the same input.
    #[error("table {table} has another writer: `{position}` stands at {found}; run one store over a lake")]
    Conflict {
        /// The table.
        table: Table,
        /// The position that someone else has moved.
        position: String,
        /// Where it stands.
        found: String,
    },
    /// A table of a later program.
    #[error(
        "table {table} has schema version {found}, this headroom knows up to {known}: use the headroom that wrote it, or \
         a newer one"
    )]
    Newer {
        /// The table.
        table: Table,
        /// The version in its properties.
        found: String,
        /// The newest that is known.
        known: u32,
    },
    /// A version of a table that does not exist, or no longer does.
    #[error("table {table} has no {asked}: {range}")]
    Version {
        /// The table.
        table: Table,
        /// What was asked for.
        asked: String,
        /// What there is.
        range: String,
    },
    /// A vacuum that could take files from those who still use them.
    #[error(
        "a vacuum keeps at least the last {minutes} minutes, for queries and writers that run: give a longer retention"
    )]
    Retention {
        /// The shortest retention.
        minutes: i64,
    },
    /// A storage that cannot be used.
    #[error("storage {url}: {problem}")]
    Storage {
        /// Where.
        url: String,
        /// What is wrong with it and how to mend it.
        problem: String,
    },
    /// A Ballista scheduler that cannot be used.
    #[error("Ballista scheduler {url}: {problem}")]
    Scheduler {
        /// Its address.
        url: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// A query that would change something.
    #[error("the lake is read-only, `{0}` is refused: write a SELECT, SHOW, DESCRIBE or EXPLAIN")]
    ReadOnly(String),
    /// A query names a table that the lake does not have.
    #[error("there is no table `{name}`: the tables are {known}")]
    UnknownTable {
        /// What the query names.
        name: String,
        /// What there is.
        known: String,
    },
    /// A query that cannot be understood.
    #[error("SQL: {0}")]
    Sql(String),
    /// A query that needs more than its limits.
    #[error("the query stopped at its {limit} limit: {hint}")]
    Limit {
        /// Which limit.
        limit: &'static str,
        /// What to do about it.
        hint: String,
    },
    /// A query that failed while it ran.
    #[error("the query failed: {0}")]
    Query(Box<DataFusionError>),
}

impl LakeError {
    pub(crate) fn delta(table: Table, action: &'static str) -> impl FnOnce(DeltaTableError) -> Self {
        move |source| Self::Delta { table, action, source: Box::new(source) }
    }

    pub(crate) fn rows(table: Table) -> impl FnOnce(ArrowError) -> Self {
        move |source| Self::Rows { table, source }
    }

    /// Is it the asker's mistake rather than the lake's?
    #[must_use]
    pub const fn is_users_fault(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Newer { .. }
            | Self::Version { .. }
            | Self::Retention { .. }
            | Self::Storage { .. }
            | Self::Scheduler { .. }
            | Self::ReadOnly(_)
            | Self::UnknownTable { .. }
            | Self::Sql(_)
            | Self::Limit { .. } => true,
            Self::Delta { .. } | Self::Rows { .. } | Self::Conflict { .. } | Self::Query(_) => false,
        }
    }

    /// May the same request succeed later?
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Delta { source, .. } if matches!(**source, DeltaTableError::ObjectStore { .. }))
    }
}
