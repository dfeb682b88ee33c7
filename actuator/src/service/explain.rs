//! What a plan carries so that its story can be told later: the forecast at the peak, and what static capacity would be.

use headroom_actuator_decide::PlannerConfig;
use headroom_actuator_decide::planner::asked_by_forecast;
use headroom_proto::Span;
use headroom_proto::v1::{Forecast, Plan};

use super::act::view_of;

/// The plan with what its story needs.
pub(super) fn with_story(plan: Plan, planner: &PlannerConfig, forecast: Option<&Forecast>) -> Plan {
    let plan = Plan {
        target_utilisation: planner.target_utilisation,
        look_ahead_us: planner.look_ahead.micros(),
        set_quantile: planner.quantile.unwrap_or(0.0),
        ..plan
    };
    let Some(forecast) = forecast else { return plan };
    // As it was planned with, learned or declared.
    let (lead_time, unit_capacity) = (Span::from_micros(plan.lead_time_us), plan.unit_capacity);
    let planner = &PlannerConfig { lead_time, unit_capacity, ..planner.clone() };
    let view = view_of(forecast);
    let peak = asked_by_forecast(planner, plan.quantile, &view).map_or(0, |(_, _, at)| at.micros());
    let step = usize::try_from((peak - forecast.origin_us).checked_div(forecast.step_us).unwrap_or(0)).unwrap_or(0);
    let width = forecast.levels.len();
    let values = forecast.values.get(step * width..(step + 1) * width).unwrap_or_default();
    let top = forecast.values.chunks(width.max(1)).filter_map(|step| step.last()).copied().fold(0.0_f32, f32::max);
    Plan {
        signals: forecast.signals.clone(),
        verdict_reason: forecast.verdict_reason.clone(),
        peak_at_us: peak,
        levels: forecast.levels.clone(),
        peak_values: values.to_vec(),
        horizon_peak: f64::from(top),
        static_units: planner.units_for(f64::from(top)),
        ..plan
    }
}
