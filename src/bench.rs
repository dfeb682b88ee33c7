//! `headroom bench`: how fast a part is, beside its peers, in one run on one machine.

mod forecast;
mod groups;
mod m4;
mod outlook;
mod peers;
mod rows;
mod usage;
mod windows;

use clap::Subcommand;

/// `headroom bench ...`
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// From a Kafka topic to closed windows with percentiles, beside the ceiling, one-shot engines and other streams.
    Windows(windows::WindowsArgs),
    /// Fitting and forecasting many workloads: time, memory and size of what is learned, beside peers.
    Forecast(forecast::ForecastArgs),
    /// The hourly series of the M4 competition, with its scores.
    M4(m4::M4Args),
    /// What reconciliation does to the forecasts of series and of their sum.
    Groups(groups::GroupsArgs),
    /// How good hourly outlooks over 14 days are on a recorded load.
    Outlook(outlook::OutlookArgs),
}

/// Runs a benchmark and prints what it measures.
pub(crate) async fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Windows(args) => windows::run(args).await,
        BenchCommand::Forecast(args) => forecast::run(args).await,
        BenchCommand::Groups(args) => groups::run(args).await,
        BenchCommand::M4(args) => m4::run(args).await,
        BenchCommand::Outlook(args) => outlook::run(args).await,
    }
}
