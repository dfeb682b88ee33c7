//! A processor in a process of its own: this test binary, told to run only that. It dies at a named step, by a signal
//! from outside, or leaves in good order when its standard input ends.

use std::fmt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use headroom_ingest::process::{Membership, ProcessConfig, ProcessService};
use headroom_ingest::store::{StoreConfig, StoreService};
use headroom_ingest_broker::{Broker, BrokerConfig};
use headroom_ingest_lake::{Lake, Storage, StorageConfig};
use headroom_proto::{Clock, Span};
use object_store::path::Path as Location;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use prometheus_client::registry::Registry;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::input;

/// Of the processors in a group: longer than any row is late.
const CORRECTIONS: Span = Span::from_hours(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Where in an epoch a processor dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    BeforeTheCheckpoint,
    AfterTheCheckpoint,
    BeforeSending,
    WhileSending,
    AfterSending,
    AfterRemovingTheLast,
}

const STEPS: [Step; 6] = [
    Step::BeforeTheCheckpoint,
    Step::AfterTheCheckpoint,
    Step::BeforeSending,
    Step::WhileSending,
    Step::AfterSending,
    Step::AfterRemovingTheLast,
];

/// What ends a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fatal {
    /// A signal at any moment.
    AtRandom,
    /// Itself, the so-manieth time that it comes to a step.
    At(Step, usize),
}

/// How a processor comes by its shards, and under which name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Alone,
    Named(usize),
    Stranger,
}

/// A processor process.
pub(crate) struct Processor(Child);

impl Fatal {
    /// Every step in turn and, as often, a signal.
    pub(crate) fn nth(kill: usize) -> Self {
        let step = STEPS[(kill / 2) % STEPS.len()];
        if kill.is_multiple_of(2) { Self::At(step, 1 + (kill / 12) % 4) } else { Self::AtRandom }
    }
}

