use std::collections::BTreeMap;
use std::time::Duration;

use headroom_ingest_broker::BrokerConfig;
use headroom_ingest_broker::embedded::Embedded;
use headroom_proto::v1::Forecast;
use headroom_proto::v1::forecast_service_client::ForecastServiceClient;
use headroom_proto::v1::{LatestForecastRequest, ListLiftsRequest, ListModelsRequest, WatchForecastsRequest};
use prost::Message;
use tempfile::TempDir;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::Server;

use super::*;
use crate::testing::{DAY_US, START_US, config, days, encoded, handle, learners, sale, window_records};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A broker and a state folder.
struct Ground {
    folder: TempDir,
    _embedded: Embedded,
    broker: Broker,
    config: ForecasterConfig,
}

/// A forecaster at work.
struct Forecaster {
    handle: ForecasterHandle,
    task: JoinHandle<Result<(), ForecasterError>>,
    shutdown: CancellationToken,
}

impl Ground {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let embedded = Embedded::start("127.0.0.1:0", &folder.path().join("broker")).await.expect("a broker");
        let broker =
            Broker::new(embedded.bootstrap_servers(), &BrokerConfig { fetch_wait_ms: 10, ..BrokerConfig::default() });
        broker.ensure_topics().await.expect("topics");
        Self { folder, _embedded: embedded, broker, config: config() }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn start(&self) -> Forecaster {
        let (config, broker) = (self.config.clone(), self.broker.clone());
        let made = ForecasterService::new(config, broker, Clock::replay(), self.state(), &mut Registry::default());
        let (service, handle) = made.expect("legal settings");
        let shutdown = CancellationToken::new();
        Forecaster { handle, task: tokio::spawn(service.run(shutdown.clone())), shutdown }
    }

    async fn send(&self, records: Vec<Record>) {
        self.broker.producer().expect("a producer").send_all(records).await.expect("acknowledged");
    }

    /// Every forecast on the topic, in order.
    async fn published(&self) -> Vec<Forecast> {
        let mut forecasts = Vec::new();
        for (partition, low, high) in self.broker.ends(Topic::Forecasts).await.expect("ends") {
            let count = usize::try_from(high - low).expect("a count");
            let records = self.broker.tail(Topic::Forecasts, partition, count).await.expect("reads");
            forecasts.extend(records.iter().map(|record| Forecast::decode(&*record.value).expect("a forecast")));
        }
        forecasts
    }
}

impl Forecaster {
    /// Waits until the forecast of this origin is durable; it may have been so before the start.
    async fn reaches(&self, origin_us: i64) {
        let deadline = Instant::now() + PATIENCE;
        let mut forecasts = self.handle.watch();
        while self.handle.latest("shop").is_none_or(|latest| latest.origin_us < origin_us) {
            let next = tokio::time::timeout(LOOK_AGAIN, forecasts.recv()).await;
            assert!(!matches!(next, Ok(Err(RecvError::Closed))), "{:?}", self.handle.status());
            assert!(Instant::now() < deadline, "no forecast of {origin_us} in time: {:?}", self.handle.status());
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("drains");
        assert_eq!(self.handle.status().state, StageState::Drained);
    }

    async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()), "it ended before it could crash");
    }
}

/// Each origin's bytes, as a reader sees them who drops what it has seen; a repeat must be the same.
fn deduplicated(forecasts: &[Forecast]) -> Vec<(i64, Vec<u8>)> {
    let mut seen: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
    for (origin_us, bytes) in encoded(forecasts) {
        let first = seen.entry(origin_us).or_insert_with(|| bytes.clone());
        assert_eq!(*first, bytes, "two forecasts of {origin_us} differ");
    }
    seen.into_iter().collect()
}

