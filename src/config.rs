//! The configuration: defaults compiled in, a file over them, the environment over both; checked as a whole.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use headroom_actuator::ActuatorConfig;
use headroom_actuator::targets::simulated::SimulatedConfig;
use headroom_forecaster::ForecasterConfig;
use headroom_ingest::collect::replay::ReplayConfig;
use headroom_ingest::collect::signals::SignalEntryConfig;
use headroom_ingest::process::ProcessConfig;
use headroom_ingest::store::StoreConfig;
use headroom_ingest_broker::BrokerConfig;
use headroom_ingest_lake::flight::FlightConfig;
use headroom_ingest_lake::{StorageConfig, check_scheduler};
use headroom_ingest_window::{FeatureConfig, FeatureQuery};
use serde::{Deserialize, Serialize};

use crate::auth::AuthConfig;
use crate::cli::UserError;
use crate::console::ConsoleConfig;
use crate::derived::DerivedConfig;
use crate::terminal::answer;

/// The defaults, which document every section.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");

/// Everything that can be configured; mirrors the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The console, `/metrics` and the signals' HTTP entry.
    pub(crate) http: ListenConfig,
    /// The gRPC services.
    pub(crate) grpc: GrpcConfig,
    /// Kafka, or the embedded broker when no servers are named.
    pub(crate) broker: BrokerConfig,
    /// Where the lake and the checkpoints are.
    pub(crate) storage: StorageConfig,
    /// What comes in.
    pub(crate) collect: CollectConfig,
    /// Feature windows, declared in SQL.
    pub(crate) features: Vec<FeatureConfig>,
    /// The windows' processor.
    pub(crate) process: ProcessConfig,
    /// The lake's writer.
    pub(crate) store: StoreConfig,
    /// The tables for planners' clients, over Flight SQL.
    pub(crate) flight: FlightConfig,
    /// Where `headroom query` runs.
    pub(crate) query: QueryConfig,
    /// Forecasts.
    pub(crate) forecast: ForecasterConfig,
    /// What follows from outlooks.
    pub(crate) derived: DerivedConfig,
    /// Plans and actions.
    pub(crate) actuate: ActuatorConfig,
    /// The simulated capacity target.
    pub(crate) target: SimulatedConfig,
    /// The page.
    pub(crate) console: ConsoleConfig,
}

/// Where questions to the lake run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryConfig {
    /// The scheduler of a Ballista cluster; empty is this program itself.
    pub(crate) scheduler: String,
}

/// Where to listen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenConfig {
    /// `HOST:PORT`; port 0 takes a free one.
    pub(crate) listen: String,
}

/// Where the gRPC services listen, and who may ask them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrpcConfig {
    /// `HOST:PORT`; port 0 takes a free one.
    pub(crate) listen: String,
    /// Tokens; without any everyone may ask everything.
    #[serde(default)]
    pub(crate) auth: AuthConfig,
}

/// What comes in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectConfig {
    /// The entry for event signals.
    pub(crate) signals: SignalEntryConfig,
    /// A recorded trace to replay instead of live telemetry.
    #[serde(default)]
    pub(crate) replay: Option<ReplayConfig>,
}

/// `--config FILE`
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigArg {
    /// A TOML file over the defaults; `headroom config show` prints the result.
    #[arg(long, env = "HEADROOM_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `headroom config ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the effective configuration.
    Show(ConfigArg),
    /// Say whether a configuration can be used, and everything that is wrong with it.
    Check(ConfigArg),
    /// Print the defaults with their comments: a file to start from.
    Defaults,
}

