//! The tables of one lake: opening, positions, commits.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TransactionError};
use deltalake::operations::write::SchemaMode;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use object_store::ObjectStore;
use tokio::runtime::{Builder, Handle, Runtime};
use url::Url;

use crate::cluster::Cluster;
use crate::commit::widen;
use crate::log::CheckedLog;
use crate::positions::Positions;
use crate::{Appended, Commit, LakeError, Storage, Table, evolution, files, session};

/// Commits between two Delta checkpoints: opening a table reads at most this many log entries.
const CHECKPOINT_COMMITS: u32 = 20;
const QUERY_THREADS: usize = 2;
/// Planning descends into expressions: a statement of the largest size must not overflow it.
const QUERY_STACK_BYTES: usize = 64 << 20;
const RETENTION: &str = "interval 7 days";

/// A folder or an object store with the tables. Writers of one table take turns; readers never wait.
pub struct Lake {
    root: Url,
    store: Option<Arc<dyn ObjectStore>>,
    slots: BTreeMap<Table, Slot>,
    session: Arc<SessionState>,
    cluster: Option<Cluster>,
    query_threads: OnceLock<Runtime>,
}

#[derive(Default)]
struct Slot {
    writing: tokio::sync::Mutex<Positions>,
    current: Mutex<Option<DeltaTable>>,
}

/// A table as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableState {
    /// Which.
    pub table: Table,
    /// The newest version; none while nothing was written.
    pub version: Option<u64>,
    /// Rows.
    pub rows: u64,
    /// Data files.
    pub files: u64,
    /// Size of the data files, in bytes.
    pub bytes: u64,
}

/// How a table is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The newest version; none while nothing was written.
    pub version: Option<u64>,
    /// The schema version in its properties; 0 for a table that has none.
    pub schema_version: String,
    /// The columns by which its files are kept apart.
    pub partitioned_by: Vec<String>,
}

