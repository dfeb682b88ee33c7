//! A setting of a real PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use headroom_actuator::{Fault, Fence, Target};
use headroom_proto::EventTime;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::contract::{self, Bench, Pace, Trouble, WORKLOAD};
use super::process::{self, Process};
use super::tap::{Tap, Way};

const PASSWORD: &str = "a-word-that-nobody-may-see";

/// A server of our own, with a user who has no more rights than it takes.
pub(crate) struct Postgres {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    server: Mutex<Process>,
}

struct Server {
    postgres: Postgres,
    tap: Tap,
    section: String,
}

/// The program of the newest PostgreSQL that Debian has installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("is the Debian package postgresql installed?");
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()).max();
    Path::new("/usr/lib/postgresql").join(newest.expect("a version").to_string()).join("bin").join(name)
}

impl Postgres {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        process::hand_over(folder.path());
        let path = folder.path();
        let password = path.join("password");
        std::fs::write(&password, format!("{PASSWORD}\n")).expect("writes");
        process::hand_over(&password);
        let made = process::command(program("initdb").to_str().expect("a path"))
            .args(["--auth=scram-sha-256", "--username=root", "--no-sync", "--pwfile"])
            .arg(&password)
            .arg("--pgdata")
            .arg(path.join("data"))
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{made:?}");
        let port = process::free_port().await;
        let mut command = process::command(program("postgres").to_str().expect("a path"));
        command.arg("-D").arg(path.join("data")).args(["-p", &port.to_string(), "-k", ""]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_wal_senders=0"]);
        // A setting that the command line stands over.
        command.args(["-c", "hash_mem_multiplier=2", "-c", "max_parallel_workers=3"]);
        let server = Process::start(command, "QUIT");
        let postgres = Self { folder, port, server: Mutex::new(server) };
        process::until("PostgreSQL answers", async || postgres.connect("root").await.is_ok()).await;
        postgres
            .run(&format!(
                "CREATE ROLE headroom LOGIN PASSWORD '{PASSWORD}';
                 GRANT ALTER SYSTEM ON PARAMETER work_mem, headroom.work_mem TO headroom;
                 GRANT EXECUTE ON FUNCTION pg_reload_conf(), pg_show_all_file_settings() TO headroom;
                 GRANT SELECT ON pg_file_settings TO headroom;
                 GRANT pg_read_all_settings TO headroom;"
            ))
            .await;
        postgres
    }

    async fn connect(&self, user: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(PASSWORD).dbname("postgres");
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) async fn run(&self, statements: &str) {
        self.connect("root").await.expect("connects").batch_execute(statements).await.expect("runs");
    }

    /// The value that a new session has.
    pub(crate) async fn value(&self, setting: &str) -> String {
        let client = self.connect("root").await.expect("connects");
        client.query_one(&format!("SHOW {setting}"), &[]).await.expect("shows").get(0)
    }

    pub(crate) fn section(&self, port: u16, setting: &str, rest: &str) -> String {
        format!(
            "kind = \"postgres\"\nsetting = \"{setting}\"\n{rest}\n\
             server = {{ host = \"127.0.0.1\", port = {port}, user = \"headroom\", password = {{ file = \"{}\" }} }}\n",
            self.folder.path().join("password").display()
        )
    }

    /// Lets it prove that it is `localhost`; the authority that says so.
    async fn certify(&self) -> PathBuf {
        let path = self.folder.path();
        let script =
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority -keyout ca.key -out ca.pem
            openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout data/server.key -out server.csr
            printf 'subjectAltName=DNS:localhost' >names
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
                -out data/server.crt
            chmod 600 data/server.key";
        let made = process::command("sh").args(["-ec", script]).current_dir(path).output().expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
        self.run("ALTER SYSTEM SET ssl = on").await;
        self.run("SELECT pg_reload_conf()").await;
        process::until("it speaks TLS", async || self.value("ssl").await == "on").await;
        path.join("ca.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    fn server(&self, signal: &str) {
        self.server.lock().expect("no panic").signal(signal);
    }
}

#[async_trait]
impl Bench for Server {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(&self.section, pace, self.postgres.folder.path())
    }

    /// What a new session has, and what is written down beside the record of changes.
    async fn actual(&self) -> String {
        let written = std::fs::read_to_string(self.postgres.file("postgresql.auto.conf")).expect("reads");
        let lines: Vec<&str> = written.lines().filter(|line| !line.starts_with("headroom.")).collect();
        format!("{}\n{}", self.postgres.value("work_mem").await, lines.join("\n"))
    }

    async fn by_hand(&self, number: Option<u64>) {
        let statement = match number {
            Some(number) => format!("ALTER SYSTEM SET work_mem = '{number}MB'"),
            None => "ALTER SYSTEM RESET work_mem".to_owned(),
        };
        let client = self.postgres.connect("root").await.expect("connects");
        client.batch_execute(&statement).await.expect("runs");
        client.batch_execute("SELECT pg_reload_conf()").await.expect("runs");
        let wanted = number.map_or_else(|| "4MB".to_owned(), |number| format!("{number}MB"));
        while self.postgres.value("work_mem").await != wanted {
            tokio::task::yield_now().await;
        }
    }

