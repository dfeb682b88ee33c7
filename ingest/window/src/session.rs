//! A DataFusion session whose plans can be cut in two, and the leaves that are refilled before each run.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::context::SessionContext;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::SessionConfig;

use crate::top::top_share;

const BATCH_ROWS: usize = 65_536;

/// Rules that would merge the two halves, answer from statistics, or limit groups.
const PHYSICAL_RULES_LEFT_OUT: [&str; 4] =
    ["CombinePartialFinalAggregate", "aggregate_statistics", "LimitAggregation", "LimitedDistinctAggregation"];
/// Would split `count(DISTINCT x)` into two aggregations.
const LOGICAL_RULES_LEFT_OUT: [&str; 1] = ["single_distinct_aggregation_to_group_by"];

/// A session of one partition that keeps the two halves of an aggregation apart.
pub(crate) fn session() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    let options = config.options_mut();
    // The partial half must never give up aggregating: it would multiply the state's rows.
    options.execution.skip_partial_aggregation_probe_ratio_threshold = 1.1;
    options.sql_parser.map_string_types_to_utf8view = false;
    let mut physical = PhysicalOptimizer::new().rules;
    physical.retain(|rule| !PHYSICAL_RULES_LEFT_OUT.contains(&rule.name()));
    let mut logical = Optimizer::new().rules;
    logical.retain(|rule| !LOGICAL_RULES_LEFT_OUT.contains(&rule.name()));
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(physical)
        .with_optimizer_rules(logical)
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_udaf(top_share());
    context
}

/// A leaf whose content is replaced before every run of the same plan.
#[derive(Debug)]
pub(crate) struct Slot {
    schema: SchemaRef,
    batches: Mutex<Vec<RecordBatch>>,
}

impl Slot {
    /// An empty leaf of this schema.
    pub(crate) fn new(schema: SchemaRef) -> Arc<Self> {
        Arc::new(Self { schema, batches: Mutex::default() })
    }

    /// What the next run reads.
    pub(crate) fn fill(&self, batches: Vec<RecordBatch>) {
        *self.batches.lock().unwrap_or_else(PoisonError::into_inner) = batches;
    }

    /// A plan that reads this leaf.
    pub(crate) fn plan(self: &Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let leaf: Arc<dyn PartitionStream> = Arc::clone(self) as _;
        let exec = StreamingTableExec::try_new(Arc::clone(&self.schema), vec![leaf], None, vec![], false, None)?;
        Ok(Arc::new(exec))
    }
}

impl PartitionStream for Slot {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = std::mem::take(&mut *self.batches.lock().unwrap_or_else(PoisonError::into_inner));
        let stream = futures::stream::iter(batches.into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}

/// Runs a plan afresh: without the reset, metrics of earlier runs pile up.
pub(crate) async fn run(plan: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
    datafusion::physical_plan::collect(reset_plan_states(Arc::clone(plan))?, Arc::clone(context)).await
}
