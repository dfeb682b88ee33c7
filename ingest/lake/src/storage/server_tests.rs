//! The lake and the checkpoints over a real S3-compatible server, which `tests/run` names.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use object_store::ObjectStoreExt;

use super::*;
use crate::testing::{MINUTES_PER_DAY, all_windows, answer, at, windows};
use crate::{Appended, Lake, OptimizeSettings, Table};

/// A server, stopped when it is dropped.
struct Server {
    child: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts what `HEADROOM_TEST_S3` names; none without it.
    fn start() -> Option<Self> {
        let Ok(program) = std::env::var("HEADROOM_TEST_S3") else {
            eprintln!("HEADROOM_TEST_S3 is not set: run tests/run to test S3-compatible storage");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let port = || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port().to_string();
        let mut child = Command::new(program)
            .arg(folder.path())
            .args([port(), port()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let endpoint = line.trim().strip_prefix("ready ").expect("the server is ready").to_owned();
        Some(Self { child, endpoint, _folder: folder })
    }

    async fn storage(&self, prefix: &str) -> Storage {
        let config = StorageConfig {
            url: format!("s3://headroom/{prefix}"),
            endpoint: self.endpoint.clone(),
            region: "us-east-1".to_owned(),
            allow_http: true,
        };
        let keys = AmazonS3Builder::new().with_access_key_id("test-key").with_secret_access_key("test-secret");
        let storage = Storage::in_bucket(&config, keys).expect("opens");
        // To put an object without a name makes the bucket. The client misses an ETag in the answer, and that is all.
        storage.root.put(&Path::default(), PutPayload::default()).await.ok();
        storage
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("the server ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_a_real_server() {
    let Some(server) = Server::start() else { return };
    let storage = server.storage("contract").await;
    storage.probe().await.expect("creates an object once");
    storage.find_lake().await.expect_err("nothing yet");
    appends_are_exactly_once(&storage).await;
    upkeep_keeps_rows_and_positions(&storage).await;
    storage.find_lake().await.expect("a lake");
    of_many_creations_one_succeeds(&storage).await;
}

/// Four writers of the same positions at once: each commit is made once.
async fn appends_are_exactly_once(storage: &Storage) {
    let lakes: Vec<Lake> = (0..4).map(|_| Lake::open_in(storage).expect("opens")).collect();
    for n in 0..10 {
        let appends = lakes.iter().map(|lake| {
            let batch = windows(n * MINUTES_PER_DAY / 5, 10, "load");
            lake.append(Table::Windows, vec![batch], at([("p/0", n + 1)]))
        });
        let outcomes = futures::future::join_all(appends).await;
        let committed = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Appended::Committed { .. }))).count();
        assert_eq!(committed, 1, "{outcomes:?}");
    }
    let fresh = Lake::open_in(storage).expect("opens");
    assert_eq!(answer(&fresh, "SELECT count(*), count(DISTINCT window_start) FROM windows").await, [100, 100]);
    assert_eq!(fresh.positions(Table::Windows, ["p/0"]).await.expect("reads").get("p/0"), Some(&10));
}

/// Two at once join files while a third appends.
async fn upkeep_keeps_rows_and_positions(storage: &Storage) {
    let [writer, one, other] = std::array::from_fn(|_| Lake::open_in(storage).expect("opens"));
    let before = all_windows(&writer).await;
    let version = writer.version(Table::Windows).await.expect("reads").expect("written");
    let settings = OptimizeSettings::default();
    let appending = async {
        for n in 0..5 {
            let batch = windows(20_000 + n * 10, 10, "load");
            writer.append(Table::Windows, vec![batch], at([("p/0", 11 + n)])).await.expect("commits");
        }
    };
    let (first, second, ()) =
        tokio::join!(one.optimize(Table::Windows, &settings), other.optimize(Table::Windows, &settings), appending);
    assert!(first.expect("optimizes").files_joined + second.expect("optimizes").files_joined >= 10);
    let fresh = Lake::open_in(storage).expect("opens");
    assert_eq!(answer(&fresh, "SELECT count(*), count(DISTINCT window_start) FROM windows").await, [150, 150]);
    assert_eq!(fresh.positions(Table::Windows, ["p/0"]).await.expect("reads").get("p/0"), Some(&15));
    assert_eq!(answer(&fresh, &format!("SELECT count(*) FROM windows VERSION AS OF {version}")).await, [100]);
    assert!(
        fresh
            .vacuum(Table::Windows, headroom_proto::time::Span::from_hours(1))
            .await
            .expect("vacuums")
            .files
            .is_empty()
    );
    assert_ne!(all_windows(&fresh).await, before);
}

/// What fences two processors of a shard: an epoch is created by one of them.
async fn of_many_creations_one_succeeds(storage: &Storage) {
    for epoch in 0..20 {
        let path = Path::from(format!("shard/{epoch}"));
        let creations = (0..4).map(|_| {
            let (checkpoints, path) = (storage.checkpoints(), path.clone());
            async move {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                checkpoints.put_opts(&path, PutPayload::from_static(b"state"), options).await
            }
        });
        let created = futures::future::join_all(creations).await;
        assert_eq!(created.iter().filter(|outcome| outcome.is_ok()).count(), 1, "epoch {epoch}: {created:?}");
    }
}
