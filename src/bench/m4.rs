//! `headroom bench m4`: the hourly series of the M4 competition (Makridakis and others, 2020), with its own scores.
//!
//! The seasonal naive forecast must score as published, or the reader or the scores are wrong. The series have no times:
//! each training part is made to end at the same hour, so no model knows which days are weekends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use headroom_models::score::{at_level, seasonal_scale};
use headroom_models::{Engine, EngineConfig, Family};

use crate::cli::UserError;
use crate::parallel::in_parallel;
use crate::terminal::{answer, say};

const HOUR_US: i64 = 3_600_000_000;
/// 1 March 2020, 00:00 UTC: the end of every training part.
const ORIGIN_US: i64 = 1_583_020_800_000_000;
const SEASON: usize = 24;
const HORIZON: usize = 48;
/// Published for the hourly series: Naive2, by which the overall weighted average is scaled, and the seasonal naive.
const NAIVE2: Score = Score { smape: 18.383, mase: 2.395 };
const PUBLISHED: Score = Score { smape: 13.912, mase: 1.193 };
/// MSTL with an ETS trend on the logs, as statsforecast 2.1 scores on all 414 series by `bench/forecast/peers.py`.
const STATSFORECAST: Score = Score { smape: 11.812, mase: 1.199 };

/// `headroom bench m4`
#[derive(Debug, Args)]
pub(crate) struct M4Args {
    /// The folder with hourly_train.csv.gz and hourly_test.csv.gz: a series a line, its name first.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The families on every so many-th series only, to be quicker; the seasonal naive is scored on all of them.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    every: NonZeroUsize,
}

/// Mean over series, in per cent and in units of the naive error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Score {
    smape: f64,
    mase: f64,
}

impl Score {
    /// The overall weighted average of the competition.
    fn owa(self) -> f64 {
        (self.smape / NAIVE2.smape + self.mase / NAIVE2.mase) / 2.0
    }
}

/// One series, cut at the origin.
struct Task {
    name: String,
    known: Vec<f64>,
    came: Vec<f64>,
}

/// Scores the plain seasonal naive and every family, and prints one table.
pub(crate) async fn run(args: M4Args) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || compare(&args)).await.context("the benchmark was abandoned")?
}

fn compare(args: &M4Args) -> anyhow::Result<()> {
    let all: Vec<Task> = read(&args.data)?;
    ensure!(!all.is_empty(), UserError::new(format!("{}: no series", args.data.display())));
    let naive = mean(&all.iter().map(|task| score(task, &seasonal_naive(task))).collect::<Vec<_>>());
    answer(format_args!(
        "{NAIVE}: sMAPE {:.3}, MASE {:.3} on {} series (published: {} and {})",
        naive.smape,
        naive.mase,
        all.len(),
        PUBLISHED.smape,
        PUBLISHED.mase
    ));
    let is_as_published = (naive.smape - PUBLISHED.smape).abs() < 6e-4 && (naive.mase - PUBLISHED.mase).abs() < 6e-4;
    ensure!(is_as_published, "the seasonal naive does not score as published: the data or the scores are wrong");
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let alone = in_parallel(&all, threads, |task| Ok(score(task, &fitted_once(task, Family::AugursMstlEts)?)))?;
    let alone = mean(&alone);
    answer(format_args!(
        "MSTL and ETS of augurs, fitted at the end: sMAPE {:.3}, MASE {:.3}, OWA {:.3} (of statsforecast: {}, {}, {:.3})",
        alone.smape,
        alone.mase,
        alone.owa(),
        STATSFORECAST.smape,
        STATSFORECAST.mase,
        STATSFORECAST.owa()
    ));
    let is_equal = (alone.owa() / STATSFORECAST.owa() - 1.0).abs() < 0.01;
    ensure!(is_equal, "MSTL and ETS of augurs do not score as statsforecast's do, to a hundredth");
    let tasks: Vec<Task> = all.into_iter().step_by(args.every.get()).collect();
    say(format_args!("{} series", tasks.len()));
    let all = in_parallel(&tasks, threads, forecasts)?;
    let mut scores: BTreeMap<&str, Vec<Score>> = BTreeMap::new();
    for (task, made) in tasks.iter().zip(&all) {
        for (name, medians) in made {
            scores.entry(name).or_default().push(score(task, medians));
        }
    }
    answer(format_args!("{:<28} {:>7} {:>9} {:>7} {:>7}", "", "series", "sMAPE", "MASE", "OWA"));
    for (name, scores) in &scores {
        let mean = mean(scores);
        let Score { smape, mase } = mean;
        answer(format_args!("{name:<28} {:>7} {smape:>9.3} {mase:>7.3} {:>7.3}", scores.len(), mean.owa()));
    }
    Ok(())
}

const NAIVE: &str = "seasonal naive of a day";

/// The day before, again and again.
fn seasonal_naive(task: &Task) -> Vec<f64> {
    let last = task.known.len().saturating_sub(SEASON);
    task.known.iter().skip(last).copied().cycle().take(HORIZON).collect()
}

