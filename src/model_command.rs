//! `headroom model`: what was learned of a workload as a file, for another environment, and how it does there.

use std::path::{Path, PathBuf};

use clap::builder::ArgPredicate;
use clap::{Args, Subcommand};
use headroom_forecaster::frames::Sources;
use headroom_forecaster::transfer::{self, ModelFile};
use headroom_forecaster::{ForecasterConfig, backtest as rolling};
use headroom_ingest::collect::csv_signals;
use headroom_ingest::collect::trace::TraceColumns;
use headroom_ingest_lake::Table;
use headroom_models::{Engine, Gap};
use headroom_proto::v1::Signal;
use headroom_proto::{Span, WorkloadId};

use crate::backtest::series::{self, Series};
use crate::cli::{DataDirArg, UserError};
use crate::config::{Config, ConfigArg};
use crate::lake_command::LakePlace;
use crate::pinned::{LoadsOf, Pinned, TableAt, signals_table};
use crate::terminal::answer;

/// `headroom model ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Take the model of a workload out of a headroom that does not run.
    Export {
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        config: ConfigArg,
        /// The workload.
        #[arg(long)]
        workload: String,
        #[command(flatten)]
        to: To,
    },
    /// Learn a model from a file or a version of the windows, as a forecaster would have.
    Learn {
        #[command(flatten)]
        history: History,
        #[command(flatten)]
        to: To,
    },
    /// Tell how a model does on the history of another environment, beside how it did at home.
    Gap {
        /// The model.
        #[arg(value_name = "FILE.model")]
        model: PathBuf,
        #[command(flatten)]
        history: History,
    },
}

/// Where a model goes, and under which name.
#[derive(Debug, Args)]
pub(crate) struct To {
    /// Where to write it; for `forecast.adopt` it is named `<workload>.model`.
    #[arg(long, value_name = "FILE.model")]
    to: PathBuf,
    /// What the environment is called where it was learned.
    #[arg(long, value_name = "NAME", default_value = "elsewhere")]
    from: String,
}

/// A history of one workload, in the forecaster's windows.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The history: CSV (plain or .gz) or Parquet.
    #[arg(long, value_name = "FILE", required_unless_present = "table")]
    data: Option<PathBuf>,
    /// The history from the lake in --data-dir instead: windows, or a version of that table, such as windows@12. The load
    /// is requests_per_s unless --value-column names another, and what counts is what was told when a window closed.
    #[arg(long, value_name = "TABLE", conflicts_with = "data", requires = "data_dir")]
    table: Option<TableAt>,
    /// The data folder of a headroom, for --table.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Which workload of the table; needed where it has several.
    #[arg(long, value_name = "NAME", requires = "table")]
    workload: Option<String>,
    /// The events, as `headroom backtest` takes them; with --table the lake's signals, or a version of them, such as
    /// signals@5.
    #[arg(long, value_name = "FILE")]
    signals: Option<PathBuf>,
    /// The column that holds the time.
    #[arg(long, value_name = "NAME", default_value = "ts")]
    time_column: String,
    /// The column that holds the load.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "value",
        default_value_if("table", ArgPredicate::IsPresent, "requests_per_s")
    )]
    value_column: String,
    /// The length of a step.
    #[arg(long, value_name = "LENGTH", default_value = "5m")]
    step: Span,
    /// How far ahead to forecast.
    #[arg(long, value_name = "LENGTH", default_value = "24h")]
    horizon: Span,
}

/// What a history came to.
struct Told {
    series: Series,
    signals: Vec<Signal>,
    sources: Option<Sources>,
}

/// Writes or judges a model.
pub(crate) async fn run(command: ModelCommand) -> anyhow::Result<()> {
    match command {
        ModelCommand::Export { data_dir, config, workload, to } => {
            let config = Config::load(config.config.as_deref()).await?;
            let state = data_dir.data_dir.join("forecaster");
            let bytes = transfer::export(&config.forecast, &state, &workload, &to.from);
            to.write(&bytes.map_err(|error| UserError::new(error.to_string()))?)
        }
        ModelCommand::Learn { history, to } => {
            let live = ForecasterConfig { window_size: history.step, horizon: history.horizon, ..Default::default() };
            let config = live.engine().map_err(|error| UserError::new(error.to_string()))?;
            let told = history.read().await?;
            let learn = move || anyhow::Ok((told.through(Engine::try_new(config)?), told.sources));
            let (engine, sources) = tokio::task::spawn_blocking(learn).await??;
            if engine.champion().is_empty() {
                return Err(UserError::new("too little history to learn from: a week is the least"));
            }
            to.write(&transfer::encode(&engine, &to.from, sources.as_ref())?)?;
            if let Some(sources) = sources {
                answer(format_args!("learned from {sources}"));
            }
            Ok(())
        }
        ModelCommand::Gap { model, history } => {
            let refused = |problem: String| UserError::new(format!("{}: {problem}", model.display()));
            let bytes = std::fs::read(&model).map_err(|error| refused(error.to_string()))?;
            let ModelFile { engine, sources } = transfer::decode(&bytes).map_err(|error| refused(error.to_string()))?;
            if engine.config().step_us != history.step.micros() {
                let of = Span::from_micros(engine.config().step_us);
                return Err(refused(format!("it was learned from steps of {of}: use --step {of}")));
            }
            let there = history.read().await?;
            let gap = tokio::task::spawn_blocking(move || there.gap(engine)).await??;
            answer(told(&gap));
            if let Some(sources) = sources {
                answer(format_args!("  learned from {sources}"));
            }
            Ok(())
        }
    }
}

