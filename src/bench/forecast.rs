//! `headroom bench forecast`: how long it takes to fit and to forecast many workloads, what that holds in memory, and how
//! large what was learned is.
//!
//! The workloads are made up: 60 days of five minutes with a rhythm of the day and the week, noise, and a campaign every
//! fourth day. Each engine, with the outlook beside it, is given its history at once, fitted from nothing, shares the trees, lets a forecast of 48 hours be
//! taken from it, is fitted again after six hours more, as it is when it runs, and then runs until as many forecasts wait for
//! their values as ever will, for that takes memory. Fewer than all workloads may be run: totals are then extrapolated, and
//! said to be; what all share counts once. Times are of the processor, so that what else runs on the machine does not count.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use headroom_models::{Engine, EngineConfig, KnownEvent, Outlook, Shared};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::usage::{Watch, thread_time};
use crate::cli::UserError;
use crate::parallel::in_parallel;
use crate::terminal::{answer, say};

const STEP_US: i64 = 300_000_000;
const HOUR_STEPS: i64 = 12;
const HOUR_US: i64 = HOUR_STEPS * STEP_US;
const DAY_STEPS: i64 = 288;
const HORIZON: usize = 576;
/// 2 January 2023, 00:00 UTC, a Monday.
const START_US: i64 = 1_672_617_600_000_000;
/// An engine is fitted again after this long.
const REFIT_US: i64 = 6 * HOUR_US;
/// An outlook reaches 14 days.
const OUTLOOK_HOURS: usize = 14 * 24;
/// Forecasts are kept for scoring from origins so many steps apart.
const KEPT_EVERY: i64 = 3;

/// `headroom bench forecast`
#[derive(Debug, Args)]
pub(crate) struct ForecastArgs {
    /// Workloads that the totals are told for.
    #[arg(long, value_name = "NUMBER", default_value = "10000")]
    workloads: NonZeroUsize,
    /// Workloads that are run; totals are extrapolated from them.
    #[arg(long, value_name = "NUMBER", default_value = "20")]
    run: NonZeroUsize,
    /// Days of history.
    #[arg(long, value_name = "DAYS", default_value = "60", value_parser = clap::value_parser!(u16).range(14..=86))]
    days: u16,
    /// Threads; as many as there are processors unless given.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// The Python of the peers, as bench/forecast/run installs it, to run them on the same series: statsforecast's MSTL
    /// and Prophet.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Series that each peer is given; their times are a mean.
    #[arg(long, value_name = "NUMBER", default_value = "3")]
    peer_series: NonZeroUsize,
}

/// What one workload took.
struct Took {
    seed: u32,
    fit: Duration,
    /// Growing the trees of all, when its rows made that due.
    trees: Duration,
    forecast: Duration,
    refit: Duration,
    /// Error of the median, relative: intervals take their width from forecasts that have matured, and none has.
    loss: f64,
    engine: Engine,
    outlook: Outlook,
}

/// What a peer took on one series, in seconds, and its loss.
#[derive(Debug, Deserialize)]
struct PeerTook {
    peer: String,
    fit_s: f64,
    predict_s: f64,
    wape: f64,
}

/// Measures and prints a table.
pub(crate) async fn run(args: ForecastArgs) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || measure(&args)).await.context("the benchmark was abandoned")?
}

