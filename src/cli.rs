//! The command line: what can be said, and how a failure is told.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    audit_command, backtest, bench, config, control, demo, features, forecast_command, frame_command, governance,
    lake_command, model_command, query, run, shadow, signal_command, status_command,
};

/// Raises database capacity before the traffic arrives.
#[derive(Debug, Parser)]
#[command(name = "headroom", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// What to log to stderr, such as `info` or `headroom=debug,warn`.
    #[arg(long, global = true, env = "HEADROOM_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replay the World Cup 98 trace through every stage, faster than time, and show the scoreboard.
    Demo(demo::DemoArgs),
    /// Run every stage in this process, or one of them.
    Run(run::RunArgs),
    /// Replay your own history and events: which policy and which model would have served you best?
    Backtest(backtest::BacktestArgs),
    /// Ask the lake in SQL.
    Query(query::QueryArgs),
    /// Look after the lake's tables.
    #[command(subcommand)]
    Lake(lake_command::LakeCommand),
    /// Show what each workload has, what is trusted, what is stopped and what waits.
    Status(status_command::StatusArgs),
    /// List, approve or reject capacity plans.
    #[command(subcommand)]
    Plan(control::PlanCommand),
    /// Show the newest forecast of a workload, and what makes it less sure.
    #[command(subcommand)]
    Forecast(forecast_command::ForecastCommand),
    /// Tell what event signals do to the load, and how that is known.
    #[command(subcommand)]
    Signal(signal_command::SignalCommand),
    /// Write what was known at each origin beside what came, from pinned tables, for training elsewhere.
    Frame(frame_command::FrameArgs),
    /// Take what was learned to another environment, and tell how it does there.
    #[command(subcommand)]
    Model(model_command::ModelCommand),
    /// Undo a plan or an action with what followed from it, and pause automation of the workload.
    Rollback(control::RollbackArgs),
    /// Show, export or verify the record of what was done.
    #[command(subcommand)]
    Audit(audit_command::AuditCommand),
    /// Stop automation of a workload, or of all.
    Pause(control::SwitchArgs),
    /// Let automation go on, from what the target has.
    Resume(control::SwitchArgs),
    /// Show what would have been done, beside what was, and what both came to.
    Shadow(shadow::ShadowArgs),
    /// Check, test or explain policies.
    #[command(subcommand)]
    Policy(governance::PolicyCommand),
    /// Show how much is done without a person, and the track record behind it.
    #[command(subcommand)]
    Stage(governance::StageCommand),
    /// Check or explain the feature queries.
    #[command(subcommand)]
    Features(features::FeaturesCommand),
    /// Measure a part of this program beside its peers.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// A stage of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Entry points and replay: telemetry and event signals into the topics.
    Ingest,
    /// Feature windows from telemetry.
    Process,
    /// Forecasts from windows and signals.
    Forecast,
    /// Plans and actions from forecasts.
    Actuate,
    /// The topics into the lake's tables.
    Lake,
    /// The page and its live data.
    Console,
}

/// Where the data folder is, for commands that read it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataDirArg {
    /// The folder that holds all state.
    #[arg(long, env = "HEADROOM_DATA_DIR", default_value = "headroom-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

/// A mistake of the user's: told in one message, exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UserError(pub(crate) String);

impl UserError {
    /// An error that carries this message.
    #[expect(clippy::new_ret_no_self, reason = "it is made to be returned at once")]
    pub(crate) fn new(message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self(message.into()))
    }
}

/// Runs one command.
pub(crate) async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Run(args) => run::run(args).await,
        Command::Backtest(args) => backtest::run(args).await,
        Command::Query(args) => query::run(args).await,
        Command::Lake(command) => lake_command::run(command).await,
        Command::Status(args) => status_command::show(args).await,
        Command::Plan(command) => control::plan(command).await,
        Command::Forecast(command) => forecast_command::run(command).await,
        Command::Frame(args) => frame_command::run(args).await,
        Command::Model(command) => model_command::run(command).await,
        Command::Signal(command) => signal_command::run(command).await,
        Command::Rollback(args) => control::rollback(args).await,
        Command::Audit(command) => audit_command::run(command).await,
        Command::Pause(args) => control::switch(args, true).await,
        Command::Resume(args) => control::switch(args, false).await,
        Command::Shadow(args) => shadow::show(args).await,
        Command::Policy(command) => governance::policy(command).await,
        Command::Stage(command) => governance::stage(command).await,
        Command::Features(command) => features::features(command).await,
        Command::Bench(command) => bench::run(command).await,
        Command::Config(command) => config::show(command).await,
    }
}

/// Tells a failure in one message; the exit code is 2 for the user's fault and 1 for ours.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    crate::terminal::say(format_args!("error: {error:#}"));
    let is_users = error.chain().any(|cause| cause.is::<UserError>());
    if is_users { ExitCode::from(2) } else { ExitCode::FAILURE }
}
