//! Questions in SQL: read-only, over the newest version of every table unless another is asked for, within limits.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use deltalake::DeltaTable;
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::versions::{self, Travelling};
use crate::{Lake, LakeError, Table, cluster, session, views};

const BATCHES_AHEAD: usize = 2;
/// So deep can no expression be that planning it needs more stack than there is.
const MAX_SQL_BYTES: usize = 32 << 10;

/// What a query may use.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// Rows of the answer; the rest is left off. None is all.
    pub rows: Option<usize>,
    /// Memory of sorts, joins and aggregations, in bytes; what does not fit goes to disk where the operation can.
    pub memory_bytes: usize,
    /// Disk for what did not fit into memory, in bytes.
    pub spill_bytes: u64,
    /// From the start of the query to its last row.
    pub time: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { rows: None, memory_bytes: 256 << 20, spill_bytes: 1 << 30, time: Duration::from_secs(60) }
    }
}

/// What a question would give.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The columns of the answer.
    pub schema: SchemaRef,
    /// The parameters by their names, in order; a type that cannot be told is text.
    pub parameters: Schema,
}

struct Question {
    question: Travelling,
    parameters: Vec<ScalarValue>,
    limits: QueryLimits,
}

/// The rows of an answer, as they come. Dropping it ends the query.
pub struct Rows {
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch, DataFusionError>>,
    running: JoinSet<()>,
    left: Option<usize>,
    is_truncated: bool,
    deadline: Instant,
    limits: QueryLimits,
}

impl Lake {
    /// Asks one question.
    ///
    /// # Errors
    /// When the text is not one statement that only reads, names what does not exist, or needs more than its limits.
    pub async fn query(&self, sql: &str, limits: &QueryLimits) -> Result<Rows, LakeError> {
        self.query_with(sql, Vec::new(), limits).await
    }

    /// What a question would give and what it asks for, without an answer.
    ///
    /// # Errors
    /// As [`Lake::query`].
    pub async fn plan(&self, sql: &str) -> Result<Planned, LakeError> {
        let limits = QueryLimits::default();
        let context = self.context(&limits).await?;
        let mut question = Travelling::parse(sql)?;
        self.register_versions(&context, &mut question).await?;
        let deadline = limits.time;
        let planning = self.query_threads()?.spawn(async move { planned(&context, &question, &limits).await });
        match tokio::time::timeout(deadline, planning).await {
            Ok(Ok(planned)) => planned,
            Ok(Err(error)) => Err(LakeError::Query(Box::new(DataFusionError::Internal(error.to_string())))),
            Err(_) => Err(out_of_time(&QueryLimits::default())),
        }
    }

    /// Asks one question whose parameters `$1`, `$2` ... have these values.
    ///
    /// # Errors
    /// As [`Lake::query`], and when values are missing or do not fit.
    pub async fn query_with(
        &self,
        sql: &str,
        parameters: Vec<ScalarValue>,
        limits: &QueryLimits,
    ) -> Result<Rows, LakeError> {
        let deadline = Instant::now() + limits.time;
        let context = self.context(limits).await?;
        let mut question = Travelling::parse(sql)?;
        self.register_versions(&context, &mut question).await?;
        let (planned, plan) = oneshot::channel();
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let mut running = JoinSet::new();
        let question = Question { question, parameters, limits: limits.clone() };
        running.spawn_on(run(context, question, planned, sender), self.query_threads()?);
        let rows = |schema| Rows {
            schema,
            batches,
            running,
            left: limits.rows,
            is_truncated: false,
            deadline,
            limits: limits.clone(),
        };
        match tokio::time::timeout_at(deadline, plan).await {
            Err(_) => Err(out_of_time(limits)),
            Ok(Ok(Ok(schema))) => Ok(rows(schema)),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => {
                Err(LakeError::Query(Box::new(DataFusionError::Internal("the planner ended early".to_owned()))))
            }
        }
    }

