//! The user's history as one regular series a workload.

use std::collections::BTreeMap;

use headroom_forecaster::backtest as rolling;
use headroom_forecaster::frames::{Loads, Told};
use headroom_ingest::collect::trace::{Entry, TraceColumns, TraceReader};
use headroom_proto::{EventTime, Span, WorkloadId};

use crate::cli::UserError;

/// A longer series means that a time is mistyped.
const MAX_STEPS: i64 = 5_000_000;

/// The load of one workload, step by step.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Whose load.
    pub(crate) workload: WorkloadId,
    /// Start of the first step.
    pub(crate) start: EventTime,
    /// Length of a step.
    pub(crate) step: Span,
    /// The mean of the samples in each step; NaN where there are none.
    pub(crate) loads: Vec<f64>,
    /// What a forecaster was told of each step when it ended, where corrections came later.
    pub(crate) told: Option<Vec<f64>>,
}

impl Series {
    /// As the forecaster takes it.
    pub(crate) fn regular(&self) -> rolling::Series<'_> {
        rolling::Series {
            start_us: self.start.micros(),
            step_us: self.step.micros(),
            values: self.told.as_ref().unwrap_or(&self.loads),
            actuals: &self.loads,
        }
    }

    /// Start of the step of that index.
    pub(crate) fn time(&self, index: usize) -> EventTime {
        self.start + self.step.times(i64::try_from(index).unwrap_or(i64::MAX))
    }

    /// End of the last step.
    pub(crate) fn end(&self) -> EventTime {
        self.time(self.loads.len())
    }

    /// Index of the first step that starts at `time` or later, at most the series' length.
    pub(crate) fn index_from(&self, time: EventTime) -> usize {
        let almost_a_step = Span::from_micros(self.step.micros() - 1);
        let steps = (time + almost_a_step - self.start).steps(self.step);
        usize::try_from(steps).unwrap_or(0).min(self.loads.len())
    }
}

/// Sum and number of the samples of a step.
type Steps = BTreeMap<i64, (f64, u32)>;

/// Reads a trace and averages it over steps.
///
/// # Errors
/// When the file cannot be read, one of its rows cannot, the load is negative, or the samples are rarer than the steps.
pub(crate) fn read(path: &std::path::Path, columns: &TraceColumns, step: Span) -> anyhow::Result<Vec<Series>> {
    let reader = TraceReader::open(path, columns).map_err(|error| UserError::new(error.to_string()))?;
    let mut workloads: BTreeMap<WorkloadId, Steps> = BTreeMap::new();
    for row in reader {
        let row = row.map_err(|error| UserError::new(error.to_string()))?;
        let sample = match row.entry {
            Entry::Sample(sample) => sample,
            Entry::Gap(_) => continue,
            Entry::Rejected(rejected) => return Err(UserError::new(rejected.error.to_string())),
        };
        if sample.value < 0.0 {
            let (file, time, value) = (path.display(), sample.time, sample.value);
            return Err(UserError::new(format!(
                "{file}, row {}: the load at {time} is {value}: it cannot be negative",
                row.number
            )));
        }
        let index = sample.time.micros().div_euclid(step.micros());
        let (sum, count) = workloads.entry(sample.workload).or_default().entry(index).or_default();
        *sum += sample.value;
        *count += 1;
    }
    all_regular(&path.display().to_string(), workloads, step)
}

/// The same of samples that are at hand; `source` is told when there are none.
///
/// # Errors
/// As [`read`].
pub(crate) fn regular_of(
    source: &str,
    samples: impl Iterator<Item = anyhow::Result<(WorkloadId, EventTime, f64)>>,
    step: Span,
) -> anyhow::Result<Vec<Series>> {
    let mut workloads: BTreeMap<WorkloadId, Steps> = BTreeMap::new();
    for sample in samples {
        let (workload, time, value) = sample?;
        if value < 0.0 {
            return Err(UserError::new(format!("{source}: the load at {time} is {value}: it cannot be negative")));
        }
        let (sum, count) =
            workloads.entry(workload).or_default().entry(time.micros().div_euclid(step.micros())).or_default();
        *sum += value;
        *count += 1;
    }
    all_regular(source, workloads, step)
}

