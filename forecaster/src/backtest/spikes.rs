//! Spikes and peaks: does a forecast tell that load will be out of the ordinary, and how high it will go?

/// A step is a spike above this many times the usual load of its time of day.
const TIMES: f64 = 1.5;
/// The usual load is the median of so many days before, when enough of them are known.
const DAYS: usize = 7;
const LEAST_DAYS: usize = 3;

/// For each step the load from which on it is a spike; NaN where too little is known before it.
pub(super) fn thresholds(values: &[f64], day_steps: usize) -> Vec<f64> {
    let threshold = |step: usize| {
        let before = (1..=DAYS).filter_map(|day| values.get(step.checked_sub(day * day_steps)?).copied());
        let mut known: Vec<f64> = before.filter(|value| value.is_finite()).collect();
        known.sort_by(f64::total_cmp);
        let usual = known.get(known.len() / 2).filter(|_| known.len() >= LEAST_DAYS);
        usual.map_or(f64::NAN, |usual| TIMES * usual)
    };
    (0..values.len()).map(threshold).collect()
}

/// The highest median and the highest actual within the event steps of one forecast.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peak {
    median: f64,
    actual: f64,
}

impl Peak {
    pub(super) fn add(&mut self, median: f64, actual: f64) {
        self.median = self.median.max(median);
        self.actual = self.actual.max(actual);
    }
}

/// What was told of spikes and peaks, and what came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spikes {
    told_and_came: f64,
    told: f64,
    came: f64,
    peak_errors: f64,
    peaks: f64,
}

impl Spikes {
    pub(super) fn add(&mut self, spike_from: f64, median: f64, actual: f64) {
        let (is_told, is_spike) = (median > spike_from, actual > spike_from);
        self.told += f64::from(u8::from(is_told));
        self.came += f64::from(u8::from(is_spike));
        self.told_and_came += f64::from(u8::from(is_told && is_spike));
    }

    /// The end of one forecast; one that saw no event has no peak.
    pub(super) fn close(&mut self, peak: Peak) {
        if peak.actual > 0.0 {
            self.peak_errors += (peak.median - peak.actual).abs() / peak.actual;
            self.peaks += 1.0;
        }
    }

    /// The mean over forecasts; NaN without any, as the others.
    pub(super) fn peak_error(&self) -> f64 {
        self.peak_errors / self.peaks
    }

    pub(super) fn recall(&self) -> f64 {
        self.told_and_came / self.came
    }

    pub(super) fn precision(&self) -> f64 {
        self.told_and_came / self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_a_case_worked_by_hand() {
        // Two steps a day of 10 and 20, for four days; then 16 and 20.
        let mut values = [10.0, 20.0].repeat(4);
        values.extend([16.0, 20.0]);
        let from = thresholds(&values, 2);
        assert!(from[5].is_nan() && (from[8] - 15.0).abs() < 1e-12 && (from[9] - 30.0).abs() < 1e-12, "{from:?}");
        let mut spikes = Spikes::default();
        // A spike told, one missed, one told that did not come, a quiet step.
        for (median, actual) in [(16.0, 17.0), (14.0, 16.0), (20.0, 10.0), (10.0, 10.0)] {
            spikes.add(15.0, median, actual);
        }
        assert!((spikes.recall() - 0.5).abs() < 1e-12 && (spikes.precision() - 0.5).abs() < 1e-12);
        spikes.add(f64::NAN, 99.0, 99.0);
        assert!((spikes.recall() - 0.5).abs() < 1e-12, "nothing is known of that step");
        let mut peak = Peak::default();
        [(30.0, 20.0), (25.0, 40.0)].into_iter().for_each(|(median, actual)| peak.add(median, actual));
        spikes.close(peak);
        spikes.close(Peak::default());
        assert!((spikes.peak_error() - 0.25).abs() < 1e-12);
    }
}