    /// A session that knows the tables and views.
    async fn context(&self, limits: &QueryLimits) -> Result<SessionContext, LakeError> {
        let failed = |error| LakeError::Query(Box::new(error));
        let context = match self.cluster() {
            None => session::for_reading(limits).map_err(failed)?,
            Some(cluster) => cluster.context(limits).await?,
        };
        for table in Table::ALL {
            let provider = self.provider(table, self.loaded(table).await?.as_ref(), &context).await?;
            context.register_table(table.name(), provider).map_err(failed)?;
        }
        let (windows, forecasts) = (self.schema(Table::Windows).await?, self.schema(Table::Forecasts).await?);
        views::register(&context, &windows, &forecasts).await.map_err(failed)?;
        Ok(context)
    }

    /// A version of a table for a session; none is a table that does not exist yet.
    pub(crate) async fn provider(
        &self,
        table: Table,
        version: Option<&DeltaTable>,
        context: &SessionContext,
    ) -> Result<Arc<dyn TableProvider>, LakeError> {
        if self.cluster().is_some() {
            return cluster::files_of(self.location(), table, version);
        }
        let Some(version) = version else { return Ok(Arc::new(EmptyTable::new(table.schema()))) };
        version.update_datafusion_session(&context.state()).map_err(LakeError::delta(table, "reading"))?;
        version.table_provider().await.map_err(|error| LakeError::Query(Box::new(error)))
    }
}

impl Rows {
    /// The columns of the answer.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Were rows left off, as far as has been read?
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// When the query fails or passes one of its limits.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        loop {
            if self.is_truncated {
                return Ok(None);
            }
            let received = tokio::time::timeout_at(self.deadline, self.batches.recv()).await;
            let Some(next) = received.map_err(|_| out_of_time(&self.limits))? else { return self.ended().await };
            let batch = next.map_err(|error| failed(error, &self.limits))?;
            if batch.num_rows() == 0 {
                continue;
            }
            let Some(left) = self.left else { return Ok(Some(batch)) };
            self.is_truncated = batch.num_rows() > left;
            let kept = batch.slice(0, left.min(batch.num_rows()));
            self.left = Some(left - kept.num_rows());
            if kept.num_rows() > 0 {
                return Ok(Some(kept));
            }
        }
    }

    /// The end of the answer, unless the task ended in a panic.
    async fn ended(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        match self.running.join_next().await {
            Some(Err(error)) => Err(LakeError::Query(Box::new(DataFusionError::ExecutionJoin(Box::new(error))))),
            Some(Ok(())) | None => Ok(None),
        }
    }

    /// All rows at once.
    ///
    /// # Errors
    /// As [`Rows::next`].
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, LakeError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Plans and runs a query on the lake's own threads: an operator that does not yield keeps nobody else waiting, and the
/// asker's deadline holds.
async fn run(
    context: SessionContext,
    question: Question,
    planned: oneshot::Sender<Result<SchemaRef, LakeError>>,
    batches: mpsc::Sender<Result<RecordBatch, DataFusionError>>,
) {
    let (mut stream, answer) = match begin(&context, question).await {
        Ok(stream) => {
            let schema = stream.schema();
            (Some(stream), Ok(schema))
        }
        Err(error) => (None, Err(error)),
    };
    if planned.send(answer).is_err() {
        return;
    }
    while let Some(stream) = stream.as_mut()
        && let Some(batch) = stream.next().await
    {
        if batches.send(batch).await.is_err() {
            return;
        }
    }
}

async fn begin(context: &SessionContext, question: Question) -> Result<SendableRecordBatchStream, LakeError> {
    let limits = &question.limits;
    let mut plan = logical(context, &question.question, limits).await?;
    if !question.parameters.is_empty() {
        plan = plan.with_param_values(question.parameters).map_err(|error| failed(error, limits))?;
    }
    let frame = context.execute_logical_plan(plan).await.map_err(|error| failed(error, limits))?;
    frame.execute_stream().await.map_err(|error| failed(error, limits))
}

async fn planned(context: &SessionContext, question: &Travelling, limits: &QueryLimits) -> Result<Planned, LakeError> {
    let plan = logical(context, question, limits).await?;
    let types = plan.get_parameter_types().map_err(|error| failed(error, limits))?;
    let mut types: Vec<_> = types.into_iter().collect();
    types.sort_by_key(|(name, _)| name.trim_start_matches('$').parse::<usize>().unwrap_or(usize::MAX));
    let field = |(name, kind): (String, Option<DataType>)| Field::new(name, kind.unwrap_or(DataType::Utf8), true);
    let parameters = Schema::new(types.into_iter().map(field).collect::<Vec<_>>());
    Ok(Planned { schema: Arc::clone(plan.schema().inner()), parameters })
}