/// What the core alone makes of the same records.
fn expected(config: &ForecasterConfig, signals: Vec<Record>, windows: Vec<Record>) -> Vec<(i64, Vec<u8>)> {
    encoded(&handle(&mut learners(config), signals, windows, 0).forecasts)
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_lose_nothing_and_change_nothing() {
    let ground = Ground::new().await;
    let rows = days(12);
    let windows = window_records(&rows, 1);
    let announced_us = START_US + 9 * DAY_US;
    let signals = vec![sale(announced_us, announced_us + DAY_US)];
    ground.send(signals.clone()).await;
    let pieces: Vec<&[Record]> = windows.chunks(windows.len().div_ceil(4)).collect();
    let ends: Vec<i64> = rows.chunks(rows.len().div_ceil(4)).map(|rows| rows[rows.len() / 2].end_us).collect();
    for (piece, half_us) in pieces.into_iter().zip(ends) {
        ground.send(piece.to_vec()).await;
        let forecaster = ground.start();
        forecaster.reaches(half_us).await;
        forecaster.crash().await;
    }
    let forecaster = ground.start();
    forecaster.reaches(rows.last().expect("rows").end_us).await;
    forecaster.stop().await;
    assert!(deduplicated(&ground.published().await) == expected(&ground.config, signals, windows));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_publish_every_forecast_once() {
    let ground = Ground::new().await;
    let rows = days(9);
    let windows = window_records(&rows, 1);
    let (before, after) = windows.split_at(windows.len() / 2);
    ground.send(before.to_vec()).await;
    let forecaster = ground.start();
    forecaster.reaches(rows[rows.len() / 2 - 12].end_us).await;
    forecaster.stop().await;
    // The processor has crashed too, and sends its last record again.
    ground.send([&before[before.len() - 1..], after].concat()).await;
    let forecaster = ground.start();
    forecaster.reaches(rows.last().expect("rows").end_us).await;
    let status = forecaster.handle.status();
    assert!(status.set_aside >= 1, "{status:?}");
    forecaster.stop().await;
    assert!(encoded(&ground.published().await) == expected(&ground.config, Vec::new(), windows));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_foreign_state_is_rebuilt_from_the_topics() {
    let mut ground = Ground::new().await;
    let rows = days(9);
    let windows = window_records(&rows, 1);
    let third = windows.len() / 3;
    ground.send(windows[..third].to_vec()).await;
    let forecaster = ground.start();
    forecaster.reaches(rows[third * 6 - 1].end_us).await;
    forecaster.stop().await;

    let file = ground.state().join("state");
    let mut bytes = std::fs::read(&file).expect("a state was written");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).expect("writes");
    ground.send(windows[third..2 * third].to_vec()).await;
    let forecaster = ground.start();
    forecaster.reaches(rows[2 * third * 6 - 1].end_us).await;
    forecaster.stop().await;

    ground.config.forecast_from = Some(EventTime::from_micros(START_US));
    ground.send(windows[2 * third..].to_vec()).await;
    let forecaster = ground.start();
    forecaster.reaches(rows.last().expect("rows").end_us).await;
    forecaster.stop().await;
    assert!(encoded(&ground.published().await) == expected(&config(), Vec::new(), windows));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_the_newest_forecasts_and_the_models() {
    let mut ground = Ground::new().await;
    let rows = days(9);
    ground.config.watch_lag = rows.len();
    let forecaster = ground.start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let server =
        Server::builder().add_service(forecaster.handle.grpc()).serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let mut client = ForecastServiceClient::connect(address).await.expect("connects");
    let request = |workload: &str| LatestForecastRequest { workload: workload.to_owned() };
    assert_eq!(client.latest(request("shop")).await.expect_err("none yet").code(), Code::NotFound);

    let mut watched = client.watch(WatchForecastsRequest::default()).await.expect("watches").into_inner();
    ground.send(window_records(&rows, 1)).await;
    for row in &rows {
        let next = tokio::time::timeout(PATIENCE, watched.message()).await.expect("in time").expect("no error");
        assert_eq!(next.map(|forecast| forecast.origin_us), Some(row.end_us));
    }
    let latest = client.latest(request("shop")).await.expect("there").into_inner();
    assert_eq!(Some(latest.origin_us), rows.last().map(|row| row.end_us));
    let unknown = client.latest(request("bank")).await.expect_err("unknown");
    assert!(unknown.code() == Code::NotFound && unknown.message().contains("shop"), "{unknown}");
    assert_eq!(client.latest(request("")).await.expect_err("empty").code(), Code::InvalidArgument);
    let models = client.list_models(ListModelsRequest::default()).await.expect("there").into_inner().models;
    assert!(!models.is_empty() && !forecaster.handle.scores().is_empty());
    let lifts = |workload: &str, kind: &str| {
        let (workload, kind) = (workload.to_owned(), kind.to_owned());
        ListLiftsRequest { workload, signal_id: String::new(), kind }
    };
    let lift = client.list_lifts(lifts("shop", "sale")).await.expect("there").into_inner().lifts.remove(0);
    let range = lift.window.expect("a range");
    assert!(range.low < range.lift && range.lift < range.high && lift.unlike.contains("sale"), "{lift:?}");
    let unknown = client.list_lifts(lifts("bank", "")).await.expect_err("unknown");
    assert!(unknown.code() == Code::NotFound && unknown.message().contains("shop"), "{unknown}");
    forecaster.stop().await;
    assert!(watched.message().await.expect("no error").is_none(), "the stream ends with the forecaster");
    server.abort();
}
