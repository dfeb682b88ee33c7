//! `headroom backtest`: the user's own history and events, as if Headroom had been there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use headroom_ingest::collect::csv_signals;
use headroom_ingest::collect::trace::TraceColumns;
use headroom_ingest_lake::Lake;
use headroom_proto::v1::Signal;
use headroom_proto::{EventTime, Span, WorkloadId};

use crate::cli::UserError;
use crate::lake_command::LakePlace;
use crate::terminal::say;
use output::Findings;
use report::Course;
use series::Series;
use study::Study;

mod kept;
mod lake;
mod lead;
mod output;
mod report;
mod results;
pub(crate) mod series;
mod study;

/// `headroom backtest`
#[derive(Clone, Debug, Args)]
pub(crate) struct BacktestArgs {
    /// The history: CSV (plain or .gz) or Parquet.
    #[arg(long, value_name = "FILE", required_unless_present = "table")]
    data: Option<PathBuf>,
    /// The history from a table of the lake in --data-dir instead, such as windows: its columns are window_start,
    /// requests_per_s and workload unless named, and the lake's signals count unless --signals is given. With a version,
    /// such as windows@12, the table as it was then: `headroom lake history` lists them. Forecasts see windows as they were
    /// first told, and are scored by what corrections made of them.
    #[arg(long, value_name = "TABLE", conflicts_with = "data", requires = "data_dir")]
    table: Option<String>,
    /// The events: CSV with event_id, kind, announced_at, starts_at, ends_at, expected_reach, weight, audience, name; and, if wanted, workloads
    /// (selectors such as `shop-*`, parted by `|`), channel (such as email) and status (cancelled calls the event off). With --table, signals@5 is a
    /// version of the lake's table.
    #[arg(long, value_name = "FILE")]
    signals: Option<PathBuf>,
    /// The column that holds the time; UTC unless an offset is given.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "ts",
        default_value_if("table", ArgPredicate::IsPresent, "window_start")
    )]
    time_column: String,
    /// The column that holds the load.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "value",
        default_value_if("table", ArgPredicate::IsPresent, "requests_per_s")
    )]
    value_column: String,
    /// The column that holds the workload, when there are several.
    #[arg(long, value_name = "NAME", default_value_if("table", ArgPredicate::IsPresent, "workload"))]
    workload_column: Option<String>,
    /// The length of a step; finer samples are averaged.
    #[arg(long, value_name = "LENGTH", default_value = "5m")]
    step: Span,
    /// How far ahead to forecast.
    #[arg(long, value_name = "LENGTH", default_value = "24h")]
    horizon: Span,
    /// Forecasts and policies count from here on, what is earlier is history to learn from; the last third of the data
    /// unless given.
    #[arg(long, value_name = "TIME")]
    score_from: Option<EventTime>,
    /// From the command to add a unit until it is ready.
    #[arg(long, value_name = "LENGTH", default_value = "15m")]
    lead_time: Span,
    /// The load, in the unit of the value column, that one unit serves at 100 %; chosen so that the median load needs
    /// six units unless given.
    #[arg(long, value_name = "LOAD")]
    unit_capacity: Option<f64>,
    /// Load above this share of the ready capacity is a violation.
    #[arg(long, value_name = "SHARE", default_value_t = 0.85)]
    violation_at: f64,
    /// Capacity is sized so that the load takes this share of it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    target_utilisation: f64,
    /// Write a report with charts, which needs no network to be read.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write the forecasts themselves, as Parquet: workload, origin, ts, level, value.
    #[arg(long, value_name = "FILE.parquet")]
    forecasts: Option<PathBuf>,
    /// The origins whose forecasts are written: a time a line; all of them unless given.
    #[arg(long, value_name = "FILE", requires = "forecasts")]
    origins: Option<PathBuf>,
    /// Write the findings as JSON.
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
    /// Keep what is done here, a file for each workload: the same command, run again, goes on from there.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Workloads that are gone through at once; as many as there are processors unless given.
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// The data folder of a headroom: the scores go into its lake's table `backtests`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How to print the findings.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How to print the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs the backtest and prints what it finds.
pub(crate) async fn run(args: BacktestArgs) -> anyhow::Result<()> {
    let problems = args.problems();
    if !problems.is_empty() {
        return Err(UserError::new(problems.join("; ")));
    }
    let lake = match &args.data_dir {
        Some(folder) => Some(LakePlace::in_folder(folder).open().await?),
        None => None,
    };
    let Inputs { series, signals, versions } = inputs(&args, lake.as_ref()).await?;
    let (args, study) = tokio::task::spawn_blocking(move || {
        let mut study = study::study(&args, &series, &signals)?;
        if !versions.is_empty() {
            let tables = versions.iter().map(|(table, version)| format!("{table}@{version}"));
            study.findings.premises.insert(0, format!("read from {}", tables.collect::<Vec<_>>().join(" and ")));
        }
        tell(&args, &study, &signals).map(|()| (args, study))
    })
    .await
    .context("the backtest was abandoned")??;
    if let Some(lake) = &lake {
        let run = lake::keep(lake, &study, &args).await?;
        say(format_args!("the scores are in the table backtests, as run {run}"));
    }
    Ok(())
}

