//! A feature query: declared in SQL, planned once, cut into its two halves.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, IntervalUnit, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility, lit};
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use headroom_proto::time::Span;
use headroom_proto::{schema, time};
use serde::{Deserialize, Serialize};

use crate::WindowError;
use crate::fingerprints::{FIRST_SEEN, schema_with_first_seen};
use crate::quantile::with_sketches;
use crate::session::{Slot, session};

/// Aggregates whose state grows with the rows.
const UNBOUNDED: [&str; 6] =
    ["median", "array_agg", "string_agg", "percentile_cont", "nth_value", "approx_percentile_cont_with_weight"];

/// Which telemetry a query reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Telemetry {
    /// Metric samples.
    Metrics,
    /// Query events.
    Queries,
}

impl Telemetry {
    /// The columns of this telemetry.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Metrics => schema::metrics(),
            Self::Queries => schema::queries(),
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Queries => "queries",
        }
    }
}

/// A feature query as it stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureConfig {
    /// Names the query in windows and messages.
    pub name: String,
    /// The telemetry it reads.
    pub source: Telemetry,
    /// Window lengths such as `10s`, `1m`, `5m`: the first is the pane, each other a whole number of panes.
    pub windows: Vec<String>,
    /// One aggregation: `SELECT date_bin(INTERVAL '<pane>', event_time) AS window_start, workload, ... GROUP BY 1, 2`.
    /// `window_seconds()` is the length of the window that is being emitted.
    pub sql: String,
}

/// One window length of a query, and the plans that make it.
#[derive(Debug)]
pub(crate) struct Size {
    pub(crate) span: Span,
    /// Re-bins the panes' states; none for the pane itself.
    pub(crate) rollup: Option<Arc<dyn ExecutionPlan>>,
    /// The final half and all that stands above it.
    pub(crate) top: Arc<dyn ExecutionPlan>,
}

/// A feature query that can stream.
#[derive(Debug)]
pub struct FeatureQuery {
    pub(crate) config: FeatureConfig,
    pub(crate) context: Arc<TaskContext>,
    pub(crate) input: Arc<Slot>,
    pub(crate) partial: Arc<dyn ExecutionPlan>,
    pub(crate) state: Arc<Slot>,
    pub(crate) state_schema: SchemaRef,
    pub(crate) window_column: usize,
    pub(crate) reduce: Arc<dyn ExecutionPlan>,
    pub(crate) sizes: Vec<Size>,
    /// Does it ask when fingerprints were first seen?
    pub(crate) remembers: bool,
}

/// What one planning of the SQL gives.
struct Planned {
    logical: LogicalPlan,
    physical: Arc<dyn ExecutionPlan>,
    last: Arc<dyn ExecutionPlan>,
    partial: Arc<dyn ExecutionPlan>,
}

impl FeatureQuery {
    /// Plans a declaration and cuts it in two.
    ///
    /// # Errors
    /// When the declaration cannot stream: says what and what to write instead.
    pub async fn try_new(config: FeatureConfig) -> Result<Self, WindowError> {
        let name = config.name.clone();
        let spans = window_spans(&config)?;
        let pane =
            *spans.first().ok_or_else(|| WindowError::refused(&name, "`windows` is empty: write [\"10s\", \"1m\"]"))?;
        let context = session();
        let remembers = config.source == Telemetry::Queries && config.sql.contains(FIRST_SEEN);
        let schema = config.source.schema();
        let schema = if remembers { schema_with_first_seen(&schema) } else { schema };
        let input = Slot::new(Arc::clone(&schema));
        let table = StreamingTable::try_new(schema, vec![Arc::clone(&input) as _]);
        table
            .and_then(|table| context.register_table(config.source.table(), Arc::new(table)))
            .map_err(WindowError::failed(&name))?;

        let first = plan(&context, &config, pane).await?;
        let window_name = window_expression(&name, &first.logical, pane)?;
        let state_schema = first.partial.schema();
        let window_column = state_schema.index_of(&window_name).map_err(WindowError::arrow(&name))?;
        let state = Slot::new(Arc::clone(&state_schema));
        let reduce = merging(&first.last, &state, None).map_err(WindowError::failed(&name))?;
        let mut sizes = Vec::new();
        for span in &spans {
            let planned = plan(&context, &config, *span).await?;
            if planned.partial.schema() != state_schema {
                return Err(WindowError::refused(&name, "window_seconds() must stand outside of the aggregates"));
            }
            let top = cut(&planned, &state).map_err(WindowError::failed(&name))?;
            let rollup = if *span == pane {
                None
            } else {
                let bin = coarser_bin(&state_schema, window_column, *span).map_err(WindowError::failed(&name))?;
                Some(merging(&first.last, &state, Some((window_column, bin))).map_err(WindowError::failed(&name))?)
            };
            sizes.push(Size { span: *span, rollup, top });
        }
        let query = Self {
            config,
            context: context.task_ctx(),
            input,
            partial: first.partial,
            state,
            state_schema,
            window_column,
            reduce,
            sizes,
            remembers,
        };
        query.check_output()?;
        Ok(query)
    }