fn measure(args: &ForecastArgs) -> anyhow::Result<()> {
    let threads = args.threads.or(std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let run: Vec<u32> = (0..).take(args.run.get().min(args.workloads.get())).collect();
    say(format_args!("{} workloads with {} days of five minutes, on {threads} threads", run.len(), args.days));
    let watch = Watch::start();
    let shared = Mutex::new(Shared::default());
    let days = i64::from(args.days);
    let go = |seeds: &[u32]| -> anyhow::Result<(Vec<Took>, u64)> {
        let took = in_parallel(seeds, threads, |seed| one(*seed, days, &shared).map(Mutex::new))?;
        in_parallel(&took, threads, |took| went_on(&mut locked(took), days, &shared))?;
        let took = took.into_iter().map(|took| took.into_inner().unwrap_or_else(PoisonError::into_inner));
        // What all share is counted apart.
        Ok((took.collect(), resident_bytes().saturating_sub(bytes_of(&*locked(&shared))?)))
    };
    // The first half needs room to work in as well, which stays for the second.
    let (first, second) = run.split_at(run.len() / 2);
    let (mut took, half) = go(first)?;
    let (later, whole) = go(second)?;
    let held = whole.saturating_sub(half) / u64::try_from(second.len())?;
    took.extend(later);
    let peak = watch.stop(0, 0).peak_bytes;
    let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    let table = Table { args, took: &took, newest: second.len(), shared: &shared, threads, held, whole, peak };
    table.print()?;
    if let Some(python) = &args.python {
        peers(args, python)?;
    }
    Ok(())
}

/// Fits and forecasts.
fn one(seed: u32, days: i64, shared: &Mutex<Shared>) -> anyhow::Result<Took> {
    let steps = days * DAY_STEPS;
    // Nothing is fitted before the history is whole.
    let config = EngineConfig {
        horizon_steps: HORIZON,
        min_history_us: steps * STEP_US,
        refit_after_us: REFIT_US,
        ..Default::default()
    };
    let levels = config.levels.clone();
    let mut outlook = Outlook::try_new(&config, OUTLOOK_HOURS)?.context("an outlook reaches further")?;
    let mut engine = Engine::try_new(config)?.sharing_trees(&seed.to_string());
    for event in events(days) {
        outlook.signal(event.clone());
        engine.signal(event);
    }
    for step in 0..steps - 1 {
        engine.observe(START_US + step * STEP_US, load(seed, step));
        outlook.observe(START_US + step * STEP_US, load(seed, step));
    }
    locked(shared).ready(&mut engine);
    let mut began = Lap::start();
    engine.observe(START_US + (steps - 1) * STEP_US, load(seed, steps - 1));
    outlook.observe(START_US + (steps - 1) * STEP_US, load(seed, steps - 1));
    let fit = began.lap();
    locked(shared).collect(&mut engine);
    let trees = began.lap();
    // Trees are lent from the next step on, and families join at full hours.
    for step in steps..steps + HOUR_STEPS {
        engine.observe(START_US + step * STEP_US, load(seed, step));
        outlook.observe(START_US + step * STEP_US, load(seed, step));
    }
    locked(shared).lend(&mut engine);
    let mut began = Lap::start();
    let set = engine.forecast().map_err(|abstention| anyhow::anyhow!("{}", abstention.reason))?;
    let forecast = began.lap();
    let mut sums = headroom_models::score::Sums::default();
    for (step, row) in (steps + HOUR_STEPS..).zip(set.values.chunks_exact(levels.len())) {
        sums.add(&levels, row, load(seed, step));
    }
    Ok(Took { seed, fit, trees, forecast, refit: Duration::ZERO, loss: sums.wape(), engine, outlook })
}

/// Fits again, and goes on for as long as the horizon.
fn went_on(took: &mut Took, days: i64, shared: &Mutex<Shared>) -> anyhow::Result<()> {
    let (steps, engine, outlook) = (days * DAY_STEPS, &mut took.engine, &mut took.outlook);
    for step in steps + HOUR_STEPS..steps + i64::try_from(HORIZON)? {
        locked(shared).ready(engine);
        let mut began = Lap::start();
        engine.observe(START_US + step * STEP_US, load(took.seed, step));
        outlook.observe(START_US + step * STEP_US, load(took.seed, step));
        if step - steps + 1 == REFIT_US / STEP_US {
            took.refit = began.lap();
        }
        locked(shared).collect(engine);
        if (step + 1) % KEPT_EVERY == 0 {
            let set = engine.forecast().map_err(|abstention| anyhow::anyhow!("{}", abstention.reason))?;
            if (step + 1) % HOUR_STEPS == 0 {
                outlook.forecast(Ok(&set)).map_err(|abstention| anyhow::anyhow!("{}", abstention.reason))?;
            }
        }
    }
    Ok(())
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processor time of this thread; of the wall clock where the system does not tell it.
struct Lap {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Lap {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: thread_time() }
    }

    /// Since the start or the last lap.
    fn lap(&mut self) -> Duration {
        let now = Self::start();
        let took = now.cpu.zip(self.cpu).map_or_else(|| now.wall - self.wall, |(now, before)| now - before);
        *self = now;
        took
    }
}

/// A load of that step: a mean, rhythms and noise of the workload's own, and the campaigns of all.
fn load(seed: u32, step: i64) -> f64 {
    let part = |modulus: u32| f64::from(seed.wrapping_mul(2_654_435_761) % modulus) / f64::from(modulus);
    #[expect(clippy::cast_precision_loss, reason = "steps of a few months")]
    let days = step as f64 / DAY_STEPS as f64;
    let turn = std::f64::consts::TAU;
    let day = 1.0 + 0.6 * (turn * (days + part(97))).sin() + 0.2 * (2.0 * turn * (days + part(89))).sin();
    let week = 1.0 + 0.2 * (turn * days / 7.0 + part(83)).sin();
    let mut hash = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ step.unsigned_abs();
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    let noise = 1.0 + 0.1 * (hash as f64 / f64::from(1 << 23) - 1.0);
    let within = step.rem_euclid(4 * DAY_STEPS) - 3 * DAY_STEPS;
    let lift = if (216..240).contains(&within) { 1.5 + part(79) } else { 1.0 };
    100.0 * (0.5 + part(101)) * day.max(0.05) * week * noise * lift
}

/// A campaign of two hours, every fourth day at 18:00, known a week before.
fn events(days: i64) -> Vec<KnownEvent> {
    let campaign = |day: i64| {
        let starts_at_us = START_US + (day * DAY_STEPS + 216) * STEP_US;
        KnownEvent {
            id: format!("campaign-{day}"),
            revision: 1,
            kind: "campaign".to_owned(),
            name: String::new(),
            channel: String::new(),
            weight: 1.0,
            audience_size: None,
            announced_at_us: starts_at_us - 7 * DAY_STEPS * STEP_US,
            starts_at_us,
            ends_at_us: starts_at_us + 2 * HOUR_US,
            cancelled: false,
        }
    };
    (3..days + 3).step_by(4).map(campaign).collect()
}

/// What was measured, and what follows for all workloads.
struct Table<'a> {
    args: &'a ForecastArgs,
    took: &'a [Took],
    /// So many of them came when there were rows of others.
    newest: usize,
    shared: &'a Shared,
    threads: NonZeroUsize,
    /// Memory of one more workload, and of the process with all that were run, but for what all share.
    held: u64,
    whole: u64,
    peak: u64,
}

