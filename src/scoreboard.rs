//! The scoreboard: what Headroom at several quantiles, and those it competes with, would have cost on one recorded
//! load, and how long its users would have suffered.

use std::collections::BTreeMap;
use std::fmt;

use headroom_actuator_decide::planner::Wanted;
use headroom_actuator_decide::simulation::{
    Headroom, Oracle, PolicyResult, Reactive, ScalingPolicy, SeasonalMax, StaticPeak, StepContext, simulate,
};
use headroom_actuator_decide::{ForecastView, PlannerConfig};
use headroom_proto::Span;
use headroom_proto::v1::Verdict;
use serde::Serialize;

mod lake;

pub(crate) use lake::of_lake;

/// Quantiles of which Headroom is always shown.
const QUANTILES: [f64; 5] = [0.5, 0.75, 0.9, 0.95, 0.99];
/// A forecast serves as long as no newer one has come, this many steps at most.
const MAX_AGE_STEPS: i64 = 6;
const DAY_US: i64 = 86_400_000_000;

/// What one policy came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) policy: String,
    /// Minutes in violation.
    pub(crate) violation_minutes: f64,
    /// Unit hours paid.
    pub(crate) unit_hours: f64,
    /// Unit hours, divided by those of the oracle.
    pub(crate) cost_vs_oracle: f64,
    /// Minutes by which the units that a rise of the load needs were ready before it, the median; an hour at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lead_minutes: Option<f64>,
}

/// The scoreboard with what it rests on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Board {
    /// What was measured, and how.
    pub(crate) caption: String,
    /// A policy each.
    pub(crate) rows: Vec<Row>,
}

/// A recorded load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course<'a> {
    /// Start of the first step, in microseconds.
    pub(crate) start_us: i64,
    /// Length of a step, in microseconds.
    pub(crate) step_us: i64,
    /// One a step; NaN is a gap.
    pub(crate) loads: &'a [f64],
    /// Steps before this one are history.
    pub(crate) scored_from: usize,
}

/// The forecasts that were made, by their origin.
#[derive(Clone, Debug)]
pub(crate) struct Forecasts {
    step_us: i64,
    levels: Vec<f64>,
    made: BTreeMap<i64, (Vec<f32>, Verdict)>,
}

impl Forecasts {
    /// None yet; each will have quantiles at these levels.
    pub(crate) fn new(step_us: i64, levels: Vec<f64>) -> Self {
        Self { step_us, levels, made: BTreeMap::new() }
    }

    /// How many steps of a forecast a planner looks at.
    pub(crate) fn steps_needed(planner: &PlannerConfig, step: Span) -> usize {
        let ahead = planner.lead_time.steps(step) + planner.dwell.steps(step) + planner.look_ahead.steps(step).max(1);
        usize::try_from(ahead + MAX_AGE_STEPS).unwrap_or(0)
    }

    /// Notes a forecast: `values[step * levels + level]`. An abstention has no values.
    pub(crate) fn add(&mut self, origin_us: i64, values: Vec<f32>, verdict: Verdict) {
        self.made.insert(origin_us, (values, verdict));
    }

    /// The newest forecast at a time, without the steps that are past.
    pub(crate) fn at(&self, now_us: i64) -> Option<ForecastView<'_>> {
        let (origin_us, (values, verdict)) = self.made.range(..=now_us).next_back()?;
        let age = (now_us - origin_us).div_euclid(self.step_us);
        if age > MAX_AGE_STEPS {
            return None;
        }
        let past = usize::try_from(age).ok()? * self.levels.len();
        let values = values.get(past..).unwrap_or_default();
        Some(ForecastView { origin_us: now_us, step_us: self.step_us, levels: &self.levels, values, verdict: *verdict })
    }
}

/// Sees the same steps as its inner policy would that had begun with the history.
struct WithHistory<P> {
    inner: P,
    steps: usize,
}

impl<P: ScalingPolicy> ScalingPolicy for WithHistory<P> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn wanted(&mut self, context: &StepContext<'_>) -> Wanted {
        self.inner.wanted(&StepContext { step: context.step + self.steps, ..*context })
    }
}

