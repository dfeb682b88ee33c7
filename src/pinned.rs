//! Tables of the lake as they were at one version: what is learned from them can be learned again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context;
use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use headroom_forecaster::frames::{FrameError, Loads};
use headroom_ingest_lake::{Lake, QueryLimits, Table};
use headroom_proto::Span;
use headroom_proto::schema::{WINDOW_ENVELOPE, timestamp};
use headroom_proto::v1::{Signal, SignalKind, SignalStatus};

use crate::cli::UserError;
use crate::lake_command::{table, told};

/// A table as the command line names it: `windows` as it stands, or `windows@12` as it was at a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableAt {
    table: Table,
    version: Option<u64>,
}

impl TableAt {
    /// A table as it stands.
    pub(crate) const fn newest(table: Table) -> Self {
        Self { table, version: None }
    }

    /// The same, refused unless it is this table.
    pub(crate) fn must_be(self, table: Table, flag: &str) -> anyhow::Result<Self> {
        if self.table == table {
            return Ok(self);
        }
        Err(UserError::new(format!("{flag} {self}: name the table `{table}`, or a version of it, such as {table}@12")))
    }
}

impl FromStr for TableAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = name_and_version(text)?;
        Ok(Self { table: table(name)?, version })
    }
}

impl fmt::Display for TableAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.table),
            None => write!(f, "{}", self.table),
        }
    }
}

/// What `--signals` names beside a table of windows: the table `signals` unless given, or a version of it; else a file.
pub(crate) fn signals_table(signals: Option<&Path>) -> anyhow::Result<Option<TableAt>> {
    let Some(path) = signals else { return Ok(Some(TableAt::newest(Table::Signals))) };
    let text = path.to_str().unwrap_or_default();
    if text.split('@').next() != Some(Table::Signals.name()) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|problem| UserError::new(format!("--signals {text}: {problem}")))
}

/// The parts of `windows@12`.
pub(crate) fn name_and_version(text: &str) -> Result<(&str, Option<u64>), String> {
    let Some((name, version)) = text.split_once('@') else { return Ok((text, None)) };
    let number = version.parse();
    let number = number.map_err(|_| format!("`{version}` is no version: write a number, such as windows@12"))?;
    Ok((name, Some(number)))
}

/// A name in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Asks the lake, however many rows the answer has.
pub(crate) async fn ask(lake: &Lake, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    let limits = QueryLimits { rows: None, ..QueryLimits::default() };
    let rows = lake.query(sql, &limits).await.map_err(told)?;
    rows.collect().await.map_err(told)
}

