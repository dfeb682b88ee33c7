//! Percentiles in feature queries. `approx_percentile_cont` is planned as a sketch whose states merge exactly in any
//! order, one for all percentiles of a column: DataFusion's own t-digest is slower, and its answer depends on the order.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, Aggregate, AggregateUDF, AggregateUDFImpl, ColumnarValue, EmitTo, Expr, GroupsAccumulator,
    LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast, lit,
};

use crate::sketch::{Damaged, Mapping, Sketch, quantile};

const PERCENTILE: &str = "approx_percentile_cont";
const MEDIAN: &str = "approx_median";

static SKETCH: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(SketchFunction::new())));
static QUANTILE: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::from(QuantileFunction::new()));

/// The plan with every approximate percentile read off a sketch.
///
/// # Errors
/// When a percentile is no number between 0 and 1.
pub(crate) fn with_sketches(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        if let LogicalPlan::Aggregate(aggregate) = &node
            && aggregate.aggr_expr.iter().any(|expression| percentile_of(expression).is_some())
        {
            return Ok(Transformed::yes(sketched(aggregate)?));
        }
        Ok(Transformed::no(node))
    })?;
    Ok(rewritten.data)
}

fn percentile_of(expression: &Expr) -> Option<&AggregateFunction> {
    if let Expr::Alias(alias) = expression {
        return percentile_of(&alias.expr);
    }
    let Expr::AggregateFunction(call) = expression else { return None };
    [PERCENTILE, MEDIAN].contains(&call.func.name()).then_some(call)
}

/// Sketches in place of percentiles, and above them what the percentiles were, under the same names.
fn sketched(aggregate: &Aggregate) -> Result<LogicalPlan> {
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut columns: Vec<Expr> =
        (0..groups).map(|at| Expr::Column(Column::from(aggregate.schema.qualified_field(at)))).collect();
    let mut aggregates: Vec<Expr> = Vec::new();
    for (at, expression) in aggregate.aggr_expr.iter().enumerate() {
        let (qualifier, field) = aggregate.schema.qualified_field(groups + at);
        let Some(call) = percentile_of(expression) else {
            aggregates.push(expression.clone());
            columns.push(Expr::Column(Column::from((qualifier, field))));
            continue;
        };
        let sketch = sketch_of(call)?;
        let name = sketch.schema_name().to_string();
        if !aggregates.contains(&sketch) {
            aggregates.push(sketch);
        }
        let value = QUANTILE.call(vec![Expr::Column(Column::from_name(name)), lit(level_of(call)?)]);
        columns.push(cast(value, field.data_type().clone()).alias(field.name()));
    }
    let input = Arc::clone(&aggregate.input);
    let sketches = Aggregate::try_new(input, aggregate.group_expr.clone(), aggregates)?;
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::Aggregate(sketches)))?))
}

fn sketch_of(call: &AggregateFunction) -> Result<Expr> {
    let Some(value) = call.params.args.first() else { return plan_err!("{} of what?", call.func.name()) };
    let value = cast(value.clone(), DataType::Float64);
    let sketch =
        AggregateFunction::new_udf(Arc::clone(&SKETCH), vec![value], false, call.params.filter.clone(), vec![], None);
    Ok(Expr::AggregateFunction(sketch))
}

fn level_of(call: &AggregateFunction) -> Result<f64> {
    if call.func.name() == MEDIAN {
        return Ok(0.5);
    }
    let level = match call.params.args.get(1) {
        Some(Expr::Literal(value, _)) => value.cast_to(&DataType::Float64)?,
        _ => ScalarValue::Null,
    };
    if let ScalarValue::Float64(Some(level)) = level
        && (0.0..=1.0).contains(&level)
    {
        let is_descending = call.params.order_by.first().is_some_and(|order| !order.asc);
        return Ok(if is_descending { 1.0 - level } else { level });
    }
    plan_err!("the percentile of {PERCENTILE} must be a number between 0 and 1")
}

fn damaged(error: Damaged) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}

/// The aggregate: values in, an encoded sketch out.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SketchFunction {
    signature: Signature,
}

impl SketchFunction {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for SketchFunction {
    fn name(&self) -> &str {
        "headroom_sketch"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sketch]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(Groups::new())))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new()))
    }
}

/// Sketches by group.
#[derive(Debug)]
struct Groups {
    mapping: Mapping,
    sketches: Vec<Sketch>,
}

impl Groups {
    fn new() -> Self {
        Self { mapping: Mapping::new(), sketches: Vec::new() }
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sketches.resize_with(total, Sketch::default);
        let Some(values) = values.first() else { return exec_err!("a sketch of no column") };
        let values = values.as_primitive::<Float64Type>();
        for (row, group) in groups.iter().enumerate() {
            if values.is_null(row) || filter.is_some_and(|keep| keep.is_null(row) || !keep.value(row)) {
                continue;
            }
            if let (Some(bin), Some(sketch)) = (self.mapping.bin(values.value(row)), self.sketches.get_mut(*group)) {
                sketch.add(bin);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.sketches.resize_with(total, Sketch::default);
        let Some(states) = states.first() else { return exec_err!("a sketch of no state") };
        let states = states.as_binary::<i32>();
        for (row, group) in groups.iter().enumerate() {
            if states.is_valid(row)
                && let Some(sketch) = self.sketches.get_mut(*group)
            {
                sketch.merge(states.value(row)).map_err(damaged)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let sketches = emit.take_needed(&mut self.sketches);
        let mut encoded = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for sketch in &sketches {
            bytes.clear();
            sketch.encode(&mut bytes);
            encoded.append_value(&bytes);
        }
        Ok(Arc::new(encoded.finish()))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |values| values.len());
        let mut each = Self::new();
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.sketches.capacity() * size_of::<Sketch>() + self.sketches.iter().map(Sketch::heap_bytes).sum::<usize>()
    }
}

/// The same for a query without groups.
#[derive(Debug)]
struct One(Groups);

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |values| values.len());
        self.0.update_batch(values, &vec![0; rows], None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |states| states.len());
        self.0.merge_batch(states, &vec![0; rows], 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut bytes = Vec::new();
        if let Some(sketch) = self.0.sketches.first() {
            sketch.encode(&mut bytes);
        }
        Ok(ScalarValue::Binary(Some(bytes)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(&self.0)
    }
}

/// Reads a percentile off an encoded sketch.
#[derive(Debug, PartialEq, Eq, Hash)]
struct QuantileFunction {
    signature: Signature,
}

impl QuantileFunction {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Binary, DataType::Float64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for QuantileFunction {
    fn name(&self) -> &str {
        "headroom_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [sketches, ColumnarValue::Scalar(ScalarValue::Float64(Some(level)))] = args.args.as_slice() else {
            return exec_err!("{} takes a sketch and a number", self.name());
        };
        let sketches = sketches.to_array(args.number_rows)?;
        let mapping = Mapping::new();
        let sketches = sketches.as_binary::<i32>();
        let values = sketches.iter().map(|sketch| sketch.map_or(Ok(None), |bytes| quantile(&mapping, bytes, *level)));
        let values = values.collect::<std::result::Result<Float64Array, Damaged>>().map_err(damaged)?;
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}
