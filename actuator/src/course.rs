//! What the windows of a workload said, as far back as a change is compared with it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use headroom_actuator_decide::verify::{Guard, Sample, VerifyConfig, Worse};
use headroom_proto::{EventTime, Span};

/// The guard that needs no column: the load beside the low quantile that was forecast for it.
pub(crate) const SERVED: &str = "load / low quantile of the forecast";

/// The course of one workload.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// By the end of the window.
    windows: BTreeMap<i64, Window>,
}

#[derive(Debug, Default)]
struct Window {
    load: Option<f64>,
    /// The lowest quantile that was forecast for it.
    low: Option<f64>,
    guards: BTreeMap<usize, f64>,
}

impl Course {
    pub(crate) fn load(&mut self, end_us: i64, load: f64) {
        self.windows.entry(end_us).or_default().load = Some(load);
    }

    pub(crate) fn guard(&mut self, end_us: i64, number: usize, value: f64) {
        self.windows.entry(end_us).or_default().guards.insert(number, value);
    }

    pub(crate) fn low(&mut self, end_us: i64, low: f64) {
        self.windows.entry(end_us).or_default().low = Some(low);
    }

    pub(crate) fn forget_before(&mut self, time: EventTime) {
        if self.windows.first_key_value().is_some_and(|(end, _)| *end < time.micros()) {
            self.windows = self.windows.split_off(&time.micros());
        }
    }

    /// The windows that end in `ends`, each `step` after the one before; one that is missing has no values.
    pub(crate) fn samples(&self, ends: RangeInclusive<EventTime>, step: Span, guards: usize) -> Vec<Sample> {
        let (from, to) = (ends.start().micros(), ends.end().micros());
        if from > to {
            return Vec::new();
        }
        let Some((first, _)) = self.windows.range(from..=to).next() else { return Vec::new() };
        let step = usize::try_from(step.micros()).unwrap_or(1).max(1);
        (*first..=to).step_by(step).map(|end| self.sample(end, guards)).collect()
    }

    fn sample(&self, end_us: i64, guards: usize) -> Sample {
        let window = self.windows.get(&end_us);
        let load = window.and_then(|window| window.load).unwrap_or(f64::NAN);
        let value = |number| window.and_then(|window| window.guards.get(&number)).copied().unwrap_or(f64::NAN);
        let low = window.and_then(|window| window.low).filter(|low| *low > 0.0);
        let served = low.map_or(f64::NAN, |low| load / low);
        Sample { load, values: (0..guards).map(value).chain([served]).collect() }
    }
}

/// The guards that are named, then the load that is served where that is one.
pub(crate) fn guards(settings: &VerifyConfig) -> Vec<Guard> {
    let served = Guard { column: SERVED.to_owned(), worse: Worse::Down, tolerance: 0.5, floor: 0.0 };
    settings.guards.iter().cloned().chain(settings.served.then_some(served)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_window_keeps_its_place_and_old_ones_go() {
        let mut course = Course::default();
        let time = |minutes: i64| EventTime::from_micros(minutes * 60_000_000);
        for minutes in [5, 10, 20] {
            course.load(time(minutes).micros(), 100.0);
            course.guard(time(minutes).micros(), 0, 1.5);
            course.low(time(minutes).micros(), 80.0);
        }
        let samples = course.samples(time(0)..=time(20), Span::from_mins(5), 1);
        let loads: Vec<bool> = samples.iter().map(|sample| sample.load.is_finite()).collect();
        assert_eq!(loads, [true, true, false, true]);
        assert_eq!(samples[0], Sample { load: 100.0, values: vec![1.5, 1.25] });
        course.forget_before(time(10));
        assert_eq!(course.samples(time(0)..=time(20), Span::from_mins(5), 1).len(), 3);
        assert!(course.samples(time(30)..=time(25), Span::from_mins(5), 1).is_empty());
    }
}
