//! `headroom bench outlook`: how good the hourly outlook is, by how far ahead, over a recorded load.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use headroom_forecaster::backtest::{self, OutlookScores};
use headroom_ingest::collect::csv_signals;
use headroom_ingest::collect::trace::TraceColumns;
use headroom_models::EngineConfig;
use headroom_models::score::Sums;
use headroom_proto::{EventTime, Span, WorkloadId};

use crate::backtest::series;
use crate::cli::UserError;
use crate::terminal::answer;

/// `headroom bench outlook`
#[derive(Debug, Args)]
pub(crate) struct OutlookArgs {
    /// A CSV (plain or .gz) or Parquet file with the columns `ts` and `value`.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// A CSV file of event signals.
    #[arg(long, value_name = "FILE.csv")]
    signals: Option<PathBuf>,
    /// The length of a step.
    #[arg(long, value_name = "LENGTH", default_value = "5m")]
    step: Span,
    /// How far the forecast by steps reaches.
    #[arg(long, value_name = "LENGTH", default_value = "24h")]
    horizon: Span,
    /// Outlooks count from here on; the last half of the data unless given.
    #[arg(long, value_name = "TIME")]
    score_from: Option<EventTime>,
    /// Hours between outlooks that are scored.
    #[arg(long, value_name = "HOURS", default_value_t = 6)]
    every: i64,
}

/// Measures and prints a table.
pub(crate) async fn run(args: OutlookArgs) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || measure(&args)).await.context("the benchmark was abandoned")?
}

fn measure(args: &OutlookArgs) -> anyhow::Result<()> {
    let load = WorkloadId::try_new("load")?;
    let columns = TraceColumns {
        time: "ts".to_owned(),
        value: "value".to_owned(),
        workload: None,
        default_workload: load.clone(),
    };
    let signals = match &args.signals {
        Some(path) => csv_signals::read(path).map_err(|error| UserError::new(error.to_string()))?,
        None => Vec::new(),
    };
    let events = backtest::events_for(&signals, &load);
    let read = series::read(&args.data, &columns, args.step)?;
    let read = read.first().ok_or_else(|| UserError::new(format!("{}: no rows", args.data.display())))?;
    let config = EngineConfig {
        step_us: args.step.micros(),
        horizon_steps: usize::try_from(args.horizon.steps(args.step))?,
        ..EngineConfig::default()
    };
    let half = i64::try_from(read.loads.len() / 2)?;
    let from = args.score_from.unwrap_or(read.start + args.step.times(half));
    let series = backtest::Series::uncorrected(read.start.micros(), args.step.micros(), &read.loads);
    let scores = backtest::outlook(series, &events, &config, args.every, from.micros())
        .map_err(|error| UserError::new(error.to_string()))?;
    answer("| hours ahead | hours scored | forecast by | wQL | WAPE | within 80 % | within 95 % |");
    answer("|---|---|---|---|---|---|---|");
    for score in &scores {
        row(score, "outlook", &score.outlook);
        row(score, "hourly engine alone", &score.alone);
        row(score, "the week before", &score.naive);
    }
    Ok(())
}

fn row(score: &OutlookScores, name: &str, sums: &Sums) {
    let intervals = if name == "the week before" {
        "| |".to_owned()
    } else {
        format!("{:.3} | {:.3} |", sums.coverage_80(), sums.coverage_95())
    };
    let OutlookScores { from_hours, to_hours, .. } = score;
    answer(format_args!(
        "| {from_hours} to {to_hours} | {} | {name} | {:.4} | {:.4} | {intervals}",
        sums.steps,
        sums.wql(),
        sums.wape()
    ));
}
