//! What would have been done, beside what was: the planner runs on units of its own, which exist on paper alone.
//!
//! Everything is done at once on paper: policies, people, budgets and failures are left out. A raise is ready after the
//! lead time and paid from its decision on, a release takes effect at once. It is an estimate: another number of units
//! may have served another load.

use std::collections::VecDeque;

use headroom_proto::EventTime;
use headroom_proto::time::Span;

use crate::planner::{ForecastView, Learned, Observation, PlannerConfig, decide_with};

/// How the figures were made, in words.
pub const METHOD: &str = "estimate: the same load on the units that each plan would have given at once, ready after the \
                          lead time; policies, people and budgets left out";

/// Units over one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// Those that served, from its start on.
    pub ready: u32,
    /// Those that were paid: with the ones on their way.
    pub paid: u32,
    /// Was the load above what users bear?
    pub violated: bool,
}

/// One window, as it was and as it would have been.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Its end.
    pub end: EventTime,
    /// Its load.
    pub load: f64,
    /// What there was.
    pub was: Units,
    /// What there would have been.
    pub would: Units,
}

/// What rows come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Windows.
    pub windows: u32,
    /// Minutes in violation as it was.
    pub violation_minutes_was: f64,
    /// Minutes in violation as it would have been.
    pub violation_minutes_would: f64,
    /// Unit-hours paid as it was.
    pub unit_hours_was: f64,
    /// Unit-hours paid as it would have been.
    pub unit_hours_would: f64,
}

/// A workload's units on paper, and the windows since it began.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// Units commanded on paper from each time on, oldest first.
    commands: VecDeque<(EventTime, u32)>,
    last_change: EventTime,
    /// Units that served in fact at the end of the window before.
    ready: u32,
    rows: VecDeque<Row>,
}

/// What a window tells.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its end.
    pub end: EventTime,
    /// Its length.
    pub length: Span,
    /// Its load.
    pub load: f64,
    /// Units that serve at its end, in fact.
    pub ready: u32,
    /// Units commanded at its end, in fact.
    pub commanded: u32,
}

impl Shadow {
    /// Begins with what there is at the end of a window.
    #[must_use]
    pub fn new(window: &Window) -> Self {
        let commands = VecDeque::from([(window.end, window.commanded)]);
        Self { commands, last_change: EventTime::MIN, ready: window.ready, rows: VecDeque::new() }
    }

    /// Takes in a window, and decides on paper. `kept` rows are kept.
    pub fn take(
        &mut self,
        window: &Window,
        planner: &PlannerConfig,
        learned: &Learned<'_>,
        forecast: Option<&ForecastView<'_>>,
        kept: usize,
    ) {
        let lead_time = learned.lead_time.map_or(planner.lead_time, |known| known.span);
        let start = window.end - window.length;
        let violated = |ready: u32| {
            let serves = learned.curve.map_or(planner.unit_capacity * f64::from(ready), |curve| curve.capacity(ready));
            window.load > planner.violation_utilisation * serves
        };
        let units =
            |(ready, commanded): (u32, u32)| Units { ready, paid: ready.max(commanded), violated: violated(ready) };
        let would = (self.ready_at(start, lead_time), self.commanded_at(start));
        // A change takes effect when a window begins: what is released serves no more, what is raised not yet.
        let was = (self.ready.min(window.commanded), window.commanded);
        self.rows.push_back(Row { end: window.end, load: window.load, was: units(was), would: units(would) });
        while self.rows.len() > kept {
            self.rows.pop_front();
        }
        self.ready = window.ready;
        let (units_commanded, last_change) = (self.commanded_at(window.end), self.last_change);
        let seen = Observation { now: window.end, load: Some(window.load), units_commanded, last_change };
        let decision = decide_with(planner, learned, &seen, forecast);
        if decision.units_now != units_commanded {
            self.commands.push_back((window.end, decision.units_now));
            self.last_change = window.end;
        }
        // What counts no more: all but the newest command before the lead time.
        while self.commands.get(1).is_some_and(|(at, _)| *at <= start - lead_time) {
            self.commands.pop_front();
        }
    }

    /// The windows that end after that time, oldest first.
    pub fn rows(&self, since: EventTime) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.end > since)
    }

    fn commanded_at(&self, time: EventTime) -> u32 {
        let before = self.commands.iter().rev().find(|(at, _)| *at <= time);
        before.or(self.commands.front()).map_or(0, |(_, units)| *units)
    }

    /// A unit is ready when it was commanded all through the lead time.
    fn ready_at(&self, time: EventTime, lead_time: Span) -> u32 {
        let since = time - lead_time;
        let within = self.commands.iter().filter(|(at, _)| *at > since && *at <= time);
        within.map(|(_, units)| *units).fold(self.commanded_at(since), u32::min)
    }
}

