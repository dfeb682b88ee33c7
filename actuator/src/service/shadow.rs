//! What would have been done, beside what was: kept for each workload since the actuator's start, at every stage.

use headroom_actuator_decide::ForecastView;
use headroom_actuator_decide::shadow::{METHOD, Row, Shadow, Totals, Window};
use headroom_proto::EventTime;
use headroom_proto::v1::{ShadowRequest, ShadowResponse, ShadowUnits, ShadowWindow};
use tonic::Status;

use super::Work;

/// Windows that are kept: a week of five minutes.
const KEPT: usize = 2_016;

impl Work {
    /// Decides on paper for a window that has closed.
    pub(super) fn shadow(
        &mut self,
        name: &str,
        (end, load): (EventTime, f64),
        commanded: Option<u32>,
        forecast: Option<&ForecastView<'_>>,
    ) {
        let planner = self.config.planner_of(name);
        let learned = self.lessons.of(name, self.targets.of(name).name(), planner);
        let length = self.config.window_size;
        let Some(workload) = self.workloads.get_mut(name) else { return };
        // A target that is not asked with every window has what it was told to have.
        let there = workload.seen.as_ref().map(|state| (state.ready, state.commanded));
        let Some((ready, commanded)) = there.or(commanded.map(|units| (units, units))) else { return };
        let window = Window { end, length, load, ready, commanded };
        let shadow = workload.shadow.get_or_insert_with(|| Shadow::new(&window));
        shadow.take(&window, planner, &learned, forecast, KEPT);
    }

    /// The windows of a workload on paper and in fact, and what they come to.
    pub(super) fn shadowed(&self, request: &ShadowRequest) -> Result<ShadowResponse, Status> {
        let name = &request.workload;
        let Some(workload) = self.workloads.get(name) else {
            return Err(Status::not_found(format!("no workload `{name}`: `headroom status` shows them")));
        };
        let since = EventTime::from_micros(request.since_us);
        let rows: Vec<Row> = workload.shadow.iter().flat_map(|shadow| shadow.rows(since)).copied().collect();
        let totals = Totals::of(rows.iter(), self.config.window_size);
        Ok(ShadowResponse {
            workload: name.clone(),
            stage: self.stage_word(name),
            method: METHOD.to_owned(),
            window_us: self.config.window_size.micros(),
            windows: rows.iter().map(shown).collect(),
            violation_minutes_was: totals.violation_minutes_was,
            violation_minutes_would: totals.violation_minutes_would,
            unit_hours_was: totals.unit_hours_was,
            unit_hours_would: totals.unit_hours_would,
        })
    }
}

fn shown(row: &Row) -> ShadowWindow {
    let units = |units: headroom_actuator_decide::shadow::Units| ShadowUnits {
        ready: units.ready,
        paid: units.paid,
        violated: units.violated,
    };
    ShadowWindow { end_us: row.end.micros(), load: row.load, was: Some(units(row.was)), would: Some(units(row.would)) }
}
