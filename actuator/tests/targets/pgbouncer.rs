//! The pool of a database of a real PgBouncer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use headroom_actuator::Target;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::contract::{self, Bench, Pace, Trouble};
use super::postgres::Postgres;
use super::process::{self, Process};
use super::tap::{Tap, Way};

const PASSWORD: &str = "a-word-that-nobody-may-see";

/// How the pool is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Ini,
    Console,
}

struct Bouncer {
    folder: TempDir,
    means: Means,
    port: u16,
    tap: Tap,
    server: Mutex<Process>,
    section: String,
}

/// The first of `columns` that the console shows of the row whose `key` is `name`.
pub(crate) async fn shown(client: &Client, what: &str, name: &str, column: &str) -> Option<String> {
    let messages = client.simple_query(&format!("SHOW {what}")).await.expect("the console answers");
    messages.iter().find_map(|message| {
        let SimpleQueryMessage::Row(row) = message else { return None };
        (row.get(0) == Some(name)).then(|| row.get(column).map(str::to_owned)).flatten()
    })
}

impl Bouncer {
    async fn start(means: Means) -> Self {
        let line = "host=127.0.0.1  dbname=shop pool_size=20 password='it''s'";
        Self::over(means, if means == Means::Ini { line.to_owned() } else { line.replace(" pool_size=20", "") }).await
    }

    /// One whose database `shop` is at that place.
    async fn over(means: Means, shop: String) -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let path = folder.path();
        let port = process::free_port().await;
        let databases = format!("[databases]\n; the shop\nshop = {shop}\nbank = host=127.0.0.1\n");
        let main = format!(
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {0}/users.txt\nadmin_users = headroom\ndefault_pool_size = 20\nlogfile = {0}/log\n\
             %include {0}/databases.ini\n",
            path.display()
        );
        std::fs::write(path.join("databases.ini"), databases).expect("writes");
        std::fs::write(path.join("pgbouncer.ini"), main).expect("writes");
        std::fs::write(path.join("users.txt"), format!("\"headroom\" \"{PASSWORD}\"\n\"root\" \"{PASSWORD}\"\n"))
            .expect("writes");
        std::fs::write(path.join("password"), format!("{PASSWORD}\n")).expect("writes");
        for file in ["", "databases.ini", "pgbouncer.ini", "users.txt"] {
            process::hand_over(&path.join(file));
        }
        let mut command = process::command("/usr/sbin/pgbouncer");
        command.arg("-q").arg(path.join("pgbouncer.ini"));
        let server = Process::start(command, "QUIT");
        process::listens(port).await;
        let tap = Tap::to(port).await;
        let ini = format!("ini = \"{}/databases.ini\"\n", path.display());
        let section = format!(
            "kind = \"pgbouncer\"\ndatabase = \"shop\"\nper_unit = 10\n{}\
             console = {{ host = \"127.0.0.1\", port = {}, user = \"headroom\", password = {{ file = \"{}/password\" }} }}\n",
            if means == Means::Ini { ini.as_str() } else { "" },
            tap.port,
            path.display(),
        );
        Self { folder, means, port, tap, server: Mutex::new(server), section }
    }

    fn databases(&self) -> PathBuf {
        self.folder.path().join("databases.ini")
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.databases()).expect("reads");
        std::fs::write(self.databases(), change(text)).expect("writes");
    }

    fn server(&self, signal: &str) {
        self.server.lock().expect("no panic").signal(signal);
    }

    async fn console(&self) -> Client {
        self.connect("headroom", "pgbouncer").await
    }

    async fn connect(&self, user: &str, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(PASSWORD).dbname(database);
        let (client, connection) = config.connect(NoTls).await.expect("PgBouncer answers");
        tokio::spawn(connection);
        client
    }
}

