//! The console: one page for the people who watch, live by server-sent events.
//!
//! The service reads what the other stages have written and keeps a bounded view in memory ([`view`]); nothing depends
//! on it, and after a restart it is rebuilt from the topics.

mod http;
pub(crate) mod insight;
mod page;
pub(crate) mod people;
mod records;
mod stream;
mod view;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use headroom_ingest_broker::{Broker, BrokerError, Consumer, Received, Start};
use headroom_proto::status::StageStatus;
use headroom_proto::topics::Topic;
use headroom_proto::{EventTime, Span};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use view::{Limits, View};

const GROUP: &str = "headroom-console";
const BATCH_RECORDS: usize = 500;
const POLL_WAIT: Duration = Duration::from_millis(250);
/// Topics whose records carry event time and are read from the recent past on.
const TIMED: [Topic; 5] = [Topic::Windows, Topic::Forecasts, Topic::Plans, Topic::Actions, Topic::Outcomes];

/// What the page shows and how much it remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConsoleConfig {
    /// How far back the view reaches after a start, and how much the page shows at first.
    #[serde(with = "headroom_proto::time::span_text")]
    pub(crate) history: Span,
    /// How long before its time a past forecast was made, of those that the page shows beside the load.
    #[serde(with = "headroom_proto::time::span_text")]
    pub(crate) forecast_lead: Span,
    /// Windows kept for each workload.
    pub(crate) points_limit: usize,
    /// Actions kept for each workload.
    pub(crate) actions_limit: usize,
    /// Event signals kept.
    pub(crate) signals_limit: usize,
    /// Workloads kept.
    pub(crate) workloads_limit: usize,
    /// Pages that may follow at the same time.
    pub(crate) streams_limit: usize,
    /// `HOST:PORT` of the actuator's gRPC services, when it runs in another process: what people approve goes there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actuator: Option<String>,
    /// `HOST:PORT` of the forecaster's gRPC services, when it runs in another process: what events do is asked there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) forecaster: Option<String>,
    /// The shortest time between two updates of a page, in milliseconds.
    pub(crate) update_interval_ms: u64,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            history: Span::from_hours(7 * 24),
            forecast_lead: Span::from_hours(1),
            points_limit: 20_000,
            actions_limit: 2_000,
            signals_limit: 5_000,
            workloads_limit: 50,
            streams_limit: 64,
            actuator: None,
            forecaster: None,
            update_interval_ms: 1_000,
        }
    }
}

/// What the numbers mean; it comes from the configuration of the stages that made them.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// The feature column that is forecast, such as `requests_per_s`.
    pub(crate) target: String,
    /// Length of the windows that are shown.
    pub(crate) window: Span,
    /// Load that one unit serves when it is fully used, in the target's unit.
    pub(crate) unit_capacity: f64,
    /// Share of the ready capacity above which load is in violation, 0..1.
    pub(crate) violation_utilisation: f64,
}

/// Asks every stage of this process how it is.
pub(crate) type StatusSource = Arc<dyn Fn() -> Vec<StageStatus> + Send + Sync>;

/// What the console shows that does not come from a topic.
#[derive(Clone)]
pub(crate) struct ConsoleSources {
    /// The state of each stage, in story order.
    pub(crate) stages: StatusSource,
    /// The scoreboard once there is one: `rows` of `policy`, `violation_minutes`, `unit_hours`, `cost_vs_oracle`, and a
    /// `caption`.
    pub(crate) scoreboard: watch::Receiver<Option<serde_json::Value>>,
    /// What the numbers mean.
    pub(crate) scale: Scale,
}

impl std::fmt::Debug for ConsoleSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleSources").field("scale", &self.scale).finish_non_exhaustive()
    }
}

/// Why the console ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    /// The topics cannot be read.
    #[error("the console cannot read the topics: {0}")]
    Broker(#[from] BrokerError),
}