impl To {
    fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        std::fs::write(&self.to, bytes)
            .map_err(|error| UserError::new(format!("--to {}: {error}", self.to.display())))?;
        answer(format_args!("{}: {} bytes", self.to.display(), bytes.len()));
        Ok(())
    }
}

impl History {
    /// Its loads and events, from a file or from the lake.
    async fn read(&self) -> anyhow::Result<Told> {
        let (mut all, source, signals, sources) = match (&self.table, &self.data_dir, &self.data) {
            (Some(table), Some(folder), _) => {
                let (series, signals, sources) = self.read_lake(*table, folder).await?;
                (series, table.to_string(), signals, Some(sources))
            }
            (_, _, Some(path)) => (self.read_file(path)?, path.display().to_string(), None, None),
            _ => return Err(UserError::new("name the history: --data FILE, or --table windows with --data-dir DIR")),
        };
        let names: Vec<String> = all.iter().map(|series| series.workload.to_string()).collect();
        let series = all.pop().filter(|_| all.is_empty());
        let mend = if self.table.is_some() { "choose one with --workload" } else { "one workload only" };
        let series = series.ok_or_else(|| UserError::new(format!("{source} has {}: {mend}", names.join(", "))))?;
        let signals = match (signals, &self.signals) {
            (Some(signals), _) => signals,
            (None, Some(path)) => signals_of(path)?,
            (None, None) => Vec::new(),
        };
        Ok(Told { series, signals, sources })
    }

    fn read_file(&self, path: &Path) -> anyhow::Result<Vec<Series>> {
        let columns = TraceColumns {
            time: self.time_column.clone(),
            value: self.value_column.clone(),
            workload: None,
            default_workload: WorkloadId::try_new("load")?,
        };
        series::read(path, &columns, self.step)
    }

    /// The series, the signals unless a file is named, and the versions that were read.
    async fn read_lake(
        &self,
        table: TableAt,
        folder: &Path,
    ) -> anyhow::Result<(Vec<Series>, Option<Vec<Signal>>, Sources)> {
        let table = table.must_be(Table::Windows, "--table")?;
        let lake = LakePlace::in_folder(folder).open().await?;
        let mut pinned = Pinned::new(&lake);
        let of = LoadsOf { feature: &self.value_column, step: self.step, workloads: self.workload.as_slice() };
        let loads = pinned.loads(table, of).await?;
        let signals = match signals_table(self.signals.as_deref())? {
            Some(at) => Some(pinned.signals(at.must_be(Table::Signals, "--signals")?).await?),
            None => None,
        };
        let sources = Sources::of(&loads, &self.value_column, pinned.versions());
        Ok((series::of_windows(&table.to_string(), &loads)?, signals, sources))
    }
}

impl Told {
    /// The engine once it has seen all of it.
    fn through(&self, mut engine: Engine) -> Engine {
        for (start_us, load) in self.begin(&mut engine) {
            engine.observe(start_us, load);
            engine.forecast().ok();
        }
        engine
    }

    /// How the engine did as long as it stood on models from elsewhere.
    fn gap(&self, mut engine: Engine) -> anyhow::Result<Gap> {
        let steps = self.begin(&mut engine);
        let mut last = engine.gap();
        for (start_us, load) in steps {
            engine.observe(start_us, load);
            engine.forecast().ok();
            match engine.gap() {
                Some(gap) => last = Some(gap),
                None => break,
            }
        }
        last.ok_or_else(|| UserError::new("the file holds no model from elsewhere"))
    }

    /// Tells the engine of the events; gives the steps that have a load, as they were first told.
    fn begin(&self, engine: &mut Engine) -> Vec<(i64, f64)> {
        rolling::events_for(&self.signals, &self.series.workload).into_iter().for_each(|event| engine.signal(event));
        let loads = self.series.regular().values.iter().enumerate().filter(|(_, load)| !load.is_nan());
        loads.map(|(index, load)| (self.series.time(index).micros(), *load)).collect()
    }
}

fn signals_of(path: &Path) -> anyhow::Result<Vec<Signal>> {
    csv_signals::read(path).map_err(|error| UserError::new(error.to_string()))
}

fn told(gap: &Gap) -> String {
    let Gap { from, home_wql, here_wql, hours, held_back } = gap;
    let verdict =
        if held_back.is_empty() { "it may drive".to_owned() } else { format!("it may not drive: {held_back}") };
    format!(
        "moved from {from}\n  loss at home (wQL)   {home_wql:.4}\n  loss here            {here_wql:.4}, over {hours} hours\n  \
         gap                  {:.2} times\n  {verdict}",
        here_wql / home_wql
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_told_with_what_follows() {
        let gap = Gap {
            from: "prod".to_owned(),
            home_wql: 0.1,
            here_wql: 0.2,
            hours: 30,
            held_back: "its loss here is 2.00 times that at home, more than 1.5".to_owned(),
        };
        let text = told(&gap);
        assert!(text.contains("2.00 times") && text.contains("it may not drive: its loss"), "{text}");
        assert!(told(&Gap { held_back: String::new(), ..gap }).ends_with("it may drive"));
    }
}
