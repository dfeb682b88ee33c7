//! `headroom model`: what was learned of a workload as a file, for another environment, and how it does there.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use headroom_forecaster::{ForecasterConfig, backtest as rolling, transfer};
use headroom_ingest::collect::csv_signals;
use headroom_ingest::collect::trace::TraceColumns;
use headroom_models::{Engine, Gap};
use headroom_proto::{Span, WorkloadId};

use crate::backtest::series::{self, Series};
use crate::cli::{DataDirArg, UserError};
use crate::config::{Config, ConfigArg};
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
    /// Learn a model from a file, as a forecaster would have.
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
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The events, as `headroom backtest` takes them.
    #[arg(long, value_name = "FILE")]
    signals: Option<PathBuf>,
    /// The column that holds the time.
    #[arg(long, value_name = "NAME", default_value = "ts")]
    time_column: String,
    /// The column that holds the load.
    #[arg(long, value_name = "NAME", default_value = "value")]
    value_column: String,
    /// The length of a step.
    #[arg(long, value_name = "LENGTH", default_value = "5m")]
    step: Span,
    /// How far ahead to forecast.
    #[arg(long, value_name = "LENGTH", default_value = "24h")]
    horizon: Span,
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
            let engine = tokio::task::spawn_blocking(move || {
                let live =
                    ForecasterConfig { window_size: history.step, horizon: history.horizon, ..Default::default() };
                let config = live.engine().map_err(|error| UserError::new(error.to_string()))?;
                history.through(Engine::try_new(config)?)
            });
            let engine = engine.await??;
            if engine.champion().is_empty() {
                return Err(UserError::new("too little history to learn from: a week is the least"));
            }
            to.write(&transfer::encode(&engine, &to.from)?)
        }
        ModelCommand::Gap { model, history } => {
            let refused = |problem: String| UserError::new(format!("{}: {problem}", model.display()));
            let bytes = std::fs::read(&model).map_err(|error| refused(error.to_string()))?;
            let engine = transfer::decode(&bytes).map_err(|error| refused(error.to_string()))?;
            if engine.config().step_us != history.step.micros() {
                let of = Span::from_micros(engine.config().step_us);
                return Err(refused(format!("it was learned from steps of {of}: use --step {of}")));
            }
            let gap = tokio::task::spawn_blocking(move || history.gap(engine)).await??;
            answer(told(&gap));
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
    /// The engine once it has seen all of it.
    fn through(&self, mut engine: Engine) -> anyhow::Result<Engine> {
        let series = self.read(&mut engine)?;
        for (index, load) in series.loads.iter().enumerate().filter(|(_, load)| !load.is_nan()) {
            engine.observe(series.time(index).micros(), *load);
            engine.forecast().ok();
        }
        Ok(engine)
    }

    /// How the engine did as long as it stood on models from elsewhere.
    fn gap(&self, mut engine: Engine) -> anyhow::Result<Gap> {
        let series = self.read(&mut engine)?;
        let mut last = engine.gap();
        for (index, load) in series.loads.iter().enumerate().filter(|(_, load)| !load.is_nan()) {
            engine.observe(series.time(index).micros(), *load);
            engine.forecast().ok();
            match engine.gap() {
                Some(gap) => last = Some(gap),
                None => break,
            }
        }
        last.ok_or_else(|| UserError::new("the file holds no model from elsewhere"))
    }

    /// The one series of the file; the engine is told of the events.
    fn read(&self, engine: &mut Engine) -> anyhow::Result<Series> {
        let columns = TraceColumns {
            time: self.time_column.clone(),
            value: self.value_column.clone(),
            workload: None,
            default_workload: WorkloadId::try_new("load")?,
        };
        let mut all = series::read(&self.data, &columns, self.step)?;
        let series = all.pop().filter(|_| all.is_empty());
        let series = series.ok_or_else(|| UserError::new(format!("{}: one workload only", self.data.display())))?;
        if let Some(path) = &self.signals {
            for event in rolling::events_for(&signals(path)?, &series.workload) {
                engine.signal(event);
            }
        }
        Ok(series)
    }
}

fn signals(path: &Path) -> anyhow::Result<Vec<headroom_proto::v1::Signal>> {
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
