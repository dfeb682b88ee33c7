//! KEDA's external scaler: the contract, and a client from PyPI that asks what KEDA asks, as KEDA asks it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use headroom_actuator::{ApplyRequest, Fence, Target};
use headroom_proto::EventTime;
use headroom_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use headroom_proto::externalscaler::{GetMetricsRequest, ScaledObjectRef};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Status};

use super::contract::{self, Bench, Pace, Trouble, WORKLOAD};
use super::process;

const SECTION: &str = "kind = \"keda\"\nper_unit = 10\n";

/// A folder, and the scaler that serves from it.
struct Scaler {
    folder: TempDir,
    address: String,
    registry: Registry,
    server: JoinHandle<()>,
}

impl Scaler {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut registry = Registry::default();
        let config = contract::configured(SECTION, Pace::Patient);
        let scaler = config.external_scaler(folder.path(), &mut registry).expect("a target of kind keda");
        let server = tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(scaler);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("serves");
        });
        Self { folder, address, registry, server }
    }

    async fn asked(&self) -> Result<i64, Status> {
        let mut client = ExternalScalerClient::connect(format!("http://{}", self.address)).await.expect("connects");
        let object = ScaledObjectRef {
            name: "shop-pods".to_owned(),
            namespace: "prod".to_owned(),
            scaler_metadata: [("workload".to_owned(), WORKLOAD.to_owned())].into(),
        };
        let specs = client.get_metric_spec(object.clone()).await?.into_inner().metric_specs;
        let metric_name = specs.first().expect("a metric").metric_name.clone();
        let request = GetMetricsRequest { scaled_object_ref: Some(object), metric_name };
        let values = client.get_metrics(request).await?.into_inner().metric_values;
        Ok(values.first().expect("a value").metric_value)
    }

    fn served(&self) -> Option<PathBuf> {
        let files = std::fs::read_dir(self.folder.path()).expect("a folder");
        let mut paths = files.map(|file| file.expect("a file").path());
        paths.find(|path| path.extension().is_some_and(|extension| extension == "served"))
    }

    async fn ask_for(&self, units: u32, position: u64) {
        let at = EventTime::from_micros(1_790_000_000_000_000);
        let request = ApplyRequest {
            workload: WORKLOAD.to_owned(),
            units,
            idempotency_key: format!("shop/{position}"),
            fence: Fence::new(at, position),
            undoes: None,
            at,
            begin_at: None,
        };
        self.open().apply(&request).await.expect("takes it");
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[async_trait]
impl Bench for Scaler {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(SECTION, pace, self.folder.path())
    }

    /// What KEDA is told.
    async fn actual(&self) -> String {
        self.asked().await.map_or_else(|status| format!("{:?}", status.code()), |value| value.to_string())
    }

    async fn by_hand(&self, number: Option<u64>) {
        let path = self.served().expect("something has been served");
        match number {
            Some(number) => std::fs::write(path, number.to_string()).expect("writes"),
            None => std::fs::remove_file(path).expect("removes"),
        }
    }

    fn per_unit(&self) -> u64 {
        10
    }

    /// The number is ours, so there is nobody who could be away, slow or lie.
    fn troubles(&self) -> &[Trouble] {
        &[]
    }

    async fn trouble(&self, _trouble: Option<Trouble>) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keda_fetches_keeps_the_contract() {
    contract::holds(&Scaler::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_change_keda_is_told_nothing() {
    let scaler = Scaler::start().await;
    assert_eq!(scaler.asked().await.expect_err("no number").code(), Code::Unavailable);
    scaler.ask_for(0, 1).await;
    assert_eq!(scaler.asked().await.expect("a number"), 0);
    std::fs::write(scaler.served().expect("served"), "many").expect("writes");
    assert_eq!(scaler.asked().await.expect_err("no number").code(), Code::Internal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_another_maker_gets_what_keda_asks_for() {
    let scaler = Scaler::start().await;
    scaler.ask_for(0, 1).await;
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = project.parent().expect("the project").join("proto/proto/externalscaler");
    let mut command = Command::new(process::python());
    command.arg(project.join("tests/targets/keda.py")).arg(contract).arg(&scaler.address);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("python starts");
    let (mut stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    // It says how many units the workload is to get, and is told when that has been asked for.
    let (mut lines, mut position) = (BufReader::new(stdout).lines(), 1);
    while let Some(line) = lines.next_line().await.expect("text") {
        let units = line.strip_prefix("units ").and_then(|units| units.parse().ok()).expect("a number of units");
        position += 1;
        scaler.ask_for(units, position).await;
        stdin.write_all(b"done\n").await.expect("it listens");
    }
    assert!(child.wait().await.expect("it ends").success(), "what it says stands above");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &scaler.registry).expect("encodes");
    // Three looks at the activity, three at the metric, one stream.
    assert!(text.contains("headroom_actuate_keda_questions_total{workload=\"shop\"} 7\n"), "{text}");
}
