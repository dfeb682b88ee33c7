//! Starts the stages in story order, watches over them, and drains them.

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use clap::Args;
use headroom_actuator::targets::simulated::SimulatedTarget;
use headroom_actuator::{ActuatorError, ActuatorHandle, ActuatorService, Membership as Turns};
use headroom_forecaster::{ForecasterHandle, ForecasterService};
use headroom_ingest::collect::replay::{ReplayError, ReplayGate, ReplayHandle, ReplayService};
use headroom_ingest::collect::signals::SignalEntry;
use headroom_ingest::process::{Membership, ProcessHandle, ProcessService};
use headroom_ingest::store::{StoreHandle, StoreService};
#[cfg(feature = "embedded-broker")]
use headroom_ingest_broker::embedded::Embedded;
use headroom_ingest_broker::{Broker, BrokerConfig};
use headroom_ingest_lake::{Lake, LakeError, Storage, flight};
use headroom_proto::status::StageStatus;
use headroom_proto::{Clock, EventTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::cli::{DataDirArg, Stage, UserError};
use crate::config::{Config, ConfigArg};
use crate::console::{ConsoleService, ConsoleSources, Scale};
use crate::console::{insight, people};
use crate::data_dir::DataDir;
use crate::derived::{self, DerivedGrpc};
use crate::endpoints::Endpoints;
use crate::serve;
use crate::telemetry::Metrics;
use crate::terminal::say;

/// The key that signs checkpoints, in the folder `audit` of the data folder.
pub(crate) const SIGNING_KEY: &str = "signing.key";

/// `headroom run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Only this stage, over a Kafka that others share.
    #[arg(long, value_enum)]
    stage: Option<Stage>,
}

/// Runs until Ctrl-C.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = Config::load(args.config.config.as_deref()).await?;
    if args.stage.is_some() && config.broker.bootstrap_servers.is_none() {
        return Err(UserError::new(
            "--stage runs one stage beside others, over a Kafka that they share: set broker.bootstrap_servers",
        ));
    }
    let data_dir = DataDir::open(&args.data_dir.data_dir)?;
    let clock = if config.collect.replay.is_some() { Clock::replay() } else { Clock::Wall };
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone());
    let (_scoreboard, scoreboard) = watch::channel(None);
    let running = Headroom::start(config, data_dir, args.stage, clock, scoreboard, shutdown).await?;
    let has_page = args.stage.is_none_or(|stage| stage == Stage::Console);
    let (what, path) = if has_page { ("console", "") } else { ("metrics", "metrics") };
    say(format_args!("{what}: http://{}/{path}", running.endpoints.http));
    running.finished().await
}

/// The stages of this process, running.
pub(crate) struct Headroom {
    /// Where it listens.
    pub(crate) endpoints: Endpoints,
    /// Each stage's handle, absent when the stage runs elsewhere.
    pub(crate) stages: Stages,
    /// The tables.
    pub(crate) lake: Arc<Lake>,
    tasks: JoinSet<anyhow::Result<()>>,
    shutdown: CancellationToken,
    #[cfg(feature = "embedded-broker")]
    embedded: Option<Embedded>,
    _data_dir: DataDir,
}

/// The handles of the stages that run in this process.
#[derive(Clone, Default)]
pub(crate) struct Stages {
    /// The replay, when a trace is configured.
    pub(crate) replay: Option<ReplayHandle>,
    /// The windows' processor.
    pub(crate) process: Option<ProcessHandle>,
    /// The lake's writer.
    pub(crate) store: Option<StoreHandle>,
    /// The forecaster.
    pub(crate) forecast: Option<ForecasterHandle>,
    /// The actuator.
    pub(crate) actuate: Option<ActuatorHandle>,
}