impl Config {
    /// Reads the defaults, the file and the environment, and checks the whole.
    pub(crate) async fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder =
            config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        if let Some(path) = file {
            if !path.is_file() {
                return Err(UserError::new(format!("configuration {}: no such file", path.display())));
            }
            builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
        }
        let environment =
            config::Environment::with_prefix("HEADROOM").prefix_separator("__").separator("__").try_parsing(true);
        let parsed: Result<Self, config::ConfigError> =
            builder.add_source(environment).build().and_then(config::Config::try_deserialize);
        let mut config = parsed.map_err(|error| UserError::new(format!("configuration{}: {error}", named(file))))?;
        if let Some(folder) = file.and_then(Path::parent) {
            config.paths().into_iter().for_each(|path| *path = folder.join(&*path));
        }
        config.check(file).await.map_err(|problems| {
            UserError::new(format!("configuration{}:\n  - {}", named(file), problems.join("\n  - ")))
        })?;
        Ok(config)
    }

    /// Paths that are relative to the folder of the configuration file.
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let replay =
            self.collect.replay.iter_mut().flat_map(|replay| [Some(&mut replay.file), replay.signals.as_mut()]);
        let auth = &mut self.grpc.auth;
        let auth = [auth.token_file.as_mut(), auth.jwt.as_mut().map(|jwt| &mut jwt.jwks_file)];
        let single = [self.flight.token_file.as_mut()].into_iter().chain(auth);
        let paths = replay.chain(single).flatten().chain(self.actuate.paths());
        paths.filter(|path| !path.as_os_str().is_empty()).collect()
    }

    /// Every problem that the types alone do not show.
    async fn check(&self, file: Option<&Path>) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for (key, listen) in [("http.listen", &self.http.listen), ("grpc.listen", &self.grpc.listen)] {
            if listen.parse::<std::net::SocketAddr>().is_err() {
                problems.push(format!("{key}: `{listen}` is no address: write HOST:PORT, such as 127.0.0.1:8686"));
            }
        }
        if self.features.is_empty() {
            problems.push("features: none declared: keep the default `load`, or declare one".to_owned());
        }
        for (at, feature) in self.features.iter().enumerate() {
            if let Err(error) = FeatureQuery::try_new(feature.clone()).await {
                let line = file.and_then(|file| line_of_feature(file, at));
                problems.push(line.map_or_else(|| error.to_string(), |line| format!("line {line}: {error}")));
            }
        }
        let replay = self.collect.replay.iter().flat_map(ReplayConfig::problems);
        problems.extend(replay.map(|problem| format!("collect.replay: {problem}")));
        problems.extend(self.grpc.auth.open().err().map(|error| error.to_string()));
        problems.extend(self.flight.problems().iter().map(|problem| format!("flight.{problem}")));
        if !self.query.scheduler.is_empty() {
            problems
                .extend(check_scheduler(&self.query.scheduler).err().map(|error| format!("query.scheduler: {error}")));
        }
        problems.extend(self.storage.problems().into_iter().map(|problem| format!("storage.{problem}")));
        let upkeep = self.store.maintenance.problems().into_iter();
        problems.extend(upkeep.map(|problem| format!("store.maintenance.{problem}")));
        problems.extend(self.forecast.engine().err().map(|error| format!("forecast: {error}")));
        problems.extend(self.derived.problems().into_iter().map(|problem| format!("derived.{problem}")));
        problems.extend(self.actuate.problems().into_iter().map(|problem| format!("actuate: {problem}")));
        if self.collect.replay.is_some() && !self.actuate.workloads.is_empty() {
            problems.push("actuate.workloads: a replay must not change real targets: leave one out".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// Where a `[[features]]` stands in the file, from 1.
fn line_of_feature(file: &Path, at: usize) -> Option<usize> {
    #[derive(Deserialize)]
    struct Located {
        features: Vec<toml::Spanned<toml::Table>>,
    }
    let text = std::fs::read_to_string(file).ok()?;
    let located: Located = toml::from_str(&text).ok()?;
    let start = located.features.get(at)?.span().start;
    Some(text.get(..start)?.matches('\n').count() + 1)
}

fn named(file: Option<&Path>) -> String {
    file.map(|path| format!(" {}", path.display())).unwrap_or_default()
}

/// Prints or checks a configuration.
pub(crate) async fn show(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show(arg) => {
            answer(toml::to_string_pretty(&Config::load(arg.config.as_deref()).await?)?.trim_end())
        }
        ConfigCommand::Check(arg) => {
            Config::load(arg.config.as_deref()).await?;
            answer("the configuration can be used");
        }
        ConfigCommand::Defaults => answer(DEFAULTS.trim_end()),
    }
    Ok(())
}