/// The same of the windows of a table: their newest revisions are what came, and the first are what was told.
///
/// # Errors
/// As [`read`].
pub(crate) fn of_windows(source: &str, loads: &Loads) -> anyhow::Result<Vec<Series>> {
    let newest = loads.samples(Told::Newest)?.map(|(name, start_us, value)| {
        let workload = WorkloadId::try_new(name).map_err(|error| UserError::new(format!("{source}: {error}")))?;
        Ok((workload, EventTime::from_micros(start_us), value))
    });
    let mut all = regular_of(source, newest, loads.step())?;
    let mut told: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
    for (name, start_us, value) in loads.samples(Told::First)? {
        told.entry(name).or_default().push((start_us, value));
    }
    for series in &mut all {
        let mut values = vec![f64::NAN; series.loads.len()];
        for (start_us, value) in told.get(series.workload.as_str()).into_iter().flatten() {
            if let Some(place) = values.get_mut(series.index_from(EventTime::from_micros(*start_us))) {
                *place = *value;
            }
        }
        series.told = Some(values);
    }
    Ok(all)
}

fn all_regular(source: &str, workloads: BTreeMap<WorkloadId, Steps>, step: Span) -> anyhow::Result<Vec<Series>> {
    if workloads.is_empty() {
        return Err(UserError::new(format!("{source}: no row has a value: there is nothing to learn from")));
    }
    workloads.into_iter().map(|(workload, steps)| regular(workload, &steps, step)).collect()
}

fn regular(workload: WorkloadId, steps: &Steps, step: Span) -> anyhow::Result<Series> {
    let (first, last) = match (steps.first_key_value(), steps.last_key_value()) {
        (Some((first, _)), Some((last, _))) => (*first, *last),
        _ => (0, -1),
    };
    let start = EventTime::from_micros(first * step.micros());
    if last - first >= MAX_STEPS {
        let end = EventTime::from_micros(last * step.micros());
        return Err(UserError::new(format!(
            "{workload}: from {start} to {end} are more than {MAX_STEPS} steps of {step}: is a time mistyped?"
        )));
    }
    let spacing = usual_spacing(steps);
    if spacing > 1 {
        return Err(UserError::new(format!(
            "{workload}: the samples come every {}, --step is {step}: use --step {0}",
            step.times(spacing)
        )));
    }
    let loads = (first..=last)
        .map(|index| steps.get(&index).map_or(f64::NAN, |(sum, count)| sum / f64::from(*count)))
        .collect();
    Ok(Series { workload, start, step, loads, told: None })
}

/// The median distance between steps that have samples, in steps.
fn usual_spacing(steps: &Steps) -> i64 {
    let mut distances: Vec<i64> = steps.keys().zip(steps.keys().skip(1)).map(|(one, next)| next - one).collect();
    distances.sort_unstable();
    distances.get(distances.len().saturating_sub(1) / 2).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, step: Span) -> anyhow::Result<Vec<Series>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("load.csv");
        std::fs::write(&path, text).expect("writes");
        let columns = TraceColumns {
            time: "ts".to_owned(),
            value: "value".to_owned(),
            workload: None,
            default_workload: WorkloadId::try_new("load").expect("legal"),
        };
        read(&path, &columns, step)
    }

    #[test]
    fn samples_are_averaged_and_gaps_stay_gaps() {
        let text = "ts,value\n2026-01-01 00:06,4\n2026-01-01 00:01,1\n2026-01-01 00:02,3\n2026-01-01 00:12,\n2026-01-01 00:16,8\n";
        let series = read_text(text, Span::from_mins(5)).expect("reads").remove(0);
        assert_eq!(series.time(0).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(series.end().to_string(), "2026-01-01T00:20:00Z");
        let loads: Vec<String> = series.loads.iter().map(f64::to_string).collect();
        assert_eq!(loads, ["2", "4", "NaN", "8"]);
        let at = |text: &str| series.index_from(EventTime::parse(text).expect("a time"));
        assert_eq!([at("2025-01-01"), at("2026-01-01 00:05"), at("2026-01-01 00:06"), at("2027-01-01")], [0, 1, 2, 4]);
    }

    #[test]
    fn mistakes_are_told() {
        let refused = |text: &str| read_text(text, Span::from_mins(5)).expect_err("refused").to_string();
        let hourly = refused("ts,value\n2026-01-01 00:00,1\n2026-01-01 01:00,1\n2026-01-01 02:00,1\n");
        assert!(hourly.contains("use --step 1h"), "{hourly}");
        assert!(refused("ts,value\n2026-01-01,1\n2926-01-01,1\n").contains("mistyped"));
        assert!(refused("ts,value\n2026-01-01,-1\n").contains("negative"));
        assert!(refused("ts,value\n2026-01-01,\n").contains("no row has a value"));
    }
}
