//! `headroom lake`: what the tables hold, what happened to them, and their upkeep by hand.

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use headroom_ingest_lake::{Lake, LakeError, OptimizeSettings, QueryLimits, Storage, Table};
use headroom_proto::Clock;
use headroom_proto::time::Span;
use serde_json::{Value, json};

use crate::cli::{DataDirArg, UserError};
use crate::config::{Config, ConfigArg};
use crate::data_dir;
use crate::terminal::{answer, say};

/// `headroom lake ...`
#[derive(Debug, Subcommand)]
pub(crate) enum LakeCommand {
    /// List the tables with their versions and sizes.
    List(LakeArgs),
    /// Show the columns, layout and range of time of a table.
    Describe(TableArgs),
    /// Show what made the versions of a table, newest first.
    History(HistoryArgs),
    /// Join small files now, also while a headroom runs; rows stay as they are.
    Optimize(UpkeepArgs),
    /// Remove files that no version within the retention needs; older versions can no longer be read afterwards.
    Vacuum(VacuumArgs),
}

/// Where the lake is.
#[derive(Clone, Debug, Args)]
pub(crate) struct LakePlace {
    #[command(flatten)]
    data_dir: DataDirArg,
    #[command(flatten)]
    config: ConfigArg,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub(crate) struct LakeArgs {
    #[command(flatten)]
    place: LakePlace,
    /// How to write the answer.
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

/// Arguments of `describe`.
#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// The table, such as `windows`.
    #[arg(value_parser = table)]
    table: Table,
    #[command(flatten)]
    lake: LakeArgs,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The table, such as `windows`.
    #[arg(value_parser = table)]
    table: Table,
    /// At most this many versions.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    lake: LakeArgs,
}

/// Arguments of `optimize`.
#[derive(Debug, Args)]
pub(crate) struct UpkeepArgs {
    /// One table; all of them unless given.
    #[arg(value_parser = table)]
    table: Option<Table>,
    #[command(flatten)]
    lake: LakeArgs,
}

/// Arguments of `vacuum`.
#[derive(Debug, Args)]
pub(crate) struct VacuumArgs {
    #[command(flatten)]
    upkeep: UpkeepArgs,
    /// Versions of this long ago and less can be read afterwards; at least 1h.
    #[arg(long, default_value = "7d")]
    retention: Span,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Columns for reading.
    #[default]
    Table,
    /// An array of objects.
    Json,
}

impl LakePlace {
    /// The lake in a data folder, with the default configuration.
    pub(crate) fn in_folder(folder: &std::path::Path) -> Self {
        Self { data_dir: DataDirArg { data_dir: folder.to_owned() }, config: ConfigArg::default() }
    }

    /// Opens the lake that the configuration and the data folder name.
    pub(crate) async fn open(&self) -> anyhow::Result<Lake> {
        Ok(self.configured().await?.0)
    }

    /// The same for questions, which a cluster may answer.
    pub(crate) async fn open_for_questions(&self) -> anyhow::Result<Lake> {
        let (lake, config) = self.configured().await?;
        if config.query.scheduler.is_empty() {
            return Ok(lake);
        }
        lake.on_cluster(&config.query.scheduler).map_err(told)
    }

