//! The demo: the World Cup 98 trace and its match schedule through every stage, faster than time.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use headroom_proto::status::StageState;
use headroom_proto::{Clock, EventTime, Span};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::{DataDirArg, UserError};
use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::run::{self, Headroom};
use crate::scoreboard;
use crate::terminal::say;

const TRACE: &[u8] = include_bytes!("demo/worldcup98/trace.csv.gz");
const SIGNALS: &[u8] = include_bytes!("demo/worldcup98/signals.csv");
const SETTINGS: &str = include_str!("demo/worldcup98/demo.toml");
const SETTINGS_FILE: &str = "demo.toml";
const TRACE_START: &str = "1998-04-30T21:30:00Z";
const TRACE_END: &str = "1998-06-27T00:00:00Z";
/// A week of matches teaches the event response; the rest is scored.
const SCORE_FROM: &str = "1998-06-17T00:00:00Z";
const POLL: Duration = Duration::from_millis(200);
/// With no progress for this long the demo gives up and says where it stands.
const STALL_LIMIT: Duration = Duration::from_secs(120);

/// `headroom demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Event seconds per second of real time; as fast as the machine allows unless given.
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// End after the scoreboard instead of keeping the console up.
    #[arg(long)]
    exit: bool,
    /// Open the console in the browser.
    #[arg(long)]
    open: bool,
    /// Forget what an earlier demo left in the data folder and begin anew.
    #[arg(long)]
    fresh: bool,
    /// Replay the trace up to here only, such as 1998-05-20.
    #[arg(long, value_name = "TIME")]
    until: Option<EventTime>,
    /// Where the console listens.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let folder = &args.data_dir.data_dir;
    if args.fresh && folder.exists() {
        data_dir::check_format(folder)?;
        drop(DataDir::open(folder)?);
        std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    let data_dir = DataDir::open(folder)?;
    let until = end_of_replay(&args)?;
    let config = demo_config(&args, &data_dir, until).await?;

    let shutdown = CancellationToken::new();
    run::stop_on_signal(shutdown.clone());
    let (scoreboard_sender, scoreboard) = watch::channel(None);
    let planner = config.actuate.planner.clone();
    let mut headroom = Headroom::start(config, data_dir, None, Clock::replay(), scoreboard, shutdown.clone()).await?;
    let console = format!("http://{}/", headroom.endpoints.http);
    say(format_args!("console: {console}"));
    if args.open
        && let Err(error) = open::that_detached(&console)
    {
        tracing::warn!(%error, "no browser could be opened");
    }

    let replayed = follow(&mut headroom, until, &shutdown).await;
    if let Err(error) = replayed {
        shutdown.cancel();
        let drained = headroom.finished().await;
        return Err(drained.err().unwrap_or(error));
    }
    if !shutdown.is_cancelled() {
        let score_from = EventTime::parse(SCORE_FROM)?;
        if until > score_from {
            if let Some(store) = &headroom.stages.store {
                store.catch_up().await.context("storing the end of the replay")?;
            }
            let board = scoreboard::of_lake(&headroom.lake, &planner, score_from, until).await?;
            say(&board);
            scoreboard_sender.send_replace(Some(serde_json::to_value(&board)?));
        } else {
            say(format_args!("replayed up to {until}; the scoreboard needs the trace beyond {SCORE_FROM}"));
        }
        if let Some(peak_mib) = peak_memory_mib() {
            say(format_args!("peak memory: {peak_mib} MiB"));
        }
    }
    if args.exit {
        shutdown.cancel();
    } else if !shutdown.is_cancelled() {
        say(format_args!("the console stays at {console} until Ctrl-C"));
    }
    headroom.finished().await
}

fn end_of_replay(args: &DemoArgs) -> anyhow::Result<EventTime> {
    let (start, end) = (EventTime::parse(TRACE_START)?, EventTime::parse(TRACE_END)?);
    let until = args.until.unwrap_or(end);
    if until <= start || until > end {
        return Err(UserError::new(format!("--until {until}: the trace runs from {start} to {end}")));
    }
    Ok(until.floor(Span::from_mins(5)))
}

async fn demo_config(args: &DemoArgs, data_dir: &DataDir, until: EventTime) -> anyhow::Result<Config> {
    let folder = data_dir.folder("demo")?;
    for (name, bytes) in [("trace.csv.gz", TRACE), ("signals.csv", SIGNALS), (SETTINGS_FILE, SETTINGS.as_bytes())] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    let mut config = Config::load(Some(&folder.join(SETTINGS_FILE))).await?;
    let Some(replay) = config.collect.replay.as_mut() else {
        anyhow::bail!("the demo's settings configure no replay");
    };
    replay.until = Some(until);
    replay.speed = args.speed.unwrap_or(0.0);
    if !(replay.speed.is_finite() && replay.speed >= 0.0) {
        return Err(UserError::new("--speed: write a positive number of event seconds per second"));
    }
    if let Some(listen) = &args.listen {
        config.http.listen.clone_from(listen);
    }
    Ok(config)
}

/// Shows progress until every stage has handled the whole trace, or someone stops it.
async fn follow(headroom: &mut Headroom, until: EventTime, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let start = EventTime::parse(TRACE_START)?;
    let bar = progress_bar(start, until);
    let mut last = (EventTime::MIN, tokio::time::Instant::now());
    loop {
        if let Some(error) = headroom.try_failed() {
            return Err(error);
        }
        let statuses = headroom.stages.statuses();
        let slowest = statuses.iter().map(|status| status.event_time.unwrap_or(EventTime::MIN)).min();
        let reached = slowest.unwrap_or(EventTime::MIN).max(start);
        bar.set_position((reached - start).steps(Span::from_mins(1)).unsigned_abs());
        bar.set_message(reached.to_string());
        let all_read = headroom.stages.replay.as_ref().is_none_or(|r| r.status().state == StageState::Drained);
        if all_read && reached >= until {
            bar.finish();
            return Ok(());
        }
        if shutdown.is_cancelled() {
            bar.abandon();
            return Ok(());
        }
        if reached > last.0 {
            last = (reached, tokio::time::Instant::now());
        } else if last.1.elapsed() > STALL_LIMIT {
            bar.abandon();
            anyhow::bail!("no progress beyond {reached} for {} s: {statuses:#?}", STALL_LIMIT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn progress_bar(start: EventTime, until: EventTime) -> ProgressBar {
    let minutes = (until - start).steps(Span::from_mins(1)).unsigned_abs();
    let bar = ProgressBar::with_draw_target(Some(minutes), ProgressDrawTarget::stderr_with_hz(5));
    let template = "replaying {bar:40} {percent:>3} %  {msg}  {elapsed} so far, {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// The process's largest resident set so far, where the system tells it.
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}
