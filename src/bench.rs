//! `headroom bench`: how fast a part is, beside its peers, in one run on one machine.

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
}

/// Runs a benchmark and prints what it measures.
pub(crate) async fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Windows(args) => windows::run(args).await,
    }
}
