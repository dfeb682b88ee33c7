//! `headroom audit`: the record of what was done, shown, exported and verified.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use headroom_actuator_decide::audit::note::Verifier;
use headroom_actuator_decide::audit::verify::{Report, verify};
use headroom_proto::EventTime;
use headroom_proto::v1::audit_service_client::AuditServiceClient;
use headroom_proto::v1::{AuditExportRequest, AuditShowRequest, ExplainPlanRequest, PublicKeyRequest};

use crate::bearer::Server;
use crate::cli::UserError;
use crate::control::{ServerArgs, channel, told};
use crate::run::SIGNING_KEY;
use crate::terminal::answer;

/// `headroom audit ...`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// What came of an action, a plan or a workload: what, why, by whom, expected and observed, how it was undone.
    Show(ShowArgs),
    /// Write the record as JSON lines, with all that is needed to verify it elsewhere.
    Export(ExportArgs),
    /// Verify the record of the running Headroom, or an exported file: what was changed is located.
    Verify(VerifyArgs),
    /// Print the public key that verifies the checkpoints.
    Key(KeyArgs),
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The id of an action or plan, or a workload.
    id: String,
    /// As a JSON document.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to write; an existing file is replaced once the export is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only from this time on, such as 2026-11-27T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<EventTime>,
    /// Only up to this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<EventTime>,
    /// Only of this workload.
    #[arg(long)]
    workload: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// An exported file; without one, the running Headroom is asked.
    file: Option<PathBuf>,
    /// The public key to verify with, as `headroom audit key` prints it; that of the data folder unless given.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    server: ServerArgs,
}

fn time(text: &str) -> Result<EventTime, String> {
    EventTime::parse(text).map_err(|error| error.to_string())
}

/// Runs one of the commands.
pub(crate) async fn run(command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Show(args) => show(args).await,
        AuditCommand::Export(args) => export(args).await,
        AuditCommand::Verify(args) => check(args).await,
        AuditCommand::Key(args) => {
            answer(key_of(&args.server).await?);
            Ok(())
        }
    }
}

/// `headroom plan show ID`
pub(crate) async fn explain(server: &ServerArgs, plan_id: String, json: bool) -> anyhow::Result<()> {
    let request = ExplainPlanRequest { plan_id };
    let told_of = connect(server).await?.explain_plan(request).await.map_err(told)?.into_inner();
    print(&told_of.text, &told_of.json, json)
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let request = AuditShowRequest { id: args.id };
    let shown = connect(&args.server).await?.show(request).await.map_err(told)?.into_inner();
    print(&shown.text, &shown.json, args.json)
}

fn print(text: &str, document: &str, as_json: bool) -> anyhow::Result<()> {
    if !as_json {
        answer(text.trim_end());
        return Ok(());
    }
    let document: serde_json::Value = serde_json::from_str(document).context("the answer's document")?;
    answer(serde_json::to_string_pretty(&document)?);
    Ok(())
}

async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let request = AuditExportRequest {
        workload: args.workload.unwrap_or_default(),
        since_us: args.since.map_or(0, EventTime::micros),
        until_us: args.until.map_or(0, EventTime::micros),
    };
    let text = exported(&args.server, request).await?;
    write_whole(&args.out, &text)?;
    answer(format_args!("{} lines in {}", text.lines().count(), args.out.display()));
    Ok(())
}

/// Beside its place first, so that a file is never half an export.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".partial");
    let staged = PathBuf::from(staged);
    let mut file = File::create(&staged)
        .map_err(|error| UserError::new(format!("{}: {error}: is its folder there and writable?", staged.display())))?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", staged.display()))?;
    std::fs::rename(&staged, path).with_context(|| format!("writing {}", path.display()))
}

async fn check(args: VerifyArgs) -> anyhow::Result<()> {
    let key = trusted(&args).await?;
    let text = match &args.file {
        Some(path) => {
            std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|error| {
                UserError::new(format!("{}: {error}: name a file of `headroom audit export`", path.display()))
            })?
        }
        None => exported(&args.server, AuditExportRequest::default()).await?,
    };
    let report = verify(&text, key.as_ref());
    tell(&report, key.is_some());
    if report.holds() {
        return Ok(());
    }
    anyhow::bail!("the record does not hold: {} found", report.findings.len())
}

/// The key that was given, else that of the data folder; for a running Headroom elsewhere it must be given.
async fn trusted(args: &VerifyArgs) -> anyhow::Result<Option<Verifier>> {
    let text = match &args.key {
        Some(text) => text.clone(),
        None => match std::fs::read_to_string(public_key_file(&args.server)) {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
    };
    let known = Verifier::parse(&text);
    known.map(Some).map_err(|error| {
        UserError::new(format!("the key `{}`: {error}: take what `headroom audit key` prints", text.trim()))
    })
}

fn tell(report: &Report, is_pinned: bool) {
    for finding in &report.findings {
        answer(finding);
    }
    if !report.holds() {
        return;
    }
    for (log, size) in &report.logs {
        answer(format_args!("{log}: {size} records signed"));
    }
    let part = if report.is_complete { "every record is here" } else { "a part: what it leaves out is not known" };
    answer(format_args!(
        "the record holds: {} records, {} checkpoints, chains of {} workloads; {part}",
        report.records, report.checkpoints, report.workloads
    ));
    let whose = if is_pinned { "" } else { " (the export's own: give --key to know who made it)" };
    answer(format_args!("key {}{whose}", report.key));
}

async fn exported(server: &ServerArgs, request: AuditExportRequest) -> anyhow::Result<String> {
    let mut lines = connect(server).await?.export(request).await.map_err(told)?.into_inner();
    let mut text = String::new();
    while let Some(piece) = lines.message().await.map_err(told)? {
        text += &piece.text;
    }
    Ok(text)
}

/// The key of the data folder, else that of the Headroom which answers.
async fn key_of(server: &ServerArgs) -> anyhow::Result<String> {
    if server.server.is_none()
        && let Ok(text) = std::fs::read_to_string(public_key_file(server))
    {
        return Ok(text.trim().to_owned());
    }
    let answered = connect(server).await?.public_key(PublicKeyRequest {}).await.map_err(told)?;
    Ok(answered.into_inner().key)
}

fn public_key_file(server: &ServerArgs) -> PathBuf {
    server.data_dir.data_dir.join("audit").join(SIGNING_KEY).with_extension("pub")
}

async fn connect(server: &ServerArgs) -> anyhow::Result<AuditServiceClient<Server>> {
    Ok(AuditServiceClient::new(channel(server).await?))
}