    /// The query's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The telemetry it reads.
    #[must_use]
    pub fn source(&self) -> Telemetry {
        self.config.source
    }

    /// The shortest window.
    #[must_use]
    pub fn pane(&self) -> Span {
        self.sizes.first().map(|size| size.span).unwrap_or_default()
    }

    /// Names of the features that it gives, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let Some(size) = self.sizes.first() else { return Vec::new() };
        let names = size.top.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        names.into_iter().filter(|name| name != "window_start" && name != schema::WORKLOAD).collect()
    }

    /// What it reads, keeps and gives, and its plans, for people.
    #[must_use]
    pub fn explain(&self) -> String {
        let plan = |plan: &Arc<dyn ExecutionPlan>| {
            let text = displayable(plan.as_ref()).indent(false).to_string();
            text.lines().map(|line| format!("    {line}\n")).collect::<String>()
        };
        let spans: Vec<String> = self.sizes.iter().map(|size| size.span.to_string()).collect();
        let state: Vec<String> =
            self.state_schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        let mut text = format!(
            "feature query {} over {}\n  windows: {}\n  gives: {}\n  kept for each window and group: {}\n",
            self.name(),
            self.config.source.table(),
            spans.join(", "),
            self.columns().join(", "),
            state.join(", ")
        );
        text += &format!("  on each batch of rows:\n{}", plan(&self.partial));
        for size in &self.sizes {
            if let Some(rollup) = &size.rollup {
                text += &format!("  to roll up to {}:\n{}", size.span, plan(rollup));
            }
        }
        if let Some(size) = self.sizes.first() {
            text += &format!("  when the watermark has passed a window:\n{}", plan(&size.top));
        }
        text
    }

    /// The output must name its window and its workload; the rest is numbers and dimensions.
    fn check_output(&self) -> Result<(), WindowError> {
        let Some(size) = self.sizes.first() else { return Ok(()) };
        let output = size.top.schema();
        for needed in ["window_start", schema::WORKLOAD] {
            if output.index_of(needed).is_err() {
                let problem = format!("no column `{needed}`: select `date_bin(...) AS window_start, workload, ...`");
                return Err(WindowError::refused(self.name(), problem));
            }
        }
        let unusable = output.fields().iter().find(|field| {
            let kind = field.data_type();
            field.name() != "window_start" && !kind.is_numeric() && !matches!(kind, DataType::Utf8 | DataType::Boolean)
        });
        match unusable {
            Some(field) => {
                let problem =
                    format!("column `{}` is {}: features are numbers or texts", field.name(), field.data_type());
                Err(WindowError::refused(self.name(), problem))
            }
            None => Ok(()),
        }
    }
}

