//! `headroom bench groups`: what reconciliation does to the forecasts of recorded series and of their sum.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use headroom_forecaster::backtest;
use headroom_ingest::collect::csv_signals;
use headroom_ingest::collect::trace::TraceColumns;
use headroom_models::EngineConfig;
use headroom_models::score::Sums;
use headroom_proto::{EventTime, Span, WorkloadId};

use crate::backtest::series::{self, Series};
use crate::cli::UserError;
use crate::terminal::{answer, say};

/// `headroom bench groups`
#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    /// A CSV (plain or .gz) or Parquet file of several series.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The column that holds the time.
    #[arg(long, value_name = "NAME", default_value = "ts")]
    time_column: String,
    /// The column that holds the load.
    #[arg(long, value_name = "NAME", default_value = "value")]
    value_column: String,
    /// The column that names the series.
    #[arg(long, value_name = "NAME", default_value = "workload")]
    workload_column: String,
    /// A CSV file of event signals.
    #[arg(long, value_name = "FILE.csv")]
    signals: Option<PathBuf>,
    /// The length of a step.
    #[arg(long, value_name = "LENGTH", default_value = "1h")]
    step: Span,
    /// How far ahead to forecast.
    #[arg(long, value_name = "LENGTH", default_value = "24h")]
    horizon: Span,
    /// Forecasts count from here on; the last third of the data unless given.
    #[arg(long, value_name = "TIME")]
    score_from: Option<EventTime>,
    /// Members of each group: series in the order of their names, as many groups as they fill.
    #[arg(long, value_name = "NUMBER", default_value = "5")]
    members: NonZeroUsize,
    /// Groups at the most.
    #[arg(long, value_name = "NUMBER", default_value = "4")]
    groups: NonZeroUsize,
}

/// Measures and prints a table.
pub(crate) async fn run(args: GroupsArgs) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || measure(&args)).await.context("the benchmark was abandoned")?
}

fn measure(args: &GroupsArgs) -> anyhow::Result<()> {
    let columns = TraceColumns {
        time: args.time_column.clone(),
        value: args.value_column.clone(),
        workload: Some(args.workload_column.clone()),
        default_workload: WorkloadId::try_new("load")?,
    };
    let signals = match &args.signals {
        Some(path) => csv_signals::read(path).map_err(|error| UserError::new(error.to_string()))?,
        None => Vec::new(),
    };
    let read = series::read(&args.data, &columns, args.step)?;
    let whole = together(&read);
    let config = EngineConfig {
        step_us: args.step.micros(),
        horizon_steps: usize::try_from(args.horizon.steps(args.step))?,
        min_history_us: EngineConfig::default().min_history_us.max(args.step.micros().saturating_mul(28)),
        refit_after_us: EngineConfig::default().refit_after_us.max(args.step.micros()),
        ..EngineConfig::default()
    };
    answer("| group | forecast of | steps | wQL | WAPE | within 80 % | furthest apart |");
    answer("|---|---|---|---|---|---|---|");
    for (number, group) in whole.chunks_exact(args.members.get()).take(args.groups.get()).enumerate() {
        let Some(one) = group.first() else { continue };
        let two_thirds = i64::try_from(one.loads.len() / 3 * 2)?;
        let from = args.score_from.unwrap_or(one.start + args.step.times(two_thirds));
        let members: Vec<backtest::Series<'_>> = group
            .iter()
            .map(|of| backtest::Series::uncorrected(of.start.micros(), of.step.micros(), &of.loads))
            .collect();
        let events = backtest::events_for(&signals, &one.workload);
        let scores = backtest::groups(&members, &events, &config, from.micros())
            .map_err(|error| UserError::new(error.to_string()))?;
        let number = number + 1;
        let apart = format!("{:.1e}", scores.furthest);
        row(number, "members", &scores.members, "");
        row(number, "members, reconciled", &scores.members_reconciled, &apart);
        row(number, "group", &scores.group, "");
        row(number, "group, added up", &scores.added_up, "");
        row(number, "group, reconciled", &scores.group_reconciled, &apart);
    }
    Ok(())
}

fn row(number: usize, name: &str, sums: &Sums, apart: &str) {
    answer(format_args!(
        "| {number} | {name} | {} | {:.4} | {:.4} | {:.3} | {apart} |",
        sums.steps,
        sums.wql(),
        sums.wape(),
        sums.coverage_80()
    ));
}

/// The series that begin with the first and are as long.
fn together(read: &[Series]) -> Vec<&Series> {
    let start = read.iter().map(|series| series.start).min();
    let of: Vec<&Series> = read.iter().filter(|series| Some(series.start) == start).collect();
    let length = of.iter().map(|series| series.loads.len()).max();
    let whole: Vec<&Series> = of.into_iter().filter(|series| Some(series.loads.len()) == length).collect();
    say(format_args!("{} of {} series begin and end together", whole.len(), read.len()));
    whole
}
