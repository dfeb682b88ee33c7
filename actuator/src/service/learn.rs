//! What windows and actions teach of a workload's units: how much they serve, and how long they take to be ready.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};
use headroom_actuator_decide::capacity::{Busy, Curve, Refusal, Sample, fit};
use headroom_actuator_decide::lead_time::{LeadTime, LeadTimes};
use headroom_actuator_decide::{Learned, PlannerConfig};
use headroom_proto::v1::{ActionRecord, CapacityCurve, Outcome, Plan};
use headroom_proto::{EventTime, Span, schema};

use super::Work;
use crate::ActuatorConfig;

/// Windows that wait for their other half.
const MOST_HALVES: usize = 1_000;
/// A curve is fitted again when so many windows have come, or a twentieth of those that there are.
const REFIT_WINDOWS: usize = 12;

/// What was learned of all workloads.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    workloads: BTreeMap<String, Lesson>,
    /// By target.
    lead_times: BTreeMap<String, LeadTimes>,
    /// Lead times of actions whose outcome is not published yet.
    ready_after: BTreeMap<String, Span>,
}

/// What was learned of one workload.
#[derive(Debug, Default)]
struct Lesson {
    /// How busy the units were in a window, and what they served, by the window's end.
    busy: BTreeMap<i64, Busy>,
    served: BTreeMap<i64, (u32, f64)>,
    samples: VecDeque<Sample>,
    since_fit: usize,
    curve: Option<Curve>,
    why_no_curve: Option<String>,
    /// The raise whose units are not ready yet.
    rising: Option<Rising>,
}

#[derive(Clone, Debug)]
struct Rising {
    action_id: String,
    target: String,
    units: u32,
    since: EventTime,
}

impl Lessons {
    /// Takes in how busy the units of each workload were.
    pub(super) fn take_windows(&mut self, batch: &RecordBatch, config: &ActuatorConfig, size_s: i32) {
        for (name, end_us, busy) in busy(batch, config, size_s).unwrap_or_default() {
            let lesson = self.workloads.entry(name).or_default();
            lesson.busy.insert(end_us, busy);
            bound(&mut lesson.busy);
        }
    }

    /// What is planned with.
    pub(super) fn of(&self, name: &str, target: &str, planner: &PlannerConfig) -> Learned<'_> {
        let lesson = self.workloads.get(name).filter(|_| wants_curve(planner));
        Learned {
            curve: lesson.and_then(|lesson| lesson.curve.as_ref()),
            why_no_curve: lesson.and_then(|lesson| lesson.why_no_curve.as_deref()),
            lead_time: Some(self.lead_time(target, planner)),
        }
    }

    /// The lead time of a target.
    pub(super) fn lead_time(&self, target: &str, planner: &PlannerConfig) -> LeadTime {
        let declared = LeadTime { span: planner.lead_time, actions: 0 };
        self.lead_times.get(target).map_or(declared, |times| times.plan_with(planner.lead_time, &planner.learn))
    }

    /// Load that so many units of a workload serve at 100 %.
    pub(super) fn capacity(&self, name: &str, units: u32, planner: &PlannerConfig) -> f64 {
        let curve = self.workloads.get(name).and_then(|lesson| lesson.curve.as_ref()).filter(|_| wants_curve(planner));
        curve.map_or(planner.unit_capacity * f64::from(units), |curve| curve.capacity(units))
    }

    /// The curve in use, for the record.
    pub(super) fn curve(&self, name: &str, planner: &PlannerConfig) -> Option<CapacityCurve> {
        let curve = self.workloads.get(name)?.curve.as_ref().filter(|_| wants_curve(planner))?;
        let (inverse, covariance) = curve.parts();
        let [gamma, alpha, beta] = curve.law();
        Some(CapacityCurve {
            gamma,
            alpha,
            beta,
            inverse: inverse.to_vec(),
            covariance: covariance.to_vec(),
            windows: curve.windows,
            fewest_units: curve.fewest_units,
            most_units: curve.most_units,
        })
    }

    /// A curve of before a restart counts until there is a newer one.
    pub(super) fn recall_plan(&mut self, plan: &Plan) {
        let Some(known) = &plan.capacity_curve else { return };
        let parts = <[f64; 3]>::try_from(known.inverse.as_slice()).ok();
        let spread = <[f64; 6]>::try_from(known.covariance.as_slice()).ok();
        let curve = parts.zip(spread).and_then(|(inverse, covariance)| {
            Curve::from_parts(inverse, covariance, known.windows, (known.fewest_units, known.most_units))
        });
        self.workloads.entry(plan.workload.clone()).or_default().curve = curve;
    }

    /// A lead time of before a restart.
    pub(super) fn recall_outcome(&mut self, outcome: &Outcome) {
        if let Some(span) = outcome.ready_after_us.map(Span::from_micros) {
            self.lead_times.entry(outcome.target.clone()).or_default().add(span);
        }
    }

    /// Waits for the units of a raise; one that a newer change overtakes teaches nothing.
    fn wait_for(&mut self, action: &ActionRecord, since: EventTime) {
        let rising = Rising {
            action_id: action.action_id.clone(),
            target: action.target.clone(),
            units: action.units_after,
            since,
        };
        let lesson = self.workloads.entry(action.workload.clone()).or_default();
        lesson.rising = (action.units_after > action.units_before).then_some(rising);
    }

    /// What was under way before a restart would seem to have taken as long as that.
    pub(super) fn stop_waiting(&mut self) {
        self.workloads.values_mut().for_each(|lesson| lesson.rising = None);
    }

    /// The units are there.
    fn are_ready(&mut self, name: &str, at: EventTime) {
        let Some(rising) = self.workloads.get_mut(name).and_then(|lesson| lesson.rising.take()) else { return };
        let span = at - rising.since;
        self.lead_times.entry(rising.target).or_default().add(span);
        self.ready_after.insert(rising.action_id, span);
    }

    /// Writes into an outcome what was learned from its action.
    pub(super) fn complete(&mut self, outcome: Outcome, action: &ActionRecord) -> Outcome {
        let ready_after_us = self.ready_after.remove(&action.action_id).map(Span::micros);
        Outcome { ready_after_us, target: action.target.clone(), units_before: action.units_before, ..outcome }
    }
}