fn window_spans(config: &FeatureConfig) -> Result<Vec<Span>, WindowError> {
    let parse = |text: &String| time::Span::parse(text).map_err(|e| WindowError::refused(&config.name, e.to_string()));
    let spans = config.windows.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    if let Some(pane) = spans.first() {
        let fits = |span: &Span| pane.micros() >= 1_000_000 && span.micros() % pane.micros() == 0;
        if !spans.iter().all(fits) || !spans.is_sorted() {
            let problem = "`windows` must grow, be whole seconds, and each be a whole number of the first";
            return Err(WindowError::refused(&config.name, problem));
        }
    }
    Ok(spans)
}

async fn plan(
    context: &datafusion::prelude::SessionContext,
    config: &FeatureConfig,
    span: Span,
) -> Result<Planned, WindowError> {
    let name = &config.name;
    let failed = WindowError::failed(name);
    let seconds = format!("CAST({} AS DOUBLE)", span.micros() / 1_000_000);
    let sql = config.sql.replace("window_seconds()", &seconds);
    let state = context.state();
    let logical = state.create_logical_plan(&sql).await.map_err(&failed)?;
    refuse_what_cannot_stream(name, &logical)?;
    let logical = with_sketches(logical).map_err(&failed)?;
    let physical = state.create_physical_plan(&logical).await.map_err(&failed)?;
    let (mut last, mut partial, mut other) = (Vec::new(), Vec::new(), false);
    physical
        .apply(|node| {
            if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
                match aggregate.mode() {
                    AggregateMode::Final | AggregateMode::FinalPartitioned => last.push(Arc::clone(node)),
                    AggregateMode::Partial => partial.push(Arc::clone(node)),
                    AggregateMode::Single | AggregateMode::SinglePartitioned | AggregateMode::PartialReduce => {
                        other = true
                    }
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .map_err(&failed)?;
    match (last.pop(), partial.pop(), other || !last.is_empty() || !partial.is_empty()) {
        (Some(last), Some(partial), false) => Ok(Planned { logical, physical, last, partial }),
        _ => Err(WindowError::refused(name, "must be exactly one aggregation: SELECT ... GROUP BY window, workload")),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other node can stream")]
fn refuse_what_cannot_stream(name: &str, logical: &LogicalPlan) -> Result<(), WindowError> {
    let mut problem = None;
    let walked = logical.apply(|node| {
        let found = match node {
            LogicalPlan::Sort(_) => {
                Some("ORDER BY cannot stream: windows are emitted in order of time anyway".to_owned())
            }
            LogicalPlan::Limit(_) => Some("LIMIT cannot stream: use HAVING to leave groups out".to_owned()),
            LogicalPlan::Window(_) => {
                Some("OVER (...) cannot stream: compare windows after they are emitted".to_owned())
            }
            LogicalPlan::Distinct(_) => {
                Some("SELECT DISTINCT cannot stream: GROUP BY gives each group once".to_owned())
            }
            LogicalPlan::Join(_) | LogicalPlan::Union(_) | LogicalPlan::Subquery(_) => {
                Some("joins, unions and subqueries cannot stream: one table, one aggregation".to_owned())
            }
            _ => None,
        };
        problem = problem.take().or(found);
        for expression in node.expressions() {
            expression.apply(|part| {
                problem = problem.take().or_else(|| expression_problem(part));
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(WindowError::failed(name))?;
    problem.map_or(Ok(()), |problem| Err(WindowError::refused(name, problem)))
}

fn expression_problem(expression: &Expr) -> Option<String> {
    if let Expr::ScalarFunction(call) = expression
        && call.func.signature().volatility != Volatility::Immutable
    {
        return Some(format!("{}() changes from run to run: windows must follow from the data alone", call.name()));
    }
    if let Expr::AggregateFunction(call) = expression {
        let function = call.func.name();
        if UNBOUNDED.contains(&function) || call.params.distinct {
            return Some(format!(
                "{function}{} keeps every value in its state: use approx_distinct or approx_percentile_cont",
                if call.params.distinct { "(DISTINCT)" } else { "" }
            ));
        }
    }
    None
}

/// The name of the `date_bin` group key, whose interval must be the pane.
fn window_expression(name: &str, logical: &LogicalPlan, pane: Span) -> Result<String, WindowError> {
    let mut found: Option<(String, Option<i64>)> = None;
    let mut keyed_by_workload = false;
    let walked = logical.apply(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            for expression in &aggregate.group_expr {
                let bare = expression.clone().unalias();
                if let Expr::ScalarFunction(call) = &bare
                    && call.name() == "date_bin"
                {
                    found = Some((expression.schema_name().to_string(), call.args.first().and_then(interval_micros)));
                }
                keyed_by_workload |= matches!(&bare, Expr::Column(column) if column.name == schema::WORKLOAD);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.map_err(WindowError::failed(name))?;
    if !keyed_by_workload {
        return Err(WindowError::refused(name, "GROUP BY must have `workload`"));
    }
    match found {
        Some((column, Some(micros))) if micros == pane.micros() => Ok(column),
        Some(_) => {
            Err(WindowError::refused(name, format!("the interval of date_bin must be the first of `windows`, {pane}")))
        }
        None => Err(WindowError::refused(name, format!("GROUP BY must have date_bin(INTERVAL '{pane}', event_time)"))),
    }
}

fn interval_micros(expression: &Expr) -> Option<i64> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = expression else { return None };
    (interval.months == 0).then(|| i64::from(interval.days) * 86_400_000_000 + interval.nanoseconds / 1_000)
}

/// Merges states with states; with a bin, the window column is made coarser on the way.
fn merging(
    last: &Arc<dyn ExecutionPlan>,
    state: &Arc<Slot>,
    bin: Option<(usize, Arc<dyn datafusion::physical_expr::PhysicalExpr>)>,
) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let Some(aggregate) = last.downcast_ref::<AggregateExec>() else {
        return datafusion::common::internal_err!("the final half is an aggregation");
    };
    let mut groups = aggregate.group_expr().expr().to_vec();
    if let Some((column, expression)) = bin
        && let Some(group) = groups.get_mut(column)
    {
        group.0 = expression;
    }
    let aggregates = aggregate.aggr_expr().to_vec();
    let filters = vec![None; aggregates.len()];
    let merged = AggregateExec::try_new(
        AggregateMode::PartialReduce,
        PhysicalGroupBy::new_single(groups),
        aggregates,
        filters,
        state.plan()?,
        aggregate.input_schema(),
    )?;
    Ok(Arc::new(merged))
}

/// The plan above the cut, reading states instead of rows.
fn cut(planned: &Planned, state: &Arc<Slot>) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let reading_states =
        datafusion::physical_plan::replace_children_if_necessary(Arc::clone(&planned.last), vec![state.plan()?])?;
    let top = Arc::clone(&planned.physical).transform_down(|node| {
        Ok(if Arc::ptr_eq(&node, &planned.last) {
            Transformed::new(Arc::clone(&reading_states), true, TreeNodeRecursion::Stop)
        } else {
            Transformed::no(node)
        })
    })?;
    Ok(top.data)
}

fn coarser_bin(
    state_schema: &SchemaRef,
    window_column: usize,
    span: Span,
) -> datafusion::error::Result<Arc<dyn datafusion::physical_expr::PhysicalExpr>> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![format!("{} seconds", span.micros() / 1_000_000)]));
    let interval = cast(&text, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let interval = Expr::Literal(ScalarValue::try_from_array(interval.as_ref() as &dyn Array, 0)?, None);
    let column = Expr::Column(Column::from_name(state_schema.field(window_column).name()));
    let origin = lit(ScalarValue::TimestampNanosecond(Some(0), None));
    let bin = datafusion::functions::datetime::expr_fn::date_bin(interval, column, origin);
    let columns = DFSchema::try_from(state_schema.as_ref().clone())?;
    create_physical_expr(&bin, &columns, &Default::default(), &Default::default())
}