/// What the service fills and the pages read.
#[derive(Debug)]
struct Shared {
    config: ConsoleConfig,
    sources: ConsoleSources,
    view: Mutex<View>,
    /// Tells one run of the program from the next, since positions in the view count from its start.
    run: String,
    streams: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the topics into the view.
#[derive(Debug)]
pub(crate) struct ConsoleService {
    broker: Broker,
    shared: Arc<Shared>,
    terms: records::Terms,
    records: Counter,
    set_aside: Counter,
}

/// Serves the page.
#[derive(Clone, Debug)]
pub(crate) struct ConsoleHandle {
    shared: Arc<Shared>,
}

/// Everything that can happen to the console.
enum Event {
    Records(Vec<Received>),
    Shutdown,
}

impl ConsoleService {
    /// A console over a broker; it reads nothing until it runs.
    pub(crate) fn new(
        config: ConsoleConfig,
        broker: Broker,
        sources: ConsoleSources,
        registry: &mut Registry,
    ) -> (Self, ConsoleHandle) {
        let (records, set_aside) = (Counter::default(), Counter::default());
        registry.register("headroom_console_read_records", "Records read into the console's view", records.clone());
        registry.register(
            "headroom_console_set_aside_records",
            "Records that the console could not read",
            set_aside.clone(),
        );
        let limits = Limits {
            points: config.points_limit,
            actions: config.actions_limit,
            signals: config.signals_limit,
            workloads: config.workloads_limit,
        };
        let view = View::new(limits, config.forecast_lead, sources.scale.window);
        let shared = Arc::new(Shared {
            streams: Arc::new(Semaphore::new(config.streams_limit)),
            view: Mutex::new(view),
            run: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
            closed: CancellationToken::new(),
            config,
            sources,
        });
        let terms = records::Terms::default();
        (Self { broker, shared: Arc::clone(&shared), terms, records, set_aside }, ConsoleHandle { shared })
    }

    /// Keeps the view up to date until shutdown, then lets the pages go.
    ///
    /// # Errors
    /// When the topics cannot be read.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), ConsoleError> {
        let _closes_streams = self.shared.closed.clone().drop_guard();
        let consumer = self.broker.consumer(GROUP)?;
        self.assign(&consumer).await?;
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => Event::Shutdown,
                polled = consumer.poll(BATCH_RECORDS, POLL_WAIT) => Event::Records(polled?),
            };
            match event {
                Event::Records(records) => self.show(&records),
                Event::Shutdown => return Ok(()),
            }
        }
    }

    /// Signals from their first, since they are announced long before; the rest from the recent past on.
    async fn assign(&self, consumer: &Consumer) -> Result<(), ConsoleError> {
        let newest = self.newest_window().await?;
        let mut parts = Vec::new();
        for (partition, _, _) in self.broker.ends(Topic::Signals).await? {
            parts.push((Topic::Signals, partition, Start::Earliest));
        }
        for topic in TIMED {
            for (partition, _, _) in self.broker.ends(topic).await? {
                let start = newest.map_or(Start::Earliest, |newest| Start::At(newest - self.shared.config.history));
                parts.push((topic, partition, start));
            }
        }
        Ok(consumer.assign(&parts).await?)
    }

    async fn newest_window(&self) -> Result<Option<EventTime>, ConsoleError> {
        let mut newest = None;
        for (partition, low, high) in self.broker.ends(Topic::Windows).await? {
            if low < high {
                let last = self.broker.tail(Topic::Windows, partition, 1).await?;
                newest = newest.max(last.iter().filter_map(|record| record.time).max());
            }
        }
        Ok(newest)
    }

    fn show(&mut self, records: &[Received]) {
        if records.is_empty() {
            return;
        }
        let mut malformed = 0_u64;
        let mut last_problem = None;
        let mut view = self.shared.view();
        for record in records {
            if let Err(problem) = records::read(record, &self.shared.sources.scale, &mut self.terms, &mut view) {
                malformed += 1;
                last_problem = Some((record.origin(), problem));
            }
        }
        drop(view);
        self.records.inc_by(u64::try_from(records.len()).unwrap_or(u64::MAX));
        self.set_aside.inc_by(malformed);
        if let Some((origin, problem)) = last_problem {
            tracing::warn!(count = malformed, origin, %problem, "the console cannot show some records");
        }
    }
}

impl ConsoleHandle {
    /// The page, its parts and its data.
    pub(crate) fn router(&self) -> Router {
        http::router(Arc::clone(&self.shared))
    }
}