impl Lake {
    /// Opens the lake in a folder, which may be empty.
    ///
    /// # Errors
    /// When there is no such folder.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, LakeError> {
        let folder = folder.as_ref();
        let missing = |reason: String| LakeError::Missing { location: folder.display().to_string(), reason };
        let absolute = tokio::fs::canonicalize(folder).await.map_err(|error| missing(error.to_string()))?;
        let root = Url::from_directory_path(&absolute).map_err(|()| missing("not a folder".to_owned()))?;
        if !absolute.is_dir() {
            return Err(missing("not a folder".to_owned()));
        }
        Self::open_at(root, None)
    }

    /// Opens the lake of a storage. What is there is looked at with the first use of a table.
    ///
    /// # Errors
    /// When no session can be made.
    pub fn open_in(storage: &Storage) -> Result<Self, LakeError> {
        Self::open_at(storage.lake_url(), storage.remote())
    }

    fn open_at(root: Url, store: Option<Arc<dyn ObjectStore>>) -> Result<Self, LakeError> {
        let session = session::for_writing()
            .map_err(|source| LakeError::Missing { location: root.to_string(), reason: source.to_string() })?;
        let slots = Table::ALL.into_iter().map(|table| (table, Slot::default())).collect();
        Ok(Self { root, store, slots, session: Arc::new(session), cluster: None, query_threads: OnceLock::new() })
    }

    /// Lets a Ballista cluster answer the questions; its address is such as `df://127.0.0.1:50050`.
    ///
    /// # Errors
    /// When it is no address, or this program was built without Ballista.
    pub fn on_cluster(mut self, scheduler: &str) -> Result<Self, LakeError> {
        self.cluster = Some(Cluster::try_new(scheduler)?);
        Ok(self)
    }

    /// The cluster that answers questions, when one does.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> &Url {
        &self.root
    }

    /// The committed positions of these ids; ids without one are absent.
    ///
    /// # Errors
    /// When the table's log cannot be read.
    pub async fn positions(
        &self,
        table: Table,
        ids: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<BTreeMap<String, i64>, LakeError> {
        let mut known = self.writing(table).await;
        let Some(current) = self.loaded(table).await? else { return Ok(BTreeMap::new()) };
        let mut positions = BTreeMap::new();
        for id in ids {
            if let Some(position) = known.find(table, &current, id.as_ref()).await? {
                positions.insert(id.as_ref().to_owned(), position);
            }
        }
        Ok(positions)
    }

    /// Commits rows and positions together, creating the table with its first commit and adding columns that are new. A
    /// commit whose positions have all been committed before is skipped.
    ///
    /// # Errors
    /// When the rows do not fit the table, when someone else has moved one of the positions, or when the table cannot be
    /// written. Nothing of the commit is visible then.
    pub async fn append(&self, table: Table, batches: Vec<RecordBatch>, commit: Commit) -> Result<Appended, LakeError> {
        let mut known = self.writing(table).await;
        let current = match self.loaded(table).await? {
            Some(current) => self.upgraded(table, current).await?,
            None => self.create(table).await?,
        };
        if known.hold(table, &current, &commit).await? {
            return Ok(Appended::Repeated);
        }
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let batches = widen(batches).map_err(LakeError::rows(table))?;
        let properties = CommitProperties::default()
            .with_application_transactions(commit.transactions())
            .with_cleanup_expired_logs(Some(false));
        let before = current.version();
        let written = if rows == 0 {
            move_positions(current, properties).await
        } else {
            self.write(table, current, batches, properties).await
        };
        let written = written.map_err(|source| failure(table, source))?;
        known.follow(before, written.version(), commit.positions);
        let version = written.version().unwrap_or_default();
        self.replace(table, written);
        Ok(Appended::Committed { version, rows })
    }

    /// The newest version of a table; none while nothing was written.
    ///
    /// # Errors
    /// When the table's log cannot be read.
    pub async fn version(&self, table: Table) -> Result<Option<u64>, LakeError> {
        Ok(self.loaded(table).await?.and_then(|current| current.version()))
    }

    /// The columns of a table as it stands.
    ///
    /// # Errors
    /// When the table's log cannot be read.
    pub async fn schema(&self, table: Table) -> Result<SchemaRef, LakeError> {
        let Some(current) = self.loaded(table).await? else { return Ok(table.schema()) };
        let state = current.snapshot().map_err(LakeError::delta(table, "reading the columns of"))?;
        Ok(state.snapshot().arrow_schema())
    }

    /// How a table is laid out.
    ///
    /// # Errors
    /// When the table's log cannot be read.
    pub async fn describe(&self, table: Table) -> Result<Layout, LakeError> {
        let partitioned_by = table.partition_columns().iter().map(|column| (*column).to_owned()).collect();
        let Some(current) = self.loaded(table).await? else {
            let schema_version = evolution::SCHEMA_VERSION.to_string();
            return Ok(Layout { version: None, schema_version, partitioned_by });
        };
        let schema_version = evolution::found_version(table, &current)?;
        Ok(Layout { version: current.version(), schema_version, partitioned_by })
    }

    /// Every table as it stands.
    ///
    /// # Errors
    /// When a table's log cannot be read.
    pub async fn tables(&self) -> Result<Vec<TableState>, LakeError> {
        let mut states = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            let mut state = TableState { table, version: None, rows: 0, files: 0, bytes: 0 };
            if let Some(current) = self.loaded(table).await? {
                state.version = current.version();
                let snapshot = current.snapshot().map_err(LakeError::delta(table, "reading the files of"))?;
                for file in snapshot.log_data().iter() {
                    state.files += 1;
                    state.rows += file.num_records().unwrap_or_default() as u64;
                    state.bytes += file.size().unsigned_abs();
                }
            }
            states.push(state);
        }
        Ok(states)
    }

    /// The table's newest version; none while it does not exist.
    pub(crate) async fn loaded(&self, table: Table) -> Result<Option<DeltaTable>, LakeError> {
        let held = self.slot(table).current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut current = match held {
            Some(held) => held,
            None => self.unloaded(table)?,
        };
        let is_new = current.version().is_none();
        if is_new && !current.verify_deltatable_existence().await.map_err(LakeError::delta(table, "finding"))? {
            return Ok(None);
        }
        current.update_state().await.map_err(LakeError::delta(table, "reading"))?;
        evolution::check(table, &current)?;
        self.replace(table, current.clone());
        Ok(Some(current))
    }

    /// What plans that write run in.
    pub(crate) fn writing_session(&self) -> &Arc<SessionState> {
        &self.session
    }

    /// The turn to write a table.
    pub(crate) async fn writing(&self, table: Table) -> tokio::sync::MutexGuard<'_, Positions> {
        self.slot(table).writing.lock().await
    }

    /// Remembers a state, unless a newer one is known.
    pub(crate) fn replace(&self, table: Table, newer: DeltaTable) {
        let mut current = self.slot(table).current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|current| current.version() <= newer.version()) {
            *current = Some(newer);
        }
    }

    /// Where queries run; started with the first.
    pub(crate) fn query_threads(&self) -> Result<&Handle, LakeError> {
        if let Some(runtime) = self.query_threads.get() {
            return Ok(runtime.handle());
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(QUERY_THREADS)
            .thread_name("headroom-query")
            .thread_stack_size(QUERY_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| LakeError::Query(Box::new(error.into())))?;
        if let Err(spare) = self.query_threads.set(runtime) {
            spare.shutdown_background();
        }
        self.query_threads()
    }

    fn slot(&self, table: Table) -> &Slot {
        self.slots.get(&table).expect("every table has a slot from the start")
    }

    /// A table of which nothing is known yet.
    pub(crate) fn unloaded(&self, table: Table) -> Result<DeltaTable, LakeError> {
        let location = format!("{}{}/", self.root, table.name());
        let missing = |reason: String| LakeError::Missing { location: location.clone(), reason };
        let url = Url::parse(&location).map_err(|error| missing(error.to_string()))?;
        let builder = DeltaTableBuilder::from_url(url.clone()).map_err(|error| missing(error.to_string()))?;
        let builder = match &self.store {
            Some(store) => builder.with_storage_backend(Arc::clone(store), url),
            None => builder,
        };
        let log = builder.build_storage().map_err(|error| missing(error.to_string()))?;
        Ok(DeltaTable::new(CheckedLog::over(log)))
    }

    /// Creates a table, unless someone else has.
    pub(crate) async fn create(&self, table: Table) -> Result<DeltaTable, LakeError> {
        let columns: StructType = table.schema().as_ref().try_into_kernel().map_err(LakeError::rows(table))?;
        let created = self
            .unloaded(table)?
            .create()
            .with_table_name(table.name())
            .with_columns(columns.fields().cloned())
            .with_partition_columns(table.partition_columns().iter().copied())
            .with_configuration([
                ("delta.checkpointInterval", Some(CHECKPOINT_COMMITS.to_string())),
                ("delta.dataSkippingStatsColumns", Some(table.skipping_columns().join(","))),
                ("delta.logRetentionDuration", Some(RETENTION.to_owned())),
                ("delta.deletedFileRetentionDuration", Some(RETENTION.to_owned())),
                (evolution::PROPERTY, Some(evolution::SCHEMA_VERSION.to_string())),
            ])
            .with_raise_if_key_not_exists(false)
            .with_save_mode(SaveMode::Ignore)
            .await
            .map_err(LakeError::delta(table, "creating"))?;
        self.replace(table, created.clone());
        Ok(created)
    }

    async fn write(
        &self,
        table: Table,
        current: DeltaTable,
        batches: Vec<RecordBatch>,
        properties: CommitProperties,
    ) -> Result<DeltaTable, DeltaTableError> {
        let schema = batches.first().map_or_else(|| table.schema(), RecordBatch::schema);
        current
            .write(batches)
            .with_schema_mode(SchemaMode::Merge)
            .with_session_state(Arc::clone(&self.session) as Arc<_>)
            .with_writer_properties(files::writer_properties(table, &schema))
            .with_commit_properties(properties)
            .await
    }
}

/// A commit without rows: what was read had none, and need not be read again.
async fn move_positions(current: DeltaTable, properties: CommitProperties) -> Result<DeltaTable, DeltaTableError> {
    let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
    let committed =
        CommitBuilder::from(properties).build(Some(current.snapshot()?), current.log_store(), operation).await?;
    let mut moved = current;
    moved.state = Some(committed.snapshot());
    Ok(moved)
}

fn failure(table: Table, source: DeltaTableError) -> LakeError {
    if let DeltaTableError::Transaction { source: TransactionError::CommitConflict(conflict) } = &source {
        let found = conflict.to_string();
        return LakeError::Conflict { table, position: "a position of this commit".to_owned(), found };
    }
    LakeError::delta(table, "writing")(source)
}

impl Drop for Lake {
    /// Queries that still run end with the process, not with the lake: waiting for them here could block a runtime.
    fn drop(&mut self) {
        if let Some(runtime) = self.query_threads.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lake").field("root", &self.root.as_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
