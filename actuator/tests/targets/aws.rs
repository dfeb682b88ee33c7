//! Numbers at AWS, as moto has it: a double of another maker, since AWS itself cannot be had for a test.

use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use headroom_actuator::{Fault, Target};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use super::contract::{self, Bench, Pace, Trouble, WORKLOAD, request};
use super::process;
use super::tap::{Tap, Way};

const SECRET: &str = "a-key-that-nobody-may-see";

/// moto, and who works there by hand.
struct Moto {
    child: Child,
    hand: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    tap: Tap,
    folder: TempDir,
}

impl Moto {
    async fn start() -> Self {
        let mut command = Command::new(process::python());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/targets/aws.py")).kill_on_drop(true);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.expect("python starts");
        let stdin = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next_line().await.expect("text").expect("it starts; is moto installed?");
        let tap = Tap::to(port.parse().expect("a port")).await;
        let folder = tempfile::tempdir().expect("a temp folder");
        let credentials = format!("[scaler]\naws_access_key_id = AKIAHEADROOM\naws_secret_access_key = {SECRET}\n");
        std::fs::write(folder.path().join("credentials"), credentials).expect("writes");
        Self { child, hand: Mutex::new((stdin, lines)), tap, folder }
    }

    async fn asked(&self, line: &str) -> String {
        let mut hand = self.hand.lock().await;
        hand.0.write_all(format!("{line}\n").as_bytes()).await.expect("it listens");
        hand.1.next_line().await.expect("text").expect("it answers")
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").arg(format!("-{signal}")).arg(id).status();
        assert!(sent.expect("kill runs").success(), "{signal} reaches it");
    }

    fn section(&self, of_kind: &str) -> String {
        format!(
            "kind = {of_kind}\naws = {{ region = \"eu-central-1\", profile = \"scaler\", \
             credentials_file = \"{}/credentials\", endpoint = \"http://127.0.0.1:{}\" }}\n",
            self.folder.path().display(),
            self.tap.port
        )
    }

    fn readers(&self) -> String {
        self.section("\"aws-readers\"\ncluster = \"shop\"\ninstance_class = \"db.r8g.large\"")
    }

    fn serverless(&self) -> String {
        self.section("\"aws-serverless\"\ncluster = \"shop\"\nper_unit = 4")
    }

    fn scaling(&self) -> String {
        self.section(
            "\"aws-scaling\"\nservice = \"rds\"\nresource = \"cluster:shop\"\n\
             dimension = \"rds:cluster:ReadReplicaCount\"\nper_unit = 10",
        )
    }

    fn target(&self, section: &str) -> Arc<dyn Target> {
        contract::opened(section, Pace::Patient, self.folder.path())
    }
}

/// One kind of number there.
struct Quantity {
    moto: Moto,
    kind: &'static str,
    section: String,
    per_unit: u64,
    /// The call that changes it.
    word: &'static str,
}

#[async_trait]
impl Bench for Quantity {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(&self.section, pace, self.moto.folder.path())
    }

    async fn actual(&self) -> String {
        self.moto.asked(&format!("actual-{}", self.kind)).await
    }

    async fn by_hand(&self, number: Option<u64>) {
        let number = number.expect("it always has a value");
        self.moto.asked(&format!("by-hand-{} {number}", self.kind)).await;
    }

    fn per_unit(&self) -> u64 {
        self.per_unit
    }

    fn can_be_unset(&self) -> bool {
        false
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Away, Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Lies]
    }

    async fn trouble(&self, trouble: Option<Trouble>) {
        self.moto.tap.set(match trouble {
            Some(Trouble::Away) => Way::Shut,
            Some(Trouble::CutBefore) => Way::CutBefore(self.word),
            Some(Trouble::CutAfter) => Way::CutAfter(self.word),
            Some(Trouble::Slow | Trouble::Lies) | None => Way::Open,
        });
        match trouble {
            Some(Trouble::Slow) => self.moto.signal("STOP"),
            Some(Trouble::Lies) => drop(self.moto.asked("lie").await),
            None => {
                self.moto.signal("CONT");
                self.moto.asked("honest").await;
            }
            Some(Trouble::Away | Trouble::CutBefore | Trouble::CutAfter) => {}
        }
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }

    fn printed(&self) -> String {
        contract::printed(&self.section)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readers_of_an_aurora_cluster_keep_the_contract() {
    let moto = Moto::start().await;
    let section = moto.readers();
    let bench = Quantity { moto, kind: "readers", section, per_unit: 1, word: "Action=CreateDBInstance" };
    contract::holds(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minimum_of_aurora_serverless_keeps_the_contract() {
    let moto = Moto::start().await;
    let section = moto.serverless();
    let bench = Quantity { moto, kind: "serverless", section, per_unit: 4, word: "Action=ModifyDBCluster" };
    contract::holds(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minimum_of_a_scalable_target_keeps_the_contract() {
    let moto = Moto::start().await;
    let section = moto.scaling();
    let bench = Quantity { moto, kind: "scaling", section, per_unit: 10, word: "RegisterScalableTarget" };
    contract::holds(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_others_stay_and_ours_bear_our_name() {
    let moto = Moto::start().await;
    moto.asked("readers-of-others 2").await;
    let target = moto.target(&moto.readers());
    target.apply(&request(4, 1)).await.expect("takes it");
    let names = "['by-hand-1', 'by-hand-2', 'shop-it-1', 'shop-it-2']";
    assert_eq!(moto.asked("names").await, names);
    assert_eq!(moto.asked("tags").await, "['headroom:change=later/1', 'headroom:target=it']");
    let error = target.apply(&request(1, 2)).await.expect_err("two are of others");
    assert!(
        error.fault == Fault::Refused && error.to_string().contains("2 of its 4 readers were made by others"),
        "{error}"
    );
    assert_eq!(moto.asked("names").await, names, "nothing was deleted");
    let error = target.apply(&request(16, 3)).await.expect_err("more than Aurora has");
    assert!(error.to_string().contains("at most 15"), "{error}");
    target.apply(&request(2, 4)).await.expect("ours go");
    assert_eq!(moto.asked("names").await, "['by-hand-1', 'by-hand-2']");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_would_not_do_is_said_before() {
    let moto = Moto::start().await;
    let target = moto.target(&moto.serverless());
    let error = target.apply(&request(40, 1)).await.expect_err("the maximum is 64 ACU");
    assert!(error.to_string().contains("MinCapacity=80 is above the cluster's maximum of 64 ACU"), "{error}");
    let target = moto.target(&moto.scaling());
    let error = target.apply(&request(16, 2)).await.expect_err("the maximum is 150");
    assert!(error.to_string().contains("MinCapacity=160 is above the maximum of 150"), "{error}");
    for (section, said) in [
        (moto.serverless().replace("\"shop\"", "\"old\""), "not of Serverless v2"),
        (moto.serverless().replace("\"shop\"", "\"shoes\""), "DBClusterNotFoundFault"),
        (moto.scaling().replace("cluster:shop", "cluster:shoes"), "no scalable target"),
        (moto.readers().replace("profile = \"scaler\"", "profile = \"other\""), "other"),
    ] {
        let error = moto.target(&section).probe(WORKLOAD).await.expect_err(said);
        assert!(error.to_string().contains(said) && !error.to_string().contains(SECRET), "{said}: {error}");
    }
}