/// The plan of a statement that only reads.
async fn logical(
    context: &SessionContext,
    question: &Travelling,
    limits: &QueryLimits,
) -> Result<LogicalPlan, LakeError> {
    let sql = question.sql();
    if sql.len() > MAX_SQL_BYTES {
        let length = sql.len();
        return Err(LakeError::Sql(format!("a statement of {length} bytes: at most {MAX_SQL_BYTES} are read")));
    }
    let state = context.state();
    let dialect = state.config_options().sql_parser.dialect;
    let mut statement = state.sql_to_statement(sql, &dialect).map_err(|error| LakeError::Sql(described(&error)))?;
    if !only_reads(&statement) {
        return Err(LakeError::ReadOnly(first_words(sql)));
    }
    question.apply(&mut statement)?;
    let plan = match state.statement_to_plan(statement.clone()).await {
        Ok(plan) => plan,
        Err(error) => return Err(unknown_table(&state, &statement).unwrap_or_else(|| failed(error, limits))),
    };
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(&plan).map_err(|_| LakeError::ReadOnly(first_words(sql)))?;
    Ok(plan)
}

fn only_reads(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => matches!(
            **statement,
            ast::Statement::Query(_)
                | ast::Statement::Explain { .. }
                | ast::Statement::ExplainTable { .. }
                | ast::Statement::ShowTables { .. }
                | ast::Statement::ShowColumns { .. }
                | ast::Statement::ShowFunctions { .. }
                | ast::Statement::ShowVariable { .. }
        ),
        Statement::Explain(explain) => only_reads(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

fn first_words(sql: &str) -> String {
    sql.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The first table that a statement names and the lake does not have.
fn unknown_table(state: &SessionState, statement: &Statement) -> Option<LakeError> {
    let references = state.resolve_table_references(statement).ok()?;
    let is_schema = |schema: Option<&str>| schema.is_none_or(|schema| schema == "public");
    let unknown = references.iter().find(|reference| {
        is_schema(reference.schema())
            && !versions::is_registered(reference.table())
            && Table::ALL.iter().all(|table| table.name() != reference.table())
            && views::ALL.iter().all(|view| view.name != reference.table())
    })?;
    if state.table_functions().contains_key(unknown.table()) {
        return None;
    }
    let known = Table::ALL.map(Table::name).join(", ");
    Some(LakeError::UnknownTable { name: unknown.table().to_owned(), known })
}

fn failed(error: DataFusionError, limits: &QueryLimits) -> LakeError {
    let root = error.find_root();
    if matches!(root, DataFusionError::ResourcesExhausted(_)) {
        return LakeError::Limit {
            limit: "memory",
            hint: format!(
                "narrow it with WHERE or aggregate less at once; it may use {} MiB",
                limits.memory_bytes >> 20
            ),
        };
    }
    if root.to_string().contains("max_temp_directory_size") {
        return LakeError::Limit {
            limit: "disk",
            hint: format!("narrow it with WHERE or LIMIT; it may use {} MiB beside memory", limits.spill_bytes >> 20),
        };
    }
    let is_misunderstood = matches!(
        root,
        DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::SQL(..)
            | DataFusionError::NotImplemented(_)
    );
    if is_misunderstood { LakeError::Sql(described(&error)) } else { LakeError::Query(Box::new(error)) }
}

/// What is wrong and, when it is known, where.
fn described(error: &DataFusionError) -> String {
    let place = error.diagnostic().and_then(|diagnostic| diagnostic.span).map(|span| span.start);
    let message = error.strip_backtrace();
    match place {
        Some(place) if place.line > 0 => format!("{message} (line {}, column {})", place.line, place.column),
        _ => message,
    }
}

fn out_of_time(limits: &QueryLimits) -> LakeError {
    LakeError::Limit {
        limit: "time",
        hint: format!("narrow it with WHERE, such as on `date`; it may take {} s", limits.time.as_secs()),
    }
}

#[cfg(test)]
mod tests;