#[async_trait]
impl Bench for Bouncer {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(&self.section, pace, self.folder.path())
    }

    /// What the console shows, and every byte of the file that is not the record of changes.
    async fn actual(&self) -> String {
        let shown = shown(&self.console().await, "DATABASES", "shop", "pool_size").await.expect("has a size");
        let text = std::fs::read_to_string(self.databases()).expect("reads");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(";headroom ")).collect();
        format!("{shown}\n{}", lines.join("\n"))
    }

    async fn by_hand(&self, number: Option<u64>) {
        let client = self.console().await;
        let command = if self.means == Means::Console {
            format!("SET default_pool_size = {}", number.expect("it always has a value"))
        } else {
            self.edit(|text| {
                let line = text.lines().find(|line| line.starts_with("shop = ")).expect("its line").to_owned();
                let old = line.split(' ').find(|part| part.starts_with("pool_size=")).unwrap_or_default();
                let new = match number {
                    Some(number) if old.is_empty() => format!("{line} pool_size={number}"),
                    Some(number) => line.replace(old, &format!("pool_size={number}")),
                    None => line.replace(&format!(" {old}"), ""),
                };
                text.replace(&line, &new)
            });
            "RELOAD".to_owned()
        };
        client.simple_query(&command).await.expect("the console obeys");
    }

    fn per_unit(&self) -> u64 {
        10
    }

    fn can_be_unset(&self) -> bool {
        self.means == Means::Ini
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Away, Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Lies]
    }

    async fn trouble(&self, trouble: Option<Trouble>) {
        let word = if self.means == Means::Ini { "RELOAD" } else { "SET default" };
        self.tap.set(match trouble {
            Some(Trouble::Away) => Way::Shut,
            Some(Trouble::CutBefore) => Way::CutBefore(word),
            Some(Trouble::CutAfter) => Way::CutAfter(word),
            Some(Trouble::Slow | Trouble::Lies) | None => Way::Open,
        });
        match (trouble, self.means) {
            (Some(Trouble::Slow), _) => self.server("STOP"),
            // PgBouncer acknowledges a RELOAD of a file that it cannot read.
            (Some(Trouble::Lies), Means::Ini) => {
                self.edit(|text| text.replace("[databases]\n", "[databases]\nbroken = nonsense=1\n"))
            }
            // A database with a size of its own does not follow the default.
            (Some(Trouble::Lies), Means::Console) => {
                self.edit(|text| text.replace("dbname=shop ", "dbname=shop pool_size=20 "));
                let size = shown(&self.console().await, "CONFIG", "default_pool_size", "value").await.expect("a size");
                let client = self.console().await;
                client.simple_query("RELOAD").await.expect("reloads");
                client.simple_query(&format!("SET default_pool_size = {size}")).await.expect("sets");
            }
            (None, means) => {
                self.server("CONT");
                let broken = if means == Means::Ini { "broken = nonsense=1\n" } else { "pool_size=20 " };
                self.edit(|text| text.replace(broken, ""));
                if means == Means::Console {
                    let client = self.console().await;
                    let size = shown(&client, "CONFIG", "default_pool_size", "value").await.expect("a size");
                    client.simple_query("RELOAD").await.expect("reloads");
                    client.simple_query(&format!("SET default_pool_size = {size}")).await.expect("sets");
                }
            }
            (Some(Trouble::Away | Trouble::CutBefore | Trouble::CutAfter), _) => {}
        }
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.to_owned(), "it''s".to_owned()]
    }

    fn printed(&self) -> String {
        contract::printed(&self.section)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_in_the_ini_file_keeps_the_contract() {
    contract::holds(&Bouncer::start(Means::Ini).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_pool_keeps_the_contract() {
    contract::holds(&Bouncer::start(Means::Console).await).await;
}

/// Not only the console says so: a client that waited is served.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_wait_are_served_when_the_pool_has_grown() {
    let postgres = Postgres::start().await;
    let shop = format!("host=127.0.0.1 port={} dbname=postgres pool_size=2", postgres.port);
    let mut bouncer = Bouncer::over(Means::Ini, shop).await;
    bouncer.section = bouncer.section.replace("per_unit = 10", "per_unit = 1");
    let mut sessions = Vec::new();
    for _ in 0..6 {
        let client = bouncer.connect("root", "shop").await;
        sessions.push(tokio::spawn(async move { client.simple_query("SELECT pg_sleep(300)").await.map(drop) }));
    }
    let console = bouncer.console().await;
    let at_work = async |count: &str| {
        process::until("so many are served", async || {
            shown(&console, "POOLS", "shop", "sv_active").await.as_deref() == Some(count)
        })
        .await;
    };
    at_work("2").await;
    let request = contract::request(5, 1);
    bouncer.open().apply(&request).await.expect("takes it");
    at_work("5").await;
    sessions.iter().for_each(tokio::task::JoinHandle::abort);
}

/// PgBouncer drains by itself: what is under way goes on, and a connection too many is closed when it is given back.
#[tokio::test(flavor = "multi_thread")]
async fn work_under_way_is_finished_when_the_pool_has_shrunk() {
    let postgres = Postgres::start().await;
    let shop = format!("host=127.0.0.1 port={} dbname=postgres pool_size=4", postgres.port);
    let mut bouncer = Bouncer::over(Means::Ini, shop).await;
    bouncer.section = bouncer.section.replace("per_unit = 10", "per_unit = 1");
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let client = bouncer.connect("root", "shop").await;
        sessions.push(tokio::spawn(async move { client.simple_query("SELECT pg_sleep(8)").await.map(drop) }));
    }
    let console = bouncer.console().await;
    let servers = async |column: &str| shown(&console, "POOLS", "shop", column).await.unwrap_or_default();
    process::until("all are served", async || servers("sv_active").await == "4").await;
    let request = contract::request(2, 1);
    let target = bouncer.open();
    target.apply(&request).await.expect("takes it");
    assert_eq!(target.drains_within(), None);
    assert_eq!(servers("sv_active").await, "4", "nobody is cut off");
    for session in sessions {
        session.await.expect("no panic").expect("the query ends well");
    }
    let count = async |column: &str| servers(column).await.parse::<u32>().expect("a count");
    process::until("what is too many is closed", async || {
        count("sv_active").await + count("sv_idle").await + count("sv_used").await <= 2
    })
    .await;
}
