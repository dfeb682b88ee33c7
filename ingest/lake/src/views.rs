//! Ready-made questions of capacity planners, as views over the tables. Each is described in its own SQL.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::datasource::ViewTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use headroom_proto::schema::WINDOW_ENVELOPE;

use crate::schema::{DATE, quantile_column};

/// A view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    sql: &'static str,
}

/// Every view; each may use those before it.
pub(crate) const ALL: [View; 7] = [
    View { name: "actual_load", sql: include_str!("views/actual_load.sql") },
    View { name: "forecast_vs_actual", sql: include_str!("views/forecast_vs_actual.sql") },
    View { name: "capacity", sql: include_str!("views/capacity.sql") },
    View { name: "headroom_by_hour", sql: include_str!("views/headroom_by_hour.sql") },
    View { name: "growth_by_month", sql: include_str!("views/growth_by_month.sql") },
    View { name: "policy_cost", sql: include_str!("views/policy_cost.sql") },
    View { name: "campaign_lift", sql: include_str!("views/campaign_lift.sql") },
];

/// Registers the views over tables that have these columns: features and quantiles are those that were ever written.
pub(crate) async fn register(
    context: &SessionContext,
    windows: &SchemaRef,
    forecasts: &SchemaRef,
) -> Result<(), DataFusionError> {
    let actual = actual(windows);
    for view in ALL {
        let mut sql = view.sql.replace("{actual}", &actual);
        for level in [0.1, 0.5, 0.9] {
            let column = quantile_column(level);
            let has = forecasts.index_of(&column).is_ok();
            let value = if has { format!("f.{column}") } else { "CAST(NULL AS DOUBLE)".to_owned() };
            sql = sql.replace(&format!("{{{column}}}"), &value);
        }
        // A table of another version may lack a column: its views are missing then, and every other question is answered.
        match context.state().create_logical_plan(&sql).await {
            Ok(plan) => drop(context.register_table(view.name, Arc::new(ViewTable::new(plan, Some(sql))))?),
            Err(error) => tracing::debug!(view = view.name, %error, "the view is left out"),
        }
    }
    Ok(())
}

/// The window's column that a forecast's target names.
fn actual(windows: &SchemaRef) -> String {
    let is_feature = |name: &str| name != DATE && !WINDOW_ENVELOPE.contains(&name);
    let features = windows.fields().iter().filter(|field| {
        is_feature(field.name()) && field.data_type() == &DataType::Float64 && !field.name().contains(['\'', '"'])
    });
    let cases: String =
        features.map(|field| format!(" WHEN '{name}' THEN w.\"{name}\"", name = field.name())).collect();
    if cases.is_empty() { "CAST(NULL AS DOUBLE)".to_owned() } else { format!("CASE t.target{cases} END") }
}

#[cfg(test)]
mod tests;
