//! Large questions on a Ballista cluster, in the same SQL. The scheduler and its executors are those that Ballista ships:
//! they read the data files of a table's version as plain Parquet, so they must be able to reach the lake's place.
//!
//! Ballista: <https://datafusion.apache.org/ballista/>.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::{Expr, SessionContext, cast, coalesce, col, lit};
use deltalake::DeltaTable;
use tokio::net::TcpStream;
use url::Url;

use crate::schema::DATE;
use crate::{LakeError, QueryLimits, Table};

const DEFAULT_PORT: u16 = 50_050;
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Ballista's planning from what the stages before have given: in version 55 it counts the rows of a union several times.
#[cfg(feature = "ballista")]
const ADAPTIVE: &str = "ballista.planner.adaptive.enabled";

/// Where a cluster's scheduler is.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    scheduler: Url,
}

impl Cluster {
    /// From an address such as `df://127.0.0.1:50050`.
    pub(crate) fn try_new(scheduler: &str) -> Result<Self, LakeError> {
        let url = Url::parse(scheduler).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
        let url = url.ok_or_else(|| refused(scheduler, "write df://HOST:PORT, such as df://127.0.0.1:50050"))?;
        if !cfg!(feature = "ballista") {
            return Err(refused(
                scheduler,
                "this headroom was built without Ballista: build it with --features ballista",
            ));
        }
        Ok(Self { scheduler: url })
    }

    /// A session whose plans the cluster carries out.
    pub(crate) async fn context(&self, limits: &QueryLimits) -> Result<SessionContext, LakeError> {
        let (host, port) =
            (self.scheduler.host_str().unwrap_or_default(), self.scheduler.port().unwrap_or(DEFAULT_PORT));
        let reached = tokio::time::timeout(CONNECT_TIME, TcpStream::connect((host, port))).await;
        match reached {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(refused(self.scheduler.as_str(), &error.to_string())),
            Err(_) => return Err(refused(self.scheduler.as_str(), "nothing answers there")),
        }
        remote(&self.scheduler, limits).await.map_err(|error| LakeError::Query(Box::new(error)))
    }
}

/// Can questions be given to a scheduler at this address? Nothing is connected.
///
/// # Errors
/// When it is no address, or this program was built without Ballista.
pub fn check_scheduler(scheduler: &str) -> Result<(), LakeError> {
    Cluster::try_new(scheduler).map(drop)
}

fn refused(scheduler: &str, problem: &str) -> LakeError {
    LakeError::Scheduler { url: scheduler.to_owned(), problem: problem.to_owned() }
}

#[cfg(feature = "ballista")]
async fn remote(scheduler: &Url, limits: &QueryLimits) -> Result<SessionContext, DataFusionError> {
    use ballista::prelude::SessionContextExt;

    let state = crate::session::for_reading(limits)?.state();
    let context = SessionContext::remote_with_state(scheduler.as_str(), state).await?;
    context.state_ref().write().config_mut().options_mut().set(ADAPTIVE, "false")?;
    Ok(context)
}

#[cfg(not(feature = "ballista"))]
async fn remote(_: &Url, limits: &QueryLimits) -> Result<SessionContext, DataFusionError> {
    crate::session::for_reading(limits)
}

/// A table of the lake at `location` as its data files; without rows when it does not exist yet.
pub(crate) fn files_of(
    location: &Url,
    table: Table,
    current: Option<&DeltaTable>,
) -> Result<Arc<dyn TableProvider>, LakeError> {
    let failed = |error| LakeError::Query(Box::new(error));
    let (schema, mut uris) = match current {
        None => (table.schema(), Vec::new()),
        Some(current) => {
            let state = current.snapshot().map_err(LakeError::delta(table, "reading the columns of"))?;
            let uris = current.get_file_uris().map_err(LakeError::delta(table, "reading the files of"))?;
            (state.snapshot().arrow_schema(), uris.collect())
        }
    };
    if uris.is_empty() {
        // There must be a place to look in; nothing is ever there.
        uris.push(format!("{location}{}/no-files/", table.name()));
    }
    listed(table, &schema, &uris).map_err(failed)
}

/// The files do not hold the day by which they are kept apart: it follows from the leading time.
fn listed(table: Table, schema: &Schema, uris: &[String]) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let is_derived = |field: &FieldRef| table.partition_columns().contains(&field.name().as_str());
    let within: Vec<FieldRef> = schema.fields().iter().filter(|field| !is_derived(field)).cloned().collect();
    let paths = uris.iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>, _>>()?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    let config = ListingTableConfig::new_with_multi_paths(paths)
        .with_listing_options(options)
        .with_schema(Arc::new(Schema::new(within)));
    let files: Arc<dyn TableProvider> = Arc::new(ListingTable::try_new(config)?);
    if table.partition_columns().is_empty() {
        return Ok(files);
    }
    let columns = schema.fields().iter().map(|field| if is_derived(field) { day(table) } else { col_of(field) });
    let plan = LogicalPlanBuilder::scan(table.name(), provider_as_source(files), None)?.project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// A column by its very name: `col` would fold the case.
fn col_of(field: &FieldRef) -> Expr {
    Expr::Column(datafusion::common::Column::from_name(field.name()))
}

fn day(table: Table) -> Expr {
    use datafusion::arrow::datatypes::DataType::Date32;
    coalesce(vec![cast(col(table.time_column()), Date32), cast(lit(0_i32), Date32)]).alias(DATE)
}
