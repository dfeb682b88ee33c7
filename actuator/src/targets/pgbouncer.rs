//! The pool of one database of a PgBouncer, in server connections of each pair of user and database.
//!
//! PgBouncer has no command that sets the `pool_size` of a database. Two ways change it while clients stay connected:
//!
//! - With `ini`, the file that holds the database's line in `[databases]` (`pgbouncer.ini` or one that it includes) is
//!   edited and the console's `RELOAD` reads it: it lasts over a restart, and reaches this database alone. The record of
//!   changes is a comment above the line, so that whoever edits the file next sees it. A `RELOAD` also takes back what
//!   somebody has `SET` at the console.
//! - Without it, the console's `SET default_pool_size` is used: it reaches every database without a `pool_size` of its
//!   own, and is gone after a `RELOAD` or a restart. The record of changes is a file of ours.
//!
//! The console's word is not taken: `RELOAD` is acknowledged even when the file cannot be read. What counts is what
//! `SHOW DATABASES` reports.

mod ini;

use std::fs::File;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::governed::{Failure, Governed, Knob, Patience, Reading, Setting};
use super::ledger::{self, Entry, Ledger};
use super::server::{ServerSettings, column, rows};
use crate::Target;

/// The console is a database of that name.
const CONSOLE: &str = "pgbouncer";
/// PgBouncer keeps sizes in a C `int`.
const MAX_POOL: u64 = 2_147_483_647;

/// Settings of the pool of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PgBouncerConfig {
    /// The admin console; its user is one of `admin_users`.
    pub console: ServerSettings,
    /// The database, as PgBouncer's clients name it.
    pub database: String,
    /// The file with the database's line, which this program may replace; without one, `default_pool_size` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ini: Option<PathBuf>,
    /// Connections in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "super::default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "super::default_settle", with = "span_text")]
    pub settle: Span,
}

/// The pool.
struct Pool {
    config: PgBouncerConfig,
    /// The record of changes, where the ini file does not hold it.
    journal: PathBuf,
}

/// A connection to the console, and a lock that other programs of ours respect.
struct Session {
    client: Client,
    lock: Option<File>,
}

/// A target over the pool; `folder` is for what PgBouncer cannot keep.
pub(super) fn open(name: &str, config: &PgBouncerConfig, folder: &Path) -> impl Target + 'static {
    let journal = folder.join(format!("{name}.json"));
    let knob = Pool { config: config.clone(), journal };
    Governed::new(name, knob, config.per_unit, Patience::new(config.timeout, config.settle))
}

impl PgBouncerConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = super::common_problems(self.per_unit, self.timeout, self.settle);
        problems.extend(self.console.problems().into_iter().map(|problem| format!("console: {problem}")));
        if self.database.is_empty() || self.database.contains(['\n', '\r']) {
            problems.push("`database` is empty or has a line break".to_owned());
        }
        problems
    }
}

impl Pool {
    /// The file whose place is not a link to it.
    fn ini(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(path) = &self.config.ini else { return Ok(None) };
        let found = path.canonicalize().map_err(|error| Failure::refused(format!("{}: {error}", path.display())))?;
        Ok(Some(found))
    }

    /// Does something with the database's line.
    fn in_ini<T>(&self, path: &Path, work: impl FnOnce(&str, &ini::Place) -> Result<T, Failure>) -> Result<T, Failure> {
        let named =
            |failure: Failure| Failure { problem: format!("{}: {}", path.display(), failure.problem), ..failure };
        let text = std::fs::read_to_string(path).map_err(|error| named(Failure::refused(error.to_string())))?;
        ini::find(&text, &self.config.database).and_then(|place| work(&text, &place)).map_err(named)
    }

    async fn shown(&self, session: &Session) -> Result<Shown, Failure> {
        let databases = rows(&session.client, "SHOW DATABASES").await?;
        let Some(row) = databases.iter().find(|row| column(row, "name") == self.config.database) else {
            return Err(Failure::refused(format!("PgBouncer has no database `{}`", self.config.database)));
        };
        let settings = rows(&session.client, "SHOW CONFIG").await?;
        let default = settings.iter().find(|row| column(row, "key") == "default_pool_size");
        let number = |text: &str| {
            text.parse::<u64>().map_err(|_| Failure::refused(format!("PgBouncer reports a size of `{text}`")))
        };
        Ok(Shown {
            pool_size: number(column(row, "pool_size"))?,
            max_connections: number(column(row, "max_connections"))?,
            default: default.map(|row| column(row, "value")).unwrap_or_default().to_owned(),
        })
    }
}