impl Stages {
    /// What each stage says of itself, in story order.
    pub(crate) fn statuses(&self) -> Vec<StageStatus> {
        [
            self.replay.as_ref().map(ReplayHandle::status),
            self.process.as_ref().map(ProcessHandle::status),
            self.store.as_ref().map(StoreHandle::status),
            self.forecast.as_ref().map(ForecasterHandle::status),
            self.actuate.as_ref().map(ActuatorHandle::status),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The event time that the end of the loop has reached.
    fn reached(&self) -> Option<EventTime> {
        let last = self.actuate.as_ref().map(ActuatorHandle::status);
        last.or_else(|| self.forecast.as_ref().map(ForecasterHandle::status)).and_then(|status| status.event_time)
    }
}

/// What every stage is built from.
struct Ground<'a> {
    config: &'a Config,
    storage: &'a Storage,
    data_dir: &'a DataDir,
    broker: &'a Broker,
    clock: &'a Clock,
    metrics: &'a Metrics,
    shutdown: &'a CancellationToken,
    only: Option<Stage>,
}

impl Headroom {
    /// Starts the broker, the stages that are wanted, and the listeners.
    pub(crate) async fn start(
        config: Config,
        data_dir: DataDir,
        only: Option<Stage>,
        clock: Clock,
        scoreboard: watch::Receiver<Option<serde_json::Value>>,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let http = serve::bind(&config.http.listen, "http.listen").await?;
        let grpc = serve::bind(&config.grpc.listen, "grpc.listen").await?;
        let flight = match only {
            None | Some(Stage::Lake) => Some(serve::bind(&config.flight.listen, "flight.listen").await?),
            Some(_) => None,
        };
        #[cfg(feature = "embedded-broker")]
        let (broker, embedded) = open_broker(&config, &data_dir).await?;
        #[cfg(not(feature = "embedded-broker"))]
        let broker = open_broker(&config)?;
        broker.ensure_topics().await.context("creating the topics")?;
        let storage = Storage::open(&config.storage, data_dir.path()).map_err(storage_failure)?;
        if config.storage.is_folder() {
            data_dir.folder("lake")?;
        } else {
            storage.probe().await.map_err(storage_failure)?;
        }
        let lake = Arc::new(Lake::open_in(&storage).context("opening the lake")?);
        let endpoints = Endpoints {
            http: serve::address_of(&http)?,
            grpc: serve::address_of(&grpc)?,
            flight: flight.as_ref().map(serve::address_of).transpose()?,
            kafka: broker.bootstrap_servers().to_owned(),
        };
        endpoints.write(data_dir.path())?;

        let metrics = Metrics::default();
        let ground = Ground {
            config: &config,
            storage: &storage,
            data_dir: &data_dir,
            broker: &broker,
            clock: &clock,
            metrics: &metrics,
            shutdown: &shutdown,
            only,
        };
        let mut tasks = JoinSet::new();
        let mut routes = Routes::default();
        let mut router = serve::operations(metrics.clone());
        let stages = ground.start_stages(&lake, &mut tasks, &mut routes, &mut router)?;
        if ground.wants(Stage::Console) {
            router = router.merge(ground.start_console(&stages, scoreboard, &mut tasks)?);
            let own = |stage| ground.wants(stage).then(|| endpoints.grpc.to_string());
            let actuator = config.console.actuator.clone().or_else(|| own(Stage::Actuate));
            let forecaster = config.console.forecaster.clone().or_else(|| own(Stage::Forecast));
            router = router.merge(people::router(actuator.as_deref()));
            router = router.merge(insight::router(actuator.as_deref(), forecaster.as_deref()));
        }
        tasks.spawn(serve::http(http, router, shutdown.clone()));
        tasks.spawn(serve::grpc(grpc, routes, config.grpc.auth.open()?, shutdown.clone()));
        if let Some(listener) = flight {
            let tables = metrics.register(|registry| flight::endpoint(Arc::clone(&lake), &config.flight, registry))?;
            tasks.spawn(serve::grpc(listener, Routes::new(tables), None, shutdown.clone()));
        }
        Ok(Self {
            endpoints,
            stages,
            lake,
            tasks,
            shutdown,
            #[cfg(feature = "embedded-broker")]
            embedded,
            _data_dir: data_dir,
        })
    }

    /// Waits until every stage has drained; the first failure stops the others and is returned.
    pub(crate) async fn finished(mut self) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        while let Some(joined) = self.tasks.join_next().await {
            let ended = joined.context("a stage panicked").and_then(|result| result);
            if let Err(error) = ended {
                self.shutdown.cancel();
                if outcome.is_ok() {
                    outcome = Err(error);
                }
            }
        }
        #[cfg(feature = "embedded-broker")]
        if let Some(embedded) = self.embedded.take() {
            // Their clients would complain of a broker that is gone.
            self.stages = Stages::default();
            embedded.stop().await;
        }
        outcome
    }

    /// Has a stage ended with an error?
    pub(crate) fn try_failed(&mut self) -> Option<anyhow::Error> {
        while let Some(joined) = self.tasks.try_join_next() {
            if let Err(error) = joined.context("a stage panicked").and_then(|result| result) {
                return Some(error);
            }
        }
        None
    }
}