impl Table<'_> {
    fn print(&self) -> anyhow::Result<()> {
        let all = self.args.workloads.get();
        let (run, threads) = (self.took.len(), self.threads.get());
        let count = |of: usize| f64::from(u32::try_from(of).unwrap_or(u32::MAX));
        // The more there are, the fewer rows each has to give: those that came last tell of the others.
        let newest = self.took.get(run.saturating_sub(self.newest)..).unwrap_or_default();
        let mean = |of: fn(&Took) -> Duration| {
            newest.iter().map(|took| of(took).as_secs_f64()).sum::<f64>() / count(newest.len())
        };
        let loss = self.took.iter().map(|took| took.loss).sum::<f64>() / count(run);
        let how = if run == all { "measured" } else { "extrapolated" };
        answer(format_args!("{:<34} {:>14} {:>24}", "processor time", "each, ms", format!("{all}, s, {how}")));
        for (name, each) in [
            ("fit from nothing", mean(|took| took.fit)),
            ("forecast of 48 hours", mean(|took| took.forecast)),
            ("fit again after 6 hours", mean(|took| took.refit)),
        ] {
            // A thread does one workload at a time.
            let total = each * count(all) / count(threads);
            answer(format_args!("{name:<34} {:>14.1} {total:>24.0}", each * 1e3));
        }
        let trees = self.took.iter().map(|took| took.trees);
        let (all_trees, last) = (trees.clone().sum::<Duration>(), trees.max().unwrap_or_default());
        answer(format_args!("{:<34} {:>14} {:>24.0}", "trees of all, from nothing", "", all_trees.as_secs_f64()));
        answer(format_args!("{:<34} {:>14} {:>24.0}", "trees of all, once a day", "", last.as_secs_f64()));
        let sizes = Sizes::of(self.took, self.shared)?;
        #[expect(clippy::cast_precision_loss, reason = "bytes for people")]
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        answer(format_args!("{:<34} {:>14} {:>24}", "", "each, MiB", format!("{all}, MiB, {how}")));
        let [state, rows_and_trees] = sizes.state;
        let [artefact, trees] = sizes.artefact;
        let memory = mib(self.held) * count(all.saturating_sub(run)) + mib(self.whole + rows_and_trees);
        answer(format_args!("{:<34} {:>14.3} {memory:>24.0}", "memory held", mib(self.held)));
        for (name, each, once) in [
            ("state: history, models, residuals", state, rows_and_trees),
            ("artefact: what a forecast needs", artefact, trees),
        ] {
            let each = mib(each) / count(run);
            answer(format_args!("{name:<34} {each:>14.4} {:>24.0}", each * count(all) + mib(once)));
        }
        let [rows_and_trees, trees] = [rows_and_trees, trees].map(mib);
        answer(format_args!("of which all share {rows_and_trees:.1} MiB, the trees {trees:.3} MiB"));
        answer(format_args!(
            "peak memory of this run: {:.0} MiB; WAPE of the first forecasts: {loss:.4}",
            mib(self.peak)
        ));
        Ok(())
    }
}