/// What the console shows.
struct Shown {
    pool_size: u64,
    /// 0 is none.
    max_connections: u64,
    default: String,
}

#[async_trait]
impl Knob for Pool {
    type Session = Session;

    async fn open(&self, _workload: &str) -> Result<Session, Failure> {
        Ok(Session { client: self.config.console.connect(CONSOLE).await?, lock: None })
    }

    async fn hold(&self, session: &mut Session) -> Result<(), Failure> {
        let file = self.ini()?.unwrap_or_else(|| self.journal.clone());
        session.lock = Some(ledger::lock(&file).await?);
        Ok(())
    }

    async fn ledger(&self, _session: &mut Session) -> Result<Ledger, Failure> {
        match self.ini()? {
            Some(path) => self.in_ini(&path, |text, place| place.ledger(text, &self.config.database)),
            None => ledger::load(&self.journal),
        }
    }

    async fn keep(&self, _session: &mut Session, ledger: &Ledger) -> Result<(), Failure> {
        let Some(path) = self.ini()? else { return ledger::replace(&self.journal, &ledger.text()) };
        let text = self.in_ini(&path, |text, place| Ok(place.with_ledger(text, &self.config.database, ledger)))?;
        ledger::replace(&path, &text)
    }

    async fn read(&self, session: &mut Session) -> Result<Reading, Failure> {
        let shown = self.shown(session).await?;
        let setting = match self.ini()? {
            Some(path) => self.in_ini(&path, |text, place| place.pool_size(text))?,
            None => Some(shown.default.clone()),
        };
        let expected = setting.as_deref().unwrap_or(&shown.default).trim_matches('\'');
        let commanded = expected.parse().unwrap_or(shown.pool_size);
        let unsettled = (expected != shown.pool_size.to_string()).then(|| {
            let (database, reported) = (&self.config.database, shown.pool_size);
            let hint = match &self.config.ini {
                Some(path) => format!("does PgBouncer read {}, and is all of it right?", path.display()),
                None => "has the database a pool_size of its own? Name its `ini`".to_owned(),
            };
            format!("SHOW DATABASES reports pool_size {reported} for `{database}`; {hint}")
        });
        Ok(Reading { setting, commanded, ready: shown.pool_size, unsettled })
    }

    async fn write(&self, session: &mut Session, entry: &Entry) -> Result<(), Failure> {
        let shown = self.shown(session).await?;
        let wanted: u64 = entry.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(0);
        if shown.max_connections > 0 && wanted > shown.max_connections && wanted > shown.pool_size {
            let limit = shown.max_connections;
            let problem =
                format!("a pool of {wanted} is of no use under max_db_connections = {limit}: raise that first");
            return Err(Failure::refused(problem));
        }
        let command = match self.ini()? {
            Some(path) => {
                let text = self.in_ini(&path, |text, place| place.with_pool_size(text, &entry.after))?;
                ledger::replace(&path, &text)?;
                "RELOAD".to_owned()
            }
            None => format!("SET default_pool_size = '{wanted}'"),
        };
        rows(&session.client, &command).await.map(drop)
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        // A pool of 0 would be one without a limit.
        if (1..=MAX_POOL).contains(&number) {
            return Ok(number.to_string());
        }
        Err(Failure::refused(format!("a pool of {number} is none: a size is 1 to {MAX_POOL}")))
    }

    fn shown(&self, setting: &Setting) -> String {
        let name = if self.config.ini.is_some() { "pool_size" } else { "default_pool_size" };
        setting.as_ref().map_or_else(|| format!("no {name}"), |number| format!("{name}={number}"))
    }

    async fn ready_for_change(&self, session: &mut Session) -> Result<(), Failure> {
        self.hold(session).await
    }
}
