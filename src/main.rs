//! The program: reads the command line and hands over. The story of the running system stands in `run.rs`.

mod audit_command;
mod auth;
mod backtest;
mod bearer;
mod bench;
mod cli;
mod config;
mod console;
mod control;
mod data_dir;
mod demo;
mod derived;
mod endpoints;
mod features;
mod forecast_command;
mod frame_command;
mod governance;
mod lake_command;
mod model_command;
mod parallel;
mod pinned;
mod query;
mod run;
mod scoreboard;
mod serve;
mod shadow;
mod signal_command;
mod status_command;
mod telemetry;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    telemetry::log_to_stderr(cli.log.as_deref());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::report(&anyhow::Error::new(error).context("the async runtime did not start")),
    };
    let outcome = runtime.block_on(cli::dispatch(cli.command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::report(&error),
    }
}