/// Bytes of what was learned: of the workloads run, and of what they share.
struct Sizes {
    state: [u64; 2],
    artefact: [u64; 2],
}

impl Sizes {
    fn of(took: &[Took], shared: &Shared) -> anyhow::Result<Self> {
        let (mut state, mut artefact) = (0, 0);
        for Took { engine, outlook, .. } in took {
            state += bytes_of(engine)? + bytes_of(outlook)?;
            artefact += bytes_of(&engine.artefact_beside_trees("bench"))?;
        }
        Ok(Self { state: [state, bytes_of(shared)?], artefact: [artefact, bytes_of(&shared.artefact())?] })
    }
}

fn bytes_of(what: &impl Serialize) -> anyhow::Result<u64> {
    Ok(u64::try_from(postcard::to_stdvec(what)?.len())?)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Runs the peers on some of the same series and prints what they took.
fn peers(args: &ForecastArgs, python: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("a folder for the series")?;
    let file = folder.path().join("series.csv");
    let mut text = String::from("workload,step,value\n");
    let steps = i64::from(args.days) * DAY_STEPS;
    let series = args.peer_series.get();
    for seed in (0..).take(series) {
        for step in 0..steps + i64::try_from(HORIZON)? {
            text.push_str(&format!("{seed},{step},{}\n", load(seed, step)));
        }
    }
    std::fs::write(&file, text)?;
    let script = folder.path().join("speed.py");
    std::fs::write(&script, include_str!("../../bench/forecast/speed.py"))?;
    say(format_args!("peers on {series} of the series"));
    let output = Command::new(python)
        .arg(&script)
        .arg(&file)
        .arg(steps.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| UserError::new(format!("--python {}: {error}", python.display())))?;
    anyhow::ensure!(output.status.success(), "the peers failed: {}", output.status);
    answer(format_args!("{:<34} {:>14} {:>14} {:>9}", "peer", "fit each, ms", "predict, ms", "WAPE"));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let PeerTook { peer, fit_s, predict_s, wape } =
            serde_json::from_str(line).with_context(|| format!("a peer printed `{line}`"))?;
        answer(format_args!("{peer:<34} {:>14.0} {:>14.0} {wape:>9.4}", fit_s * 1e3, predict_s * 1e3));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_fitted_forecast_and_fitted_again() {
        let shared = Mutex::new(Shared::default());
        let mut took = one(3, 14, &shared).expect("runs");
        went_on(&mut took, 14, &shared).expect("runs");
        // How long each took is for a benchmark to tell; that it was fitted again, the version tells.
        let version = took.engine.champion();
        let fitted_s: i64 = version.split('-').nth(1).and_then(|at| at.parse().ok()).expect(version);
        let first_us = START_US + 14 * DAY_STEPS * STEP_US;
        assert!(fitted_s * 1_000_000 >= first_us + REFIT_US, "{version}");
        assert!(took.loss > 0.01 && took.loss < 0.2, "noise alone is .05: {}", took.loss);
        let Sizes { state, artefact } = Sizes::of(&[took], &shared.into_inner().expect("whole")).expect("sizes");
        assert!(artefact[0] > 1_000 && artefact[0] < state[0], "{artefact:?} {state:?}");
        assert!(artefact[1] > 10_000 && artefact[1] < state[1], "{artefact:?} {state:?}");
    }

    #[test]
    fn loads_are_the_same_for_the_same_seed_and_differ_for_others() {
        let mean = |seed| (0..DAY_STEPS).map(|step| load(seed, step)).sum::<f64>();
        assert!((mean(1) - mean(1)).abs() < 1e-12 && (mean(1) - mean(2)).abs() > 1.0);
        assert!((0..30 * DAY_STEPS).all(|step| load(5, step) > 0.0));
    }
}