/// What is replayed.
struct Inputs {
    series: Vec<Series>,
    signals: Vec<Signal>,
    /// The versions of the tables that it is from.
    versions: BTreeMap<String, u64>,
}

/// The history and the signals, from files or from the lake.
async fn inputs(args: &BacktestArgs, lake: Option<&Lake>) -> anyhow::Result<Inputs> {
    let (series, signals, versions) = match (&args.data, &args.table, lake) {
        (None, Some(table), Some(lake)) => {
            let lake::History { series, signals, versions } = lake::history(lake, table, args).await?;
            (series, signals, versions)
        }
        (Some(path), _, _) => (series::read(path, &args.columns()?, args.step)?, None, BTreeMap::new()),
        _ => return Err(UserError::new("name the history: --data FILE, or --table TABLE with --data-dir DIR")),
    };
    let signals = match (signals, &args.signals) {
        (Some(told), _) => told,
        (None, Some(path)) => csv_signals::read(path).map_err(|error| UserError::new(error.to_string()))?,
        (None, None) => Vec::new(),
    };
    Ok(Inputs { series, signals, versions })
}

fn tell(args: &BacktestArgs, study: &Study, signals: &[Signal]) -> anyhow::Result<()> {
    let write = |name: &str, path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| UserError::new(format!("{name} {}: {error}", path.display())))
    };
    if let Some(path) = &args.report {
        let courses: Vec<&Course> = study.workloads.iter().map(|done| &done.course).collect();
        write("--report", path, report::html(&study.findings, &courses, signals))?;
    }
    if let Some(path) = &args.json {
        write("--json", path, serde_json::to_string_pretty(&study.findings)?)?;
    }
    print(args.output, &study.findings)
}

fn print(output: Output, findings: &Findings) -> anyhow::Result<()> {
    let text = match output {
        Output::Table => findings.to_string(),
        Output::Json => {
            findings.premises.iter().for_each(say);
            serde_json::to_string(findings)?
        }
    };
    // A reader that has seen enough, such as `head`, is no failure.
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

impl BacktestArgs {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.step.micros() <= 0 {
            problems.push(format!("--step {}: write a positive length, such as 5m", self.step));
        } else if Span::from_hours(24).micros() % self.step.micros() != 0 {
            problems.push(format!("--step {}: must divide a day, such as 5m, 15m, 1h or 1d", self.step));
        } else if self.horizon.steps(self.step) < 1 {
            problems.push(format!("--horizon {} is shorter than --step {}", self.horizon, self.step));
        } else if self.lead_time >= self.horizon {
            problems.push(format!("--lead-time {} must be shorter than --horizon {}", self.lead_time, self.horizon));
        }
        for (name, share) in [("--violation-at", self.violation_at), ("--target-utilisation", self.target_utilisation)]
        {
            if !(share > 0.0 && share <= 1.0) {
                problems.push(format!("{name} {share}: write a share above 0 and up to 1, such as 0.7"));
            }
        }
        if let Some(capacity) = self.unit_capacity
            && !(capacity.is_finite() && capacity > 0.0)
        {
            problems.push(format!("--unit-capacity {capacity}: write a positive number"));
        }
        problems
    }

    /// The origins whose forecasts are to be written; none is all of them.
    fn origins(&self) -> anyhow::Result<Option<BTreeSet<i64>>> {
        let Some(path) = &self.origins else { return Ok(None) };
        let refused = |problem: String| UserError::new(format!("--origins {}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let parsed = lines.map(|(number, line)| match EventTime::parse(line.trim()) {
            Ok(time) => Ok(time.micros()),
            Err(error) => Err(refused(format!("line {number}: {error}"))),
        });
        parsed.collect::<anyhow::Result<BTreeSet<i64>>>().map(Some)
    }

    fn columns(&self) -> anyhow::Result<TraceColumns> {
        Ok(TraceColumns {
            time: self.time_column.clone(),
            value: self.value_column.clone(),
            workload: self.workload_column.clone(),
            default_workload: WorkloadId::try_new("load")?,
        })
    }
}

#[cfg(test)]
mod tests;