impl Work {
    /// Learns from a window that has closed and, when units are on their way, from the target.
    pub(super) async fn learn(&mut self, name: &str, at: EventTime, load: f64) {
        let planner = self.config.planner_of(name).clone();
        let wants_curve = wants_curve(&planner);
        let is_rising = self.lessons.workloads.get(name).is_some_and(|lesson| lesson.rising.is_some());
        if !wants_curve && !is_rising {
            return;
        }
        let Some(state) = self.observe(name, at).await else { return };
        let begun = at - self.config.window_size;
        let last_change = self.workloads.get(name).map_or(EventTime::MIN, |workload| workload.last_change);
        let lesson = self.lessons.workloads.entry(name.to_owned()).or_default();
        let is_steady = state.ready == state.commanded && last_change <= begun && !is_rising;
        let are_ready = lesson.rising.as_ref().is_some_and(|rising| state.ready >= rising.units);
        if wants_curve {
            if is_steady {
                lesson.served.insert(at.micros(), (state.ready, load));
                bound(&mut lesson.served);
            }
            lesson.refit(&planner, at);
        }
        if are_ready {
            self.lessons.are_ready(name, at);
        }
    }

    /// The lead time that a workload is planned with.
    pub(super) fn lead_time_of(&self, name: &str) -> Span {
        self.lessons.lead_time(self.targets.of(name).name(), self.config.planner_of(name)).span
    }

    /// Begins to wait for the units of an action that was applied at its intent's time; some are there at once.
    pub(super) async fn wait_for_units(&mut self, action: &ActionRecord, intended: EventTime) {
        // What begins later tells nothing of how long it takes.
        if action.begin_at_us > 0 {
            return;
        }
        self.lessons.wait_for(action, intended);
        if self.lessons.workloads.get(&action.workload).is_none_or(|lesson| lesson.rising.is_none()) {
            return;
        }
        let state = self.observe(&action.workload, intended).await;
        if state.is_some_and(|state| state.ready >= action.units_after) {
            self.lessons.are_ready(&action.workload, intended);
        }
    }
}

impl Lesson {
    /// Joins the halves of windows, and fits when enough have come.
    fn refit(&mut self, planner: &PlannerConfig, at: EventTime) {
        let joined: Vec<i64> = self.served.keys().filter(|end| self.busy.contains_key(end)).copied().collect();
        for end in joined {
            if let Some(((units, load), busy)) = self.served.remove(&end).zip(self.busy.remove(&end)) {
                self.samples.push_back(Sample { units, load, busy });
                self.since_fit += 1;
            }
        }
        let kept = usize::try_from(planner.learn.kept_windows).unwrap_or(usize::MAX);
        while self.samples.len() > kept {
            self.samples.pop_front();
        }
        let is_due = self.since_fit >= REFIT_WINDOWS.max(self.samples.len() / 20);
        if !is_due && (self.curve.is_some() || self.why_no_curve.is_some()) {
            return;
        }
        self.since_fit = 0;
        match fit(self.samples.make_contiguous(), &planner.learn, at.micros().unsigned_abs()) {
            Ok(curve) => (self.curve, self.why_no_curve) = (Some(curve), None),
            Err(refusal) => {
                // What quiet windows cannot tell does not make a curve wrong that busy ones have told.
                let keeps = matches!(refusal, Refusal::Few { .. } | Refusal::Sizes { .. } | Refusal::Idle { .. });
                if !keeps {
                    self.curve = None;
                }
                self.why_no_curve = Some(refusal.to_string());
            }
        }
    }
}

fn wants_curve(planner: &PlannerConfig) -> bool {
    planner.learn.utilisation.is_some() || planner.learn.latency.is_some()
}

fn bound<T>(windows: &mut BTreeMap<i64, T>) {
    while windows.len() > MOST_HALVES {
        windows.pop_first();
    }
}

/// Workload, end and how busy the units were of each window of that size.
fn busy(batch: &RecordBatch, config: &ActuatorConfig, size_s: i32) -> Option<Vec<(String, i64, Busy)>> {
    let names = batch.column_by_name(schema::WORKLOAD)?.as_string_opt::<i32>()?;
    let ends = batch.column_by_name("window_end")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let sizes = batch.column_by_name("window_size_s")?.as_primitive_opt::<Int32Type>()?;
    let value = |column: &Option<String>, row: usize| {
        let values = batch.column_by_name(column.as_ref()?)?.as_primitive_opt::<Float64Type>()?;
        values.is_valid(row).then(|| values.value(row))
    };
    let mut found = Vec::new();
    for row in (0..batch.num_rows()).filter(|row| sizes.value(*row) == size_s) {
        let learn = &config.planner_of(names.value(row)).learn;
        let measured = match &learn.utilisation {
            Some(_) => value(&learn.utilisation, row).map(Busy::Utilisation),
            None => value(&learn.latency, row).map(Busy::Latency),
        };
        found.extend(measured.map(|busy| (names.value(row).to_owned(), ends.value(row), busy)));
    }
    Some(found)
}
