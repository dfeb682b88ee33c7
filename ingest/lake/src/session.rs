//! The sessions that plans run in.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::DeltaTableError;
use deltalake::delta_datafusion::DeltaSessionContext;

use crate::QueryLimits;

const QUERY_PARTITIONS: usize = 2;

/// One writing task, so that a commit adds one file for each day that it holds.
pub(crate) fn for_writing() -> Result<SessionState, DeltaTableError> {
    let overrides = HashMap::from([("datafusion.execution.target_partitions".to_owned(), "1".to_owned())]);
    Ok(DeltaSessionContext::new_with_session_overrides(&overrides)?.state())
}

/// A session with bounded memory and disk, which knows where in a text a mistake is.
pub(crate) fn for_reading(limits: &QueryLimits) -> Result<SessionContext, DataFusionError> {
    let disk = DiskManagerBuilder::default().with_max_temp_directory_size(limits.spill_bytes);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    let mut config = SessionConfig::new().with_target_partitions(QUERY_PARTITIONS).with_information_schema(true);
    config.options_mut().sql_parser.collect_spans = true;
    let state =
        SessionStateBuilder::new().with_default_features().with_config(config).with_runtime_env(runtime).build();
    Ok(SessionContext::new_with_state(state))
}