    fn per_unit(&self) -> u64 {
        16
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Away, Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Lies]
    }

    async fn trouble(&self, trouble: Option<Trouble>) {
        self.tap.set(match trouble {
            Some(Trouble::Away) => Way::Shut,
            Some(Trouble::CutBefore) => Way::CutBefore("pg_reload_conf"),
            Some(Trouble::CutAfter) => Way::CutAfter("pg_reload_conf"),
            Some(Trouble::Slow | Trouble::Lies) | None => Way::Open,
        });
        let file = self.postgres.file("postgresql.conf");
        let text = std::fs::read_to_string(&file).expect("reads");
        match trouble {
            Some(Trouble::Slow) => self.postgres.server("STOP"),
            // A mistake of somebody's keeps the server from reading its files; the reload is acknowledged.
            Some(Trouble::Lies) => std::fs::write(&file, format!("{text}\nno_such_setting = 1\n")).expect("writes"),
            None => {
                self.postgres.server("CONT");
                std::fs::write(&file, text.replace("\nno_such_setting = 1\n", "")).expect("writes");
            }
            Some(Trouble::Away | Trouble::CutBefore | Trouble::CutAfter) => {}
        }
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    fn printed(&self) -> String {
        contract::printed(&self.section)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_of_a_server_keeps_the_contract() {
    let postgres = Postgres::start().await;
    let tap = Tap::to(postgres.port).await;
    let section = postgres.section(tap.port, "work_mem", "suffix = \"MB\"\nper_unit = 16");
    contract::holds(&Server { postgres, tap, section }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reload_cannot_do_is_refused_with_the_reason() {
    let postgres = Postgres::start().await;
    postgres.run("ALTER ROLE headroom SUPERUSER").await;
    let at = EventTime::from_micros(1_790_000_000_000_000);
    let request = headroom_actuator::ApplyRequest {
        workload: WORKLOAD.to_owned(),
        units: 5,
        idempotency_key: "shop/1".to_owned(),
        fence: Fence::new(at, 1),
        undoes: None,
        at,
        begin_at: None,
    };
    for (setting, fault, said) in [
        ("max_connections", Fault::Refused, "takes a restart of the server"),
        ("block_size", Fault::Refused, "cannot be changed"),
        ("random_page_cost", Fault::Refused, "type real"),
        ("no_such_setting", Fault::Refused, "no setting `no_such_setting`"),
        // The server's command line stands over what is written down.
        ("max_parallel_workers", Fault::NotChanged, "from command line"),
    ] {
        let section = postgres.section(postgres.port, setting, "");
        let target = contract::opened(&section, Pace::Strict, postgres.folder.path());
        let error = target.apply(&request).await.expect_err(setting);
        assert_eq!(error.fault, fault, "{error}");
        assert!(error.to_string().contains(said), "{setting}: {error}");
    }
    // Behind a mistake of syntax the record of changes could not be seen.
    let main = postgres.file("postgresql.conf");
    let text = std::fs::read_to_string(&main).expect("reads");
    std::fs::write(&main, format!("{text}\n= 'half a line\n")).expect("writes");
    let section = postgres.section(postgres.port, "max_wal_size", "suffix = \"MB\"");
    let error =
        contract::opened(&section, Pace::Strict, postgres.folder.path()).apply(&request).await.expect_err("unreadable");
    assert!(error.fault == Fault::Refused && error.to_string().contains("cannot read its own settings"), "{error}");
    let text = std::fs::read_to_string(postgres.file("postgresql.auto.conf")).expect("reads");
    assert!(!text.contains("max_connections"), "nothing was begun: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_change_it_is_told_before() {
    let postgres = Postgres::start().await;
    let section = postgres.section(postgres.port, "maintenance_work_mem", "suffix = \"MB\"");
    let target = contract::opened(&section, Pace::Strict, postgres.folder.path());
    let error = target.probe(WORKLOAD).await.expect_err("no grant");
    assert!(error.to_string().contains("may not alter `maintenance_work_mem`"), "{error}");

    // Another password, a database that is not there, a server that is gone.
    std::fs::write(postgres.folder.path().join("password"), "another\n").expect("writes");
    let error = target.probe(WORKLOAD).await.expect_err("another password");
    assert_eq!(error.fault, Fault::Refused);
    assert!(error.to_string().contains("password authentication failed"), "{error}");
    postgres.server.lock().expect("no panic").stop();
    let error = target.probe(WORKLOAD).await.expect_err("gone");
    assert_eq!(error.fault, Fault::Away);
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_server_must_prove_its_name() {
    let postgres = Postgres::start().await;
    let section = |host: &str, rest: &str| {
        let section = postgres.section(postgres.port, "work_mem", "suffix = \"MB\"");
        section.replace("host = \"127.0.0.1\"", &format!("host = \"{host}\", tls = \"verify\"{rest}"))
    };
    let probe = async |host: &str, rest: &str| {
        contract::opened(&section(host, rest), Pace::Strict, postgres.folder.path())
            .probe(WORKLOAD)
            .await
            .map_err(|error| error.to_string())
    };
    let error = probe("localhost", "").await.expect_err("it speaks no TLS yet");
    assert!(error.contains("does not support TLS"), "{error}");
    let authority = format!(", ca_file = \"{}\"", postgres.certify().await.display());
    assert_eq!(probe("localhost", &authority).await, Ok(()));
    let error = probe("localhost", "").await.expect_err("an authority that nobody knows");
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = probe("127.0.0.1", &authority).await.expect_err("another name");
    assert!(error.contains("not valid for name"), "{error}");
}