/// The medians of every family at the end of the training part, and the plain seasonal naive's.
fn forecasts(task: &Task) -> anyhow::Result<Vec<(&'static str, Vec<f64>)>> {
    let config = EngineConfig { step_us: HOUR_US, horizon_steps: HORIZON, ..EngineConfig::default() };
    let levels = config.levels.clone();
    let mut engine = Engine::try_new(config).with_context(|| task.name.clone())?;
    engine.keep_last_forecasts();
    let steps = i64::try_from(task.known.len())?;
    for (value, step) in task.known.iter().zip(0..) {
        engine.observe(ORIGIN_US + (step - steps) * HOUR_US, *value);
        // Forecasts that mature teach the calibration and the ensemble's weights.
        engine.forecast().ok();
    }
    let mut made = vec![(NAIVE, seasonal_naive(task))];
    for (family, values) in engine.last_forecasts() {
        let medians = values.chunks_exact(levels.len()).map(|row| at_level(&levels, row, 0.5)).collect();
        made.push((family, medians));
    }
    Ok(made)
}

/// The medians of one family, fitted for the first time at the end of the training part.
fn fitted_once(task: &Task, family: Family) -> anyhow::Result<Vec<f64>> {
    let steps = i64::try_from(task.known.len())?;
    let min_history_us = steps * HOUR_US;
    let config = EngineConfig { step_us: HOUR_US, horizon_steps: HORIZON, min_history_us, ..EngineConfig::default() };
    let levels = config.levels.clone();
    let mut engine = Engine::of_family(config, family).with_context(|| task.name.clone())?;
    for (value, step) in task.known.iter().zip(0..) {
        engine.observe(ORIGIN_US + (step - steps) * HOUR_US, *value);
    }
    let made = engine.forecast().map_err(|abstention| anyhow::anyhow!("{}: {}", task.name, abstention.reason))?;
    let rows = made.values.chunks_exact(levels.len());
    Ok(rows.map(|row| at_level(&levels, row, 0.5)).collect())
}

/// Symmetric mean absolute percentage error and mean absolute scaled error, as the competition defined them.
fn score(task: &Task, medians: &[f64]) -> Score {
    let pairs = || task.came.iter().zip(medians);
    let count = f64::from(u32::try_from(pairs().count()).unwrap_or(u32::MAX));
    let smape = pairs().map(|(came, told)| 200.0 * (came - told).abs() / (came.abs() + told.abs())).sum::<f64>();
    let error = pairs().map(|(came, told)| (came - told).abs()).sum::<f64>();
    Score { smape: smape / count, mase: error / count / seasonal_scale(&task.known, SEASON) }
}

fn mean(scores: &[Score]) -> Score {
    let count = f64::from(u32::try_from(scores.len()).unwrap_or(u32::MAX));
    let sum = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / count;
    Score { smape: sum(|score| score.smape), mase: sum(|score| score.mase) }
}

fn read(folder: &Path) -> anyhow::Result<Vec<Task>> {
    let mut came = parts(&folder.join("hourly_test.csv.gz"))?;
    let known = parts(&folder.join("hourly_train.csv.gz"))?;
    let task = |(name, known): (String, Vec<f64>)| {
        let came = came.remove(&name).with_context(|| format!("{name} has no test part"))?;
        Ok(Task { name, known, came })
    };
    known.into_iter().map(task).collect()
}

/// The series of one file, by name.
fn parts(path: &Path) -> anyhow::Result<BTreeMap<String, Vec<f64>>> {
    let refused = |problem: String| UserError::new(format!("{}: {problem}", path.display()));
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).map_err(|error| refused(error.to_string()))?;
    let mut parts = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut cells = line.split(',').map(|cell| cell.trim_matches('"'));
        let Some(name) = cells.next() else { continue };
        let values = cells.filter(|cell| !cell.is_empty()).map(str::parse).collect::<Result<Vec<f64>, _>>();
        parts.insert(name.to_owned(), values.map_err(|error| refused(format!("series {name}: {error}")))?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn scores_of_a_case_worked_by_hand() {
        let known: Vec<f64> = (0..48).map(|hour| if hour < 24 { 10.0 } else { 12.0 }).collect();
        let task = Task { name: "H1".to_owned(), known, came: vec![10.0, 30.0] };
        let found = score(&task, &[12.0, 20.0]);
        // 200 (2 / 22 + 10 / 50) / 2, and a mean error of 6 over one of 2.
        assert!((found.smape - 100.0 * (2.0 / 22.0 + 0.2)).abs() < 1e-9 && (found.mase - 3.0).abs() < 1e-12);
        assert_eq!(mean(&[found, found]), found);
    }

    #[test]
    fn a_wide_file_is_read_and_each_family_forecasts() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |name: &str, hours: std::ops::Range<u32>| {
            let values: Vec<String> = hours.map(|hour| format!("\"{}\"", 10 + hour % 24)).collect();
            format!("\"{name}\",{},\"\"\n", values.join(","))
        };
        for (file, hours) in [("hourly_train.csv.gz", 0..480), ("hourly_test.csv.gz", 0..48)] {
            let file = File::create(folder.path().join(file)).expect("creates");
            let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            write!(out, "\"V1\",\"V2\"\n{}", line("H1", hours)).expect("writes");
            out.finish().expect("finishes");
        }
        let tasks = read(folder.path()).expect("reads");
        assert_eq!((tasks.len(), tasks[0].name.as_str(), tasks[0].known.len()), (1, "H1", 480));
        let made = forecasts(&tasks[0]).expect("forecasts");
        let smape = |name: &str| {
            let medians = &made.iter().find(|(known, _)| *known == name).expect(name).1;
            score(&tasks[0], medians).smape
        };
        assert!(smape(NAIVE) < 1e-9 && smape("ensemble") < 5.0, "{}", smape("ensemble"));
        assert!(read(&folder.path().join("nowhere")).is_err());
    }
}