impl Totals {
    /// What windows of that length come to.
    #[must_use]
    pub fn of<'a>(rows: impl Iterator<Item = &'a Row>, length: Span) -> Self {
        let hours = length.as_hours_f64();
        let minutes = |units: &Units| if units.violated { hours * 60.0 } else { 0.0 };
        rows.fold(Self::default(), |sum, row| Self {
            windows: sum.windows + 1,
            violation_minutes_was: sum.violation_minutes_was + minutes(&row.was),
            violation_minutes_would: sum.violation_minutes_would + minutes(&row.would),
            unit_hours_was: sum.unit_hours_was + f64::from(row.was.paid) * hours,
            unit_hours_would: sum.unit_hours_would + f64::from(row.would.paid) * hours,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headroom_proto::v1::Verdict;

    /// One unit serves 100, is planned with 70 and violated above 85; ready after two windows.
    #[test]
    fn what_was_late_in_fact_is_in_time_on_paper() {
        let planner =
            PlannerConfig { unit_capacity: 100.0, lead_time: Span::from_mins(10), ..PlannerConfig::default() };
        let length = Span::from_mins(5);
        let at = |step: i64| EventTime::from_micros(0) + length.times(step);
        let learned = Learned::default();
        let loads = [50.0, 50.0, 50.0, 50.0, 300.0, 300.0];
        let window = |step: i64, load: f64| Window { end: at(step), length, load, ready: 1, commanded: 1 };
        let mut shadow = Shadow::new(&window(0, 50.0));
        let values = [300.0_f32; 24];
        for (step, load) in (1..).zip(loads) {
            let forecast = ForecastView {
                origin_us: at(step).micros(),
                step_us: length.micros(),
                levels: &[0.5],
                values: &values,
                verdict: Verdict::Fresh,
            };
            shadow.take(&window(step, load), &planner, &learned, Some(&forecast), 100);
        }
        let rows: Vec<&Row> = shadow.rows(EventTime::MIN).collect();
        // 300 / 70 is 5 units: commanded at the end of window 1, ready from the end of window 3 on.
        let would: Vec<(u32, u32)> = rows.iter().map(|row| (row.would.ready, row.would.paid)).collect();
        assert_eq!(would, [(1, 1), (1, 5), (1, 5), (5, 5), (5, 5), (5, 5)]);
        assert!(rows.iter().all(|row| (row.was.ready, row.was.paid) == (1, 1)));
        let totals = Totals::of(shadow.rows(EventTime::MIN), length);
        assert_eq!((totals.windows, totals.violation_minutes_was, totals.violation_minutes_would), (6, 10.0, 0.0));
        assert!((totals.unit_hours_was - 6.0 / 12.0).abs() < 1e-9, "{totals:?}");
        assert!((totals.unit_hours_would - 26.0 / 12.0).abs() < 1e-9, "{totals:?}");
        assert_eq!(shadow.rows(at(4)).count(), 2);
    }

    #[test]
    fn what_was_changed_in_fact_counts_from_its_window_on() {
        let (planner, length) = (PlannerConfig::default(), Span::from_mins(5));
        // Raised from 1 to 3 at the end of window 1, ready at that of window 3; released to 2 at that of window 4.
        let said = [(1, 1), (1, 3), (3, 3), (3, 3), (2, 2)];
        let window = |(step, (ready, commanded)): (i64, (u32, u32))| {
            let end = EventTime::from_micros(0) + length.times(step);
            Window { end, length, load: 1.0, ready, commanded }
        };
        let windows: Vec<Window> = (1..).zip(said).map(window).collect();
        let mut shadow = Shadow::new(&windows[0]);
        windows.iter().for_each(|window| shadow.take(window, &planner, &Learned::default(), None, 9));
        let was: Vec<(u32, u32)> = shadow.rows(EventTime::MIN).map(|row| (row.was.ready, row.was.paid)).collect();
        assert_eq!(was, [(1, 1), (1, 3), (1, 3), (3, 3), (2, 2)]);
    }

    #[test]
    fn rows_are_bounded() {
        let (planner, length) = (PlannerConfig::default(), Span::from_mins(5));
        let window = |step: i64| {
            let end = EventTime::from_micros(0) + length.times(step);
            Window { end, length, load: 1.0, ready: 1, commanded: 1 }
        };
        let mut shadow = Shadow::new(&window(0));
        (1..=20).for_each(|step| shadow.take(&window(step), &planner, &Learned::default(), None, 3));
        assert_eq!(shadow.rows(EventTime::MIN).count(), 3);
    }
}