/// A column as texts.
pub(crate) fn texts(batch: &RecordBatch, name: &str) -> anyhow::Result<StringArray> {
    let found = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    Ok(cast(found, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A column as microseconds since the Unix epoch.
pub(crate) fn times(batch: &RecordBatch, name: &str) -> anyhow::Result<Int64Array> {
    let found = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    Ok(cast(&cast(found, &timestamp())?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// A column as numbers.
pub(crate) fn numbers(batch: &RecordBatch, name: &str) -> anyhow::Result<Float64Array> {
    let found = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    Ok(cast(found, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// Reads tables, each at one version, and keeps which.
#[derive(Debug)]
pub(crate) struct Pinned<'a> {
    lake: &'a Lake,
    versions: BTreeMap<String, u64>,
}

/// What of the table `windows` is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadsOf<'a> {
    /// The column that is the load.
    pub(crate) feature: &'a str,
    /// The length of the windows.
    pub(crate) step: Span,
    /// Whose; everyone's when empty.
    pub(crate) workloads: &'a [String],
}

impl<'a> Pinned<'a> {
    pub(crate) fn new(lake: &'a Lake) -> Self {
        Self { lake, versions: BTreeMap::new() }
    }

    /// The versions that were read.
    pub(crate) fn versions(&self) -> BTreeMap<String, u64> {
        self.versions.clone()
    }

    /// The clause that reads the table at its version, from now on the same; none of a table that nothing was written to.
    async fn pin(&mut self, at: TableAt) -> anyhow::Result<Option<String>> {
        let version = match at.version {
            Some(version) => Some(version),
            None => self.lake.version(at.table).await.map_err(told)?,
        };
        let Some(version) = version else { return Ok(None) };
        self.versions.insert(at.table.name().to_owned(), version);
        Ok(Some(format!("{} VERSION AS OF {version}", at.table)))
    }

    /// The loads in a version of the table `windows`.
    pub(crate) async fn loads(&mut self, at: TableAt, of: LoadsOf<'_>) -> anyhow::Result<Loads> {
        let Some(from) = self.pin(at).await? else {
            let hint =
                "let `headroom run` or `headroom demo` write windows first, or name another lake with --data-dir";
            return Err(UserError::new(format!("table {at}: nothing has been written to it: {hint}")));
        };
        let LoadsOf { feature, step, workloads } = of;
        self.check_feature(at, &from, feature).await?;
        let size_s = step.micros() / 1_000_000;
        let load = quoted(feature);
        let named: Vec<String> = workloads.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
        let named = if named.is_empty() { String::new() } else { format!("AND workload IN ({})", named.join(", ")) };
        let sql = format!(
            "SELECT query, workload, window_size_s, window_start, revision, complete, {load} FROM {from} \
             WHERE window_size_s = {size_s} AND {load} IS NOT NULL {named}"
        );
        let windows = ask(self.lake, &sql).await?;
        // Polars keeps its thread until it is done.
        let load = feature.to_owned();
        let made = tokio::task::spawn_blocking(move || Loads::try_new(&windows, &load, step));
        let loads = made.await.context("reading the windows was abandoned")?.map_err(of_frame)?;
        let found: BTreeSet<String> = loads.workloads().into_iter().collect();
        let missing = workloads.iter().find(|name| !found.contains(*name));
        if missing.is_some() || loads.is_empty() {
            return Err(self.nothing(at, &from, of, missing).await?);
        }
        Ok(loads)
    }

    async fn check_feature(&self, at: TableAt, from: &str, feature: &str) -> anyhow::Result<()> {
        let limits = QueryLimits::default();
        let columns = self.lake.query(&format!("SELECT * FROM {from} LIMIT 0"), &limits).await.map_err(told)?.schema();
        let is_feature = |name: &str| name != "date" && !WINDOW_ENVELOPE.contains(&name);
        let numeric =
            columns.fields().iter().filter(|field| field.data_type().is_numeric() && is_feature(field.name()));
        let names: Vec<&str> = numeric.map(|field| field.name().as_str()).collect();
        if names.contains(&feature) {
            return Ok(());
        }
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(UserError::new(format!("{at} has no feature `{feature}` that is a number; it has: {known}")))
    }

    /// Why there are no loads, as told to who asked.
    async fn nothing(
        &self,
        at: TableAt,
        from: &str,
        of: LoadsOf<'_>,
        missing: Option<&String>,
    ) -> anyhow::Result<anyhow::Error> {
        let LoadsOf { feature, step, .. } = of;
        let sql = format!("SELECT DISTINCT workload, window_size_s FROM {from} WHERE {} IS NOT NULL", quoted(feature));
        let (mut sizes, mut names) = (BTreeSet::new(), BTreeSet::new());
        for batch in ask(self.lake, &sql).await? {
            names.extend(texts(&batch, "workload")?.iter().flatten().map(str::to_owned));
            let found = batch.column_by_name("window_size_s").with_context(|| "no column window_size_s")?;
            sizes.extend(cast(found, &DataType::Int64)?.as_primitive::<Int64Type>().iter().flatten());
        }
        let listed = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        if let Some(name) = missing.filter(|name| !names.contains(*name)) {
            let known = listed(names.into_iter().collect());
            return Ok(UserError::new(format!(
                "{at} has no workload `{name}` with {feature}: --workload can be {known}"
            )));
        }
        let known = listed(sizes.into_iter().map(|size_s| Span::from_secs(size_s).to_string()).collect());
        Ok(UserError::new(format!("{at} has no windows of {step} with {feature}: --step can be {known}")))
    }

    /// Every revision of every signal in a version of the table `signals`.
    pub(crate) async fn signals(&mut self, at: TableAt) -> anyhow::Result<Vec<Signal>> {
        let Some(from) = self.pin(at).await? else { return Ok(Vec::new()) };
        let sql = format!(
            "SELECT *, array_to_string(workloads, '|') AS selectors FROM {from} ORDER BY revision, announced_at, signal_id"
        );
        let mut signals = Vec::new();
        for batch in ask(self.lake, &sql).await? {
            signals.extend(signals_in(&batch)?);
        }
        Ok(signals)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "revisions and people are counts")]
fn signals_in(batch: &RecordBatch) -> anyhow::Result<Vec<Signal>> {
    let word = |name: &str| -> anyhow::Result<_> {
        let column = texts(batch, name)?;
        Ok(move |row: usize| if column.is_null(row) { String::new() } else { column.value(row).to_owned() })
    };
    let (ids, kinds, statuses) = (word("signal_id")?, word("kind")?, word("status")?);
    let (names, channels, selectors) = (word("name")?, word("channel")?, word("selectors")?);
    let (starts, ends, announced) =
        (times(batch, "starts_at")?, times(batch, "ends_at")?, times(batch, "announced_at")?);
    let (weights, revisions, audiences) =
        (numbers(batch, "weight")?, numbers(batch, "revision")?, numbers(batch, "audience_size")?);
    let of_row = |row: usize| {
        let kind = format!("SIGNAL_KIND_{}", kinds(row).to_uppercase());
        let status = format!("SIGNAL_STATUS_{}", statuses(row).to_uppercase());
        Signal {
            signal_id: ids(row),
            revision: revisions.value(row) as u64,
            kind: SignalKind::from_str_name(&kind).unwrap_or(SignalKind::Other).into(),
            status: SignalStatus::from_str_name(&status).unwrap_or(SignalStatus::Announced).into(),
            starts_at_us: starts.value(row),
            ends_at_us: ends.value(row),
            announced_at_us: announced.value(row),
            name: names(row),
            channel: channels(row),
            audience_size: audiences.is_valid(row).then(|| audiences.value(row) as u64),
            weight: weights.value(row),
            workloads: selectors(row).split('|').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
            ..Signal::default()
        }
    };
    Ok((0..batch.num_rows()).map(of_row).collect())
}

/// A shape that does not fit is the asker's mistake, as is a frame that would be too large.
pub(crate) fn of_frame(error: FrameError) -> anyhow::Error {
    match error {
        FrameError::Setting { .. } => UserError::new(format!("--{error}")),
        FrameError::TooLarge { .. } | FrameError::Column { .. } => UserError::new(error.to_string()),
        FrameError::Polars(_) => error.into(),
    }
}