impl Ground<'_> {
    fn wants(&self, stage: Stage) -> bool {
        self.only.is_none_or(|only| only == stage)
    }

    /// The readers before the writers, so that nothing waits; the replay last of all.
    fn start_stages(
        &self,
        lake: &Arc<Lake>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        routes: &mut Routes,
        router: &mut Router,
    ) -> anyhow::Result<Stages> {
        let mut stages = Stages::default();
        if self.wants(Stage::Lake) {
            let (service, handle) = self.metrics.register(|registry| {
                StoreService::new(self.config.store.clone(), self.broker.clone(), Arc::clone(lake), registry)
            });
            stages.store = Some(handle);
            self.spawn(tasks, "store", |shutdown| service.run(shutdown));
            let config = Arc::new(self.config.clone());
            *routes = std::mem::take(routes).add_service(DerivedGrpc::server(Arc::clone(lake), Arc::clone(&config)));
            tasks.spawn(derived::keep_up(Arc::clone(lake), config, self.shutdown.clone()));
        }
        if self.wants(Stage::Process) {
            let (service, handle) = self.process()?;
            stages.process = Some(handle);
            self.spawn(tasks, "process", |shutdown| service.run(shutdown));
        }
        if self.wants(Stage::Forecast) {
            let (service, handle) = self.forecast()?;
            *routes = std::mem::take(routes).add_service(handle.grpc());
            stages.forecast = Some(handle);
            self.spawn(tasks, "forecast", |shutdown| service.run(shutdown));
        }
        if self.wants(Stage::Actuate) {
            let (service, handle) = self.actuate()?;
            *routes = std::mem::take(routes).add_service(handle.grpc()).add_service(handle.audit_grpc());
            stages.actuate = Some(handle);
            self.spawn(tasks, "actuate", |shutdown| service.run(shutdown));
            self.serve_keda(tasks, routes)?;
        }
        if self.wants(Stage::Ingest) {
            let signals = self.metrics.register(|registry| {
                SignalEntry::new(self.config.collect.signals.clone(), self.broker.clone(), self.clock.clone(), registry)
            })?;
            *router = std::mem::take(router).merge(signals.router());
            *routes = std::mem::take(routes).add_service(signals.grpc());
            stages.replay = self.replay(&stages, tasks)?;
        }
        Ok(stages)
    }

    fn process(&self) -> anyhow::Result<(ProcessService, ProcessHandle)> {
        let checkpoints = self.storage.checkpoints();
        let (config, features) = (self.config.process.clone(), self.config.features.clone());
        let is_shared = self.config.broker.bootstrap_servers.is_some();
        let membership = if is_shared { Membership::Group } else { Membership::Alone };
        let (service, handle) = self.metrics.register(|registry| {
            ProcessService::new(config, features, self.broker.clone(), self.clock.clone(), checkpoints, registry)
        });
        Ok((service.with_membership(membership), handle))
    }

    fn forecast(&self) -> anyhow::Result<(ForecasterService, ForecasterHandle)> {
        let state = self.data_dir.folder("forecaster")?;
        self.metrics
            .register(|registry| {
                let config = self.config.forecast.clone();
                ForecasterService::new(config, self.broker.clone(), self.clock.clone(), state, registry)
            })
            .context("the forecaster")
    }

    fn actuate(&self) -> anyhow::Result<(ActuatorService, ActuatorHandle)> {
        let folder = self.data_dir.folder("target")?;
        let simulated = SimulatedTarget::open(self.config.target.clone(), &folder.join("simulated.json"))
            .context("the simulated target")?;
        let targets = self.config.actuate.open_targets(Arc::new(simulated), &folder);
        let mut config = self.config.actuate.clone();
        let audit = self.data_dir.folder("audit")?;
        config.audit.key_file.get_or_insert_with(|| audit.join(SIGNING_KEY));
        let made = self.metrics.register(|registry| {
            ActuatorService::new(config, self.broker.clone(), self.clock.clone(), targets, registry)
        });
        // Over a broker of its own nobody else can be waiting.
        let is_shared = self.config.broker.bootstrap_servers.is_some();
        let membership = if is_shared { Turns::Group } else { Turns::Alone };
        made.map(|(service, handle)| (service.with_membership(membership), handle)).map_err(|error| {
            let is_key = matches!(error, ActuatorError::Key { .. });
            if is_key { UserError::new(error.to_string()) } else { anyhow::Error::new(error).context("the actuator") }
        })
    }

    /// KEDA's external scaler, when there is something to scale: among the gRPC services, or alone where KEDA reaches it.
    fn serve_keda(&self, tasks: &mut JoinSet<anyhow::Result<()>>, routes: &mut Routes) -> anyhow::Result<()> {
        let (config, folder) = (&self.config.actuate, self.data_dir.folder("target")?);
        let Some(scaler) = self.metrics.register(|registry| config.external_scaler(&folder, registry)) else {
            return Ok(());
        };
        let Some(address) = config.keda_listen.clone() else {
            *routes = std::mem::take(routes).add_service(scaler);
            return Ok(());
        };
        let shutdown = self.shutdown.clone();
        tasks.spawn(async move {
            let listener = serve::bind(&address, "actuate.keda_listen").await?;
            serve::grpc(listener, Routes::new(scaler), None, shutdown).await
        });
        Ok(())
    }

    fn replay(&self, stages: &Stages, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<Option<ReplayHandle>> {
        let Some(config) = self.config.collect.replay.clone() else { return Ok(None) };
        let behind = stages.clone();
        let gate: Option<ReplayGate> =
            behind.forecast.is_some().then(|| -> ReplayGate { Arc::new(move || behind.reached()) });
        let (service, handle) = self
            .metrics
            .register(|registry| ReplayService::new(config, self.broker.clone(), self.clock.clone(), gate, registry))
            .map_err(replay_failure)?;
        self.spawn(tasks, "collect", |shutdown| async { service.run(shutdown).await.map_err(replay_failure) });
        Ok(Some(handle))
    }

    fn start_console(
        &self,
        stages: &Stages,
        scoreboard: watch::Receiver<Option<serde_json::Value>>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Router> {
        let known = stages.clone();
        let planner = &self.config.actuate.planner;
        let scale = Scale {
            target: self.config.forecast.target.clone(),
            window: self.config.forecast.window_size,
            unit_capacity: planner.unit_capacity,
            violation_utilisation: planner.violation_utilisation,
        };
        let sources = ConsoleSources { stages: Arc::new(move || known.statuses()), scoreboard, scale };
        let (service, handle) = self.metrics.register(|registry| {
            ConsoleService::new(self.config.console.clone(), self.broker.clone(), sources, registry)
        });
        self.spawn(tasks, "console", |shutdown| service.run(shutdown));
        Ok(handle.router())
    }

    fn spawn<F, E>(
        &self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        name: &'static str,
        run: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error> + Send,
    {
        let service = run(self.shutdown.clone());
        tasks.spawn(async move {
            let outcome = service.await.map_err(|error| error.into().context(format!("stage {name}")));
            tracing::info!(stage = name, failed = outcome.is_err(), "stage ended");
            outcome
        });
    }
}

fn storage_failure(error: LakeError) -> anyhow::Error {
    if error.is_users_fault() { UserError::new(error.to_string()) } else { error.into() }
}

fn replay_failure(error: ReplayError) -> anyhow::Error {
    if error.is_users_fault() { UserError::new(error.to_string()) } else { error.into() }
}

#[cfg(feature = "embedded-broker")]
async fn open_broker(config: &Config, data_dir: &DataDir) -> anyhow::Result<(Broker, Option<Embedded>)> {
    if let Some(servers) = &config.broker.bootstrap_servers {
        return Ok((Broker::new(servers, &config.broker), None));
    }
    let embedded = Embedded::start(&config.broker.embedded_listen, &data_dir.folder("broker")?)
        .await
        .map_err(|error| if error.is_users_fault() { UserError::new(error.to_string()) } else { error.into() })?;
    let settings = BrokerConfig { partitions: 1, ..config.broker.clone() };
    Ok((Broker::new(embedded.bootstrap_servers(), &settings), Some(embedded)))
}

#[cfg(not(feature = "embedded-broker"))]
fn open_broker(config: &Config) -> anyhow::Result<Broker> {
    let Some(servers) = &config.broker.bootstrap_servers else {
        return Err(UserError::new(
            "this headroom was built without the embedded broker: set broker.bootstrap_servers to your Kafka",
        ));
    };
    Ok(Broker::new(servers, &config.broker))
}

/// The first Ctrl-C (or SIGTERM) drains, the second ends at once.
pub(crate) fn stop_on_signal(shutdown: CancellationToken) {
    tokio::spawn(async move {
        interrupted().await;
        say("draining; Ctrl-C again ends at once");
        shutdown.cancel();
        interrupted().await;
        std::process::exit(130);
    });
}

async fn interrupted() {
    #[cfg(unix)]
    {
        let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