impl Processor {
    pub(crate) fn start(broker: &Broker, folder: &Path, role: Role, fatal: Fatal) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "a_processor", "--nocapture"]).stdin(Stdio::piped()).stdout(Stdio::null());
        command.env("HEADROOM_PROCESSOR_SERVERS", broker.bootstrap_servers());
        command.env("HEADROOM_PROCESSOR_FOLDER", folder);
        match role {
            Role::Alone => {}
            Role::Named(name) => drop(command.env("HEADROOM_PROCESSOR_NAME", format!("processor-{name}"))),
            Role::Stranger => drop(command.env("HEADROOM_PROCESSOR_NAME", "")),
        }
        if let Fatal::At(step, times) = fatal {
            command.env("HEADROOM_PROCESSOR_DIES", format!("{step:?}/{times}"));
        }
        Self(command.spawn().expect("starts"))
    }

    /// Waits until it has died at its step, or kills it after a while.
    pub(crate) async fn ends_by(mut self, fatal: Fatal, kill: usize) {
        let wait = match fatal {
            Fatal::AtRandom => Duration::from_millis(250 + 53 * u64::try_from(kill % 13).expect("small")),
            Fatal::At(..) => PATIENCE,
        };
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                assert!(!status.success() && fatal != Fatal::AtRandom, "kill {kill}: ended by itself: {status}");
                assert!(status.code().is_none(), "kill {kill} {fatal:?}: failed: {status}");
                return;
            }
            if tokio::time::Instant::now() > deadline {
                assert_eq!(fatal, Fatal::AtRandom, "kill {kill}: never came to its step");
                return self.kill();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, unless it has ended.
    pub(crate) fn kill(mut self) {
        self.0.kill().ok();
        self.0.wait().expect("reaps");
    }

    /// Asks it to drain, and waits for that.
    pub(crate) async fn leave(mut self) {
        drop(self.0.stdin.take());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "does not drain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The store, in this process.
pub(crate) async fn store(broker: &Broker, folder: &Path) -> JoinHandle<()> {
    let service = store_service(broker, folder).await;
    tokio::spawn(async move { service.run(CancellationToken::new()).await.expect("stores") })
}

async fn store_service(broker: &Broker, folder: &Path) -> StoreService {
    let lake = Arc::new(Lake::open_in(&storage(folder)).expect("opens"));
    let config = StoreConfig { commit_interval: Span::from_micros(300_000), ..StoreConfig::default() };
    StoreService::new(config, broker.clone(), lake, &mut Registry::default()).0
}

/// The bucket that the environment names, or the folder.
pub(crate) fn storage(folder: &Path) -> Storage {
    let url = std::env::var("HEADROOM_PROCESSOR_BUCKET").unwrap_or_default();
    let config = StorageConfig { url, ..StorageConfig::default() };
    Storage::open(&config, folder).expect("opens")
}

/// The other side: a processor as the environment says; alone, it stores as well.
pub(crate) async fn run_if_told() {
    let Ok(servers) = std::env::var("HEADROOM_PROCESSOR_SERVERS") else { return };
    let folder = std::path::PathBuf::from(std::env::var_os("HEADROOM_PROCESSOR_FOLDER").expect("a folder"));
    let name = std::env::var("HEADROOM_PROCESSOR_NAME").ok();
    let properties = [("session.timeout.ms", "1500"), ("heartbeat.interval.ms", "200")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let broker = Broker::new(&servers, &BrokerConfig { fetch_wait_ms: 10, properties, ..BrokerConfig::default() });
    let config = ProcessConfig {
        idle_after: Span::from_hours(1_000_000),
        checkpoint_interval: Span::from_micros(100_000),
        corrections: if name.is_some() { CORRECTIONS } else { Span::default() },
        instance: name.clone().filter(|name| !name.is_empty()),
        ..ProcessConfig::default()
    };
    let (service, _) = ProcessService::new(
        config,
        vec![input::feature()],
        broker.clone(),
        Clock::Wall,
        Arc::new(Deadly::new(storage(&folder).checkpoints())),
        &mut Registry::default(),
    );
    let shutdown = CancellationToken::new();
    if name.is_none() {
        let store = store_service(&broker, &folder).await;
        tokio::spawn(async move { store.run(CancellationToken::new()).await.expect("stores") });
    }
    let membership = if name.is_none() { Membership::Alone } else { Membership::Group };
    let asked = shutdown.clone();
    tokio::spawn(async move {
        tokio::io::stdin().read_to_end(&mut Vec::new()).await.ok();
        asked.cancel();
    });
    service.with_membership(membership).run(shutdown).await.expect("processes");
}

/// A store in whose hands the process dies. A checkpoint is put, the epochs are listed, its output is sent, and the
/// checkpoint before it is deleted.
#[derive(Debug)]
struct Deadly {
    inner: Arc<dyn ObjectStore>,
    dies: Option<(String, usize)>,
    times: AtomicUsize,
    has_put: AtomicBool,
}

impl Deadly {
    fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let dies = std::env::var("HEADROOM_PROCESSOR_DIES").ok();
        let dies = dies
            .as_deref()
            .and_then(|dies| dies.split_once('/'))
            .map(|(step, times)| (step.to_owned(), times.parse().expect("a count")));
        Self { inner, dies, times: AtomicUsize::default(), has_put: AtomicBool::default() }
    }

    fn comes_to(&self, step: Step) -> bool {
        let Some((fatal, times)) = &self.dies else { return false };
        *fatal == format!("{step:?}") && self.times.fetch_add(1, Ordering::Relaxed) + 1 == *times
    }

    fn reach(&self, step: Step) {
        if self.comes_to(step) {
            std::process::abort();
        }
    }
}

impl fmt::Display for Deadly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Deadly {
    async fn put_opts(&self, location: &Location, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.reach(Step::BeforeTheCheckpoint);
        let result = self.inner.put_opts(location, payload, options).await;
        self.has_put.store(true, Ordering::Relaxed);
        self.reach(Step::AfterTheCheckpoint);
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Location,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Location, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Location>>) -> BoxStream<'static, Result<Location>> {
        self.reach(Step::AfterSending);
        let dies = self.comes_to(Step::AfterRemovingTheLast);
        let removed = self.inner.delete_stream(locations);
        removed
            .inspect(move |_| {
                if dies {
                    std::process::abort();
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Location>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        // Before the first checkpoint it is the recovery that lists.
        let is_recovery = !self.has_put.load(Ordering::Relaxed);
        let before = !is_recovery && self.comes_to(Step::BeforeSending);
        let during = !is_recovery && self.comes_to(Step::WhileSending);
        async move {
            let listed: Vec<Result<ObjectMeta>> = inner.list(prefix.as_ref()).collect().await;
            if before {
                std::process::abort();
            }
            if during {
                std::thread::spawn(|| {
                    // Long enough for the first records to be on their way, too short for all to be acknowledged.
                    #[expect(clippy::disallowed_methods, reason = "the process dies in the middle of sending")]
                    std::thread::sleep(Duration::from_micros(1_500));
                    std::process::abort();
                });
            }
            futures::stream::iter(listed)
        }
        .flatten_stream()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Location>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Location, to: &Location, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
