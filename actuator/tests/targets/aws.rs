//! Numbers at AWS, as moto has it: a double of another maker, since AWS itself cannot be had for a test.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headroom_actuator::{ApplyRequest, Drain, Fault, Target};
use headroom_proto::{Clock, EventTime, Span};
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

    fn scheduled(&self) -> String {
        self.scaling().replace("aws-scaling", "aws-scheduled")
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
    /// When its changes are to begin.
    begin_at: Option<EventTime>,
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

    async fn serves(&self) {
        if self.begin_at.is_some() {
            self.actual().await;
        }
    }

    fn begin_at(&self) -> Option<EventTime> {
        self.begin_at
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
    let bench =
        Quantity { moto, kind: "readers", section, per_unit: 1, word: "Action=CreateDBInstance", begin_at: None };
    contract::holds(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minimum_of_aurora_serverless_keeps_the_contract() {
    let moto = Moto::start().await;
    let section = moto.serverless();
    let bench =
        Quantity { moto, kind: "serverless", section, per_unit: 4, word: "Action=ModifyDBCluster", begin_at: None };
    contract::holds(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_minimum_of_a_scalable_target_keeps_the_contract() {
    let moto = Moto::start().await;
    let section = moto.scaling();
    let bench =
        Quantity { moto, kind: "scaling", section, per_unit: 10, word: "RegisterScalableTarget", begin_at: None };
    contract::holds(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimum_that_is_raised_by_scheduled_actions_keeps_the_contract() {
    let moto = Moto::start().await;
    let section = moto.scheduled();
    let begin_at = Some(in_hours(2));
    let bench = Quantity { moto, kind: "scheduled", section, per_unit: 10, word: "PutScheduledAction", begin_at };
    contract::holds(&bench).await;
}

/// By the wall clock, which AWS goes by; whole seconds.
fn in_hours(hours: i64) -> EventTime {
    Clock::Wall.now().floor(Span::from_secs(1)) + Span::from_hours(hours)
}

fn at(time: EventTime) -> String {
    format!("at({})", time.to_string().trim_end_matches('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_raises_the_minimum_at_the_time_also_when_nobody_is_there() {
    let moto = Moto::start().await;
    let target = moto.target(&moto.scheduled());
    assert!(target.schedules() && !moto.target(&moto.scaling()).schedules());
    let (noon, later) = (in_hours(2), in_hours(3));
    let coming =
        |units: u32, position: u64, begin_at| ApplyRequest { begin_at: Some(begin_at), ..request(units, position) };
    let scheduled = |minimum: u32, then: u32, time| format!("({minimum}, [('headroom-it', '{}', {then})])", at(time));

    target.apply(&request(2, 1)).await.expect("at once");
    assert_eq!(moto.asked("scheduled").await, "(20, [])");
    let four = coming(4, 2, noon);
    let applied = target.apply(&four).await.expect("is put there");
    assert_eq!((applied.before.as_str(), applied.after.as_str()), ("MinCapacity=20", "MinCapacity=40"));
    assert_eq!(moto.asked("scheduled").await, scheduled(20, 40, noon));
    let state = target.observe(WORKLOAD, noon).await.expect("answers");
    assert_eq!((state.ready, state.commanded, state.value.as_str()), (2, 4, "MinCapacity=40"));

    // A larger one takes its place, no later; its undoing brings it back as it was.
    let six = coming(6, 3, later);
    target.apply(&six).await.expect("is put there");
    assert_eq!(moto.asked("scheduled").await, scheduled(20, 60, noon));
    let undo = |undone: &ApplyRequest, position| ApplyRequest {
        undoes: Some(undone.idempotency_key.clone()),
        ..request(1, position)
    };
    target.apply(&undo(&six, 4)).await.expect("undone");
    assert_eq!(moto.asked("scheduled").await, scheduled(20, 40, noon));

    // Nobody is there while its time comes; what AWS has made of it is no foreign change, and is undone like any.
    assert_eq!(moto.asked("actual-scheduled").await, "(40, 150)");
    let target = moto.target(&moto.scheduled());
    let raised = target.observe(WORKLOAD, noon).await.expect("answers");
    assert_eq!((raised.ready, raised.commanded, raised.value), (4, 4, state.value));
    target.apply(&four).await.expect("it has happened");
    target.apply(&undo(&four, 5)).await.expect("undone");
    assert_eq!(moto.asked("scheduled").await, "(20, [])");

    // What the load of now needs does not wait for it, and a release takes it away.
    target.apply(&coming(9, 6, noon)).await.expect("is put there");
    target.apply(&request(5, 7)).await.expect("at once");
    assert_eq!(moto.asked("scheduled").await, "(50, [])");
    target.apply(&coming(9, 8, noon)).await.expect("is put there");
    target.apply(&coming(3, 9, noon)).await.expect("a release");
    assert_eq!(moto.asked("scheduled").await, "(30, [])");
    let error = target.apply(&coming(16, 10, noon)).await.expect_err("the maximum is 150");
    assert!(error.to_string().contains("MinCapacity=160 is above the maximum of 150"), "{error}");
    assert_eq!(moto.asked("scheduled").await, "(30, [])");
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

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_readers_that_go_are_asked_for_first() {
    let moto = Moto::start().await;
    let section = moto.readers().replace("cluster = ", "drain = \"2m\"\ncluster = ");
    let target = moto.target(&section);
    assert_eq!(target.drains_within(), Some(Duration::from_secs(120)));
    assert_eq!(moto.target(&moto.readers()).drains_within(), None);
    target.apply(&request(3, 1)).await.expect("takes it");
    let release = request(1, 2);
    let unknown = target.drain(&release).await.expect("answers");
    let said = |name: &str| format!("{name}: no figure of its connections of late");
    assert_eq!(unknown, Drain::Left(format!("{}, {}", said("shop-it-3"), said("shop-it-2"))));
    moto.asked("connections 7").await;
    let left = "shop-it-3 has 7 connections, shop-it-2 has 7 connections";
    assert_eq!(target.drain(&release).await.expect("answers"), Drain::Left(left.to_owned()));
    assert_eq!(moto.asked("names").await, "['shop-it-1', 'shop-it-2', 'shop-it-3']", "nothing is deleted by it");
    moto.asked("forget-connections").await;
    moto.asked("connections 0").await;
    assert_eq!(target.drain(&release).await.expect("answers"), Drain::Done);
    target.apply(&release).await.expect("takes it");
    assert_eq!(moto.asked("names").await, "['shop-it-1']");
    moto.tap.set(Way::Shut);
    let error = target.drain(&request(0, 3)).await.expect_err("away");
    assert_eq!(error.fault, Fault::Away, "{error}");
}