/// Every policy on one load, the oracle last.
pub(crate) fn compete(course: Course<'_>, forecasts: &Forecasts, planner: &PlannerConfig) -> Vec<PolicyResult> {
    let scored = course.loads.get(course.scored_from..).unwrap_or_default();
    let start_us = course.start_us + course.step_us * i64::try_from(course.scored_from).unwrap_or(0);
    let day_steps = usize::try_from(DAY_US / course.step_us.max(1)).unwrap_or(1);
    let lead_steps = usize::try_from(planner.lead_time.steps(Span::from_micros(course.step_us))).unwrap_or(0);
    let peak = scored.iter().copied().filter(|load| load.is_finite()).fold(0.0, f64::max);
    let forecast_at = |now_us: i64| forecasts.at(now_us);
    let seasonal = SeasonalMax { loads: course.loads, day_steps };
    let mut policies: Vec<Box<dyn ScalingPolicy + '_>> = vec![
        Box::new(StaticPeak { units: planner.units_for(peak) }),
        Box::new(Reactive { factor: 1.0 }),
        Box::new(Reactive { factor: 1.5 }),
        Box::new(Reactive { factor: 2.0 }),
        Box::new(WithHistory { inner: seasonal, steps: course.scored_from }),
    ];
    for quantile in quantiles(planner) {
        policies.push(Box::new(Headroom { quantile, forecast_at: &forecast_at }));
    }
    policies.push(Box::new(Oracle { loads: scored, lead_steps }));
    let results =
        policies.iter_mut().map(|policy| simulate(policy.as_mut(), scored, start_us, course.step_us, planner));
    results.map(|result| mark_chosen(result, planner)).collect()
}

/// The usual quantiles and the one that the costs ask for, ascending.
fn quantiles(planner: &PlannerConfig) -> Vec<f64> {
    let mut quantiles = QUANTILES.to_vec();
    let chosen = planner.sizing_quantile();
    if !quantiles.iter().any(|quantile| is_same(*quantile, chosen)) {
        quantiles.push(chosen);
        quantiles.sort_by(f64::total_cmp);
    }
    quantiles
}

fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-6
}

/// The name of the policy that the planner follows.
fn mark_chosen(mut result: PolicyResult, planner: &PlannerConfig) -> PolicyResult {
    let chosen = Headroom { quantile: planner.sizing_quantile(), forecast_at: &|_| None }.name();
    if result.policy == chosen {
        result.policy.push_str(CHOSEN);
    }
    result
}

/// How the name of the policy ends that the planner follows.
pub(crate) const CHOSEN: &str = " (cost-optimal)";

/// The rows of one or more workloads together; their policies stand in the same order.
pub(crate) fn rows(workloads: &[Vec<PolicyResult>]) -> Vec<Row> {
    let Some(first) = workloads.first() else { return Vec::new() };
    let total = |place: usize, value: fn(&PolicyResult) -> f64| -> f64 {
        workloads.iter().filter_map(|results| results.get(place)).map(value).sum()
    };
    let oracle_hours = total(first.len().saturating_sub(1), |result| result.unit_hours);
    first
        .iter()
        .enumerate()
        .map(|(place, result)| {
            let unit_hours = total(place, |result| result.unit_hours);
            Row {
                policy: result.policy.clone(),
                violation_minutes: total(place, |result| result.violation_minutes),
                unit_hours,
                cost_vs_oracle: unit_hours / oracle_hours,
                lead_minutes: None,
            }
        })
        .collect()
}

/// Writes the rows as a table.
pub(crate) fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let width = rows.iter().map(|row| row.policy.chars().count()).max().unwrap_or(0).max("policy".len());
    let has_leads = rows.iter().any(|row| row.lead_minutes.is_some());
    write!(f, "{:width$}  {:>17}  {:>12}  {:>13}", "policy", "violation minutes", "unit hours", "cost / oracle")?;
    writeln!(f, "{}", if has_leads { "  lead, minutes" } else { "" })?;
    for row in rows {
        let (policy, minutes, hours, cost) = (&row.policy, row.violation_minutes, row.unit_hours, row.cost_vs_oracle);
        write!(f, "{policy:width$}  {minutes:>17.0}  {hours:>12.1}  {cost:>13.2}")?;
        match row.lead_minutes {
            Some(lead) => writeln!(f, "  {lead:>13.0}")?,
            None => writeln!(f)?,
        }
    }
    Ok(())
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.caption)?;
        write_rows(f, &self.rows)
    }
}

#[cfg(test)]
mod tests;