    async fn configured(&self) -> anyhow::Result<(Lake, Config)> {
        let hint = "run `headroom demo` or `headroom run` first, or name their place with --data-dir or --config";
        let config = Config::load(self.config.config.as_deref()).await?;
        let folder = &self.data_dir.data_dir;
        let opened = if config.storage.is_folder() {
            data_dir::check_format(folder)?;
            Lake::open(folder.join("lake")).await
        } else {
            let storage = Storage::open(&config.storage, folder).map_err(told)?;
            storage.find_lake().await.and_then(|()| Lake::open_in(&storage))
        };
        match opened {
            Err(error @ LakeError::Missing { .. }) => Err(UserError::new(format!("{error}: {hint}"))),
            opened => Ok((opened.map_err(told)?, config)),
        }
    }
}

/// Runs one of the commands.
pub(crate) async fn run(command: LakeCommand) -> anyhow::Result<()> {
    match command {
        LakeCommand::List(args) => list(&args).await,
        LakeCommand::Describe(args) => describe(args.table, &args.lake).await,
        LakeCommand::History(args) => history(&args).await,
        LakeCommand::Optimize(args) => optimize(&args).await,
        LakeCommand::Vacuum(args) => vacuum(&args).await,
    }
}

async fn list(args: &LakeArgs) -> anyhow::Result<()> {
    let lake = args.place.open().await?;
    let tables = lake.tables().await.map_err(told)?;
    let rows = tables.iter().map(|state| {
        json!({"table": state.table.name(), "version": state.version, "rows": state.rows, "files": state.files,
               "bytes": state.bytes})
    });
    write(args.output, &["table", "version", "rows", "files", "bytes"], &rows.collect::<Vec<_>>())
}

async fn describe(table: Table, args: &LakeArgs) -> anyhow::Result<()> {
    let lake = args.place.open().await?;
    let told_of = lake.describe(table).await.map_err(told)?;
    let schema = lake.schema(table).await.map_err(told)?;
    let columns: Vec<Value> = schema
        .fields()
        .iter()
        .map(|field| {
            let name = field.name();
            json!({"column": name, "type": field.data_type().to_string(), "nullable": field.is_nullable(),
                   "partition": told_of.partitioned_by.contains(name)})
        })
        .collect();
    let (from, to) = range(&lake, table).await?;
    let is_table = args.output == Form::Table;
    if is_table {
        write(args.output, &["column", "type", "nullable", "partition"], &columns)?;
        let version = told_of.version.map_or_else(|| "none yet".to_owned(), |version| version.to_string());
        answer(format_args!("version: {version}, schema version: {}", told_of.schema_version));
        answer(format_args!("{} from {} to {}", table.time_column(), text(&from), text(&to)));
        return Ok(());
    }
    let whole = json!({"table": table.name(), "version": told_of.version, "schema_version": told_of.schema_version,
                       "time_column": table.time_column(), "from": from, "to": to, "columns": columns});
    answer(serde_json::to_string_pretty(&whole)?);
    Ok(())
}

/// The first and the last time of a table's rows.
async fn range(lake: &Lake, table: Table) -> anyhow::Result<(Value, Value)> {
    let time = table.time_column();
    let sql =
        format!("SELECT CAST(min({time}) AS VARCHAR) AS first, CAST(max({time}) AS VARCHAR) AS last FROM {table}");
    let rows = lake.query(&sql, &QueryLimits::default()).await.map_err(told)?.collect().await.map_err(told)?;
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write_batches(&rows.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    let found: Value = serde_json::from_slice(&writer.into_inner()).context("the range of time")?;
    let first = |name: &str| found.pointer(&format!("/0/{name}")).cloned().unwrap_or_default();
    Ok((first("first"), first("last")))
}

async fn history(args: &HistoryArgs) -> anyhow::Result<()> {
    let lake = args.lake.place.open().await?;
    let entries = lake.history(args.table, args.limit).await.map_err(told)?;
    let rows = entries.iter().map(|entry| {
        let at = entry.at.and_then(|at| DateTime::<Utc>::from_timestamp_micros(at.micros()));
        json!({"version": entry.version, "at": at.map(|at| at.to_rfc3339()), "operation": entry.operation,
               "files_added": entry.files_added, "files_removed": entry.files_removed, "rows_added": entry.rows_added,
               "positions": entry.positions})
    });
    let header = ["version", "at", "operation", "files_added", "files_removed", "rows_added"];
    write(args.lake.output, &header, &rows.collect::<Vec<_>>())
}

async fn optimize(args: &UpkeepArgs) -> anyhow::Result<()> {
    let lake = args.lake.place.open().await?;
    let mut rows = Vec::new();
    for table in args.tables() {
        let done = lake.optimize(table, &OptimizeSettings::default()).await.map_err(told)?;
        rows.push(json!({"table": table.name(), "files_joined": done.files_joined,
                         "files_written": done.files_written, "bytes_rewritten": done.bytes_rewritten}));
    }
    write(args.lake.output, &["table", "files_joined", "files_written", "bytes_rewritten"], &rows)
}

async fn vacuum(args: &VacuumArgs) -> anyhow::Result<()> {
    let lake = args.upkeep.lake.place.open().await?;
    let mut rows = Vec::new();
    for table in args.upkeep.tables() {
        let (files, entries) = if args.dry_run {
            (lake.vacuum_plan(table, args.retention).await.map_err(told)?.files, 0)
        } else {
            let removed = lake.vacuum(table, args.retention).await.map_err(told)?;
            let now = Clock::Wall.now();
            (removed.files, lake.clean_log(table, args.retention, now).await.map_err(told)?)
        };
        rows.push(json!({"table": table.name(), "files_removed": files.len(), "log_entries_removed": entries}));
    }
    write(args.upkeep.lake.output, &["table", "files_removed", "log_entries_removed"], &rows)?;
    if args.dry_run {
        say("nothing was removed: this was a dry run");
    }
    Ok(())
}

impl UpkeepArgs {
    fn tables(&self) -> Vec<Table> {
        self.table.map_or_else(|| Table::ALL.to_vec(), |table| vec![table])
    }
}

/// The name of a table on the command line.
pub(crate) fn table(name: &str) -> Result<Table, String> {
    let known = || Table::ALL.map(Table::name).join(", ");
    let found = Table::ALL.into_iter().find(|table| table.name() == name);
    found.ok_or_else(|| format!("there is no table `{name}`: the tables are {}", known()))
}

/// The user's mistakes are told as such.
pub(crate) fn told(error: LakeError) -> anyhow::Error {
    if error.is_users_fault() { UserError::new(error.to_string()) } else { error.into() }
}

/// Rows as JSON, or in columns as wide as they need to be.
fn write(form: Form, header: &[&str], rows: &[Value]) -> anyhow::Result<()> {
    if form == Form::Json {
        answer(serde_json::to_string_pretty(rows)?);
        return Ok(());
    }
    let cells: Vec<Vec<String>> = std::iter::once(header.iter().map(|name| (*name).to_owned()).collect())
        .chain(rows.iter().map(|row| header.iter().map(|name| text(row.get(name).unwrap_or(&Value::Null))).collect()))
        .collect();
    let width = |at: usize| cells.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for row in &cells {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width));
        answer(padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
