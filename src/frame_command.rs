//! `headroom frame`: what was known at each origin beside what came, as Parquet for who trains models elsewhere.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use headroom_forecaster::frames::{Frame, FrameShape, Sources};
use headroom_ingest_lake::Table;
use headroom_proto::Span;

use crate::cli::UserError;
use crate::lake_command::LakePlace;
use crate::pinned::{LoadsOf, Pinned, TableAt, of_frame};
use crate::terminal::answer;

/// `headroom frame --to frame.parquet`
#[derive(Debug, Args)]
pub(crate) struct FrameArgs {
    #[command(flatten)]
    place: LakePlace,
    /// The windows; with a version, such as windows@12, the table as it was then: `headroom lake history windows` lists
    /// them.
    #[arg(long, value_name = "TABLE", default_value = "windows")]
    table: TableAt,
    /// The event signals, in the same way.
    #[arg(long, value_name = "TABLE", default_value = "signals")]
    signals: TableAt,
    /// The workload; give it again for more, all of them unless given.
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// The column of the windows that is the load.
    #[arg(long, value_name = "NAME", default_value = "requests_per_s")]
    feature: String,
    /// The length of the windows.
    #[arg(long, value_name = "LENGTH", default_value = "5m")]
    step: Span,
    /// How far ahead of its origin a row may be.
    #[arg(long, value_name = "LENGTH", default_value = "24h")]
    horizon: Span,
    /// The distance of the origins, a multiple of the step.
    #[arg(long, value_name = "LENGTH", default_value = "1h")]
    origins_every: Span,
    /// Where to write it. An existing file is replaced once the frame is whole.
    #[arg(long, value_name = "FILE.parquet")]
    to: PathBuf,
}

/// Builds the frame and writes it.
pub(crate) async fn run(args: FrameArgs) -> anyhow::Result<()> {
    let windows = args.table.must_be(Table::Windows, "--table")?;
    let told = args.signals.must_be(Table::Signals, "--signals")?;
    let lake = args.place.open().await?;
    let mut pinned = Pinned::new(&lake);
    let of = LoadsOf { feature: &args.feature, step: args.step, workloads: &args.workload };
    let loads = pinned.loads(windows, of).await?;
    let signals = pinned.signals(told).await?;
    let sources = Sources::of(&loads, &args.feature, pinned.versions());
    let shape = FrameShape { horizon: args.horizon, origins_every: args.origins_every };
    let made = move || {
        let mut frame = Frame::try_new(&loads, &signals, shape).map_err(of_frame)?;
        write(&mut frame, &sources, &args.to)?;
        let (rows, workloads) = (frame.rows().height(), sources.workloads.len());
        answer(format_args!("{}: {rows} rows of {workloads} workloads: {sources}", args.to.display()));
        Ok(())
    };
    tokio::task::spawn_blocking(made).await.context("the frame was abandoned")?
}

/// Beside its place first, so that a file is never half a frame.
fn write(frame: &mut Frame, sources: &Sources, to: &Path) -> anyhow::Result<()> {
    let mut staged = to.as_os_str().to_owned();
    staged.push(".partial");
    let staged = PathBuf::from(staged);
    let file = File::create(&staged).map_err(|error| {
        UserError::new(format!("--to {}: {error}: is its folder there and writable?", to.display()))
    })?;
    let mut out = BufWriter::new(file);
    let written = frame.write_parquet(sources, &mut out).map_err(anyhow::Error::from);
    if let Err(error) = written.and_then(|()| Ok(out.flush()?)) {
        std::fs::remove_file(&staged).with_context(|| format!("removing {}", staged.display()))?;
        return Err(error);
    }
    std::fs::rename(&staged, to).with_context(|| format!("writing {}", to.display()))
}
