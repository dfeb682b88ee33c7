//! One setting of a PostgreSQL server that a reload can change, such as `work_mem` or `max_parallel_workers`.
//!
//! `ALTER SYSTEM` writes it to `postgresql.auto.conf` and `pg_reload_conf` makes it hold, on a standby too. What stood there
//! is returned to exactly, also that nothing did (`ALTER SYSTEM RESET`). The record of changes is a setting of the server
//! itself, `headroom.<setting>`, and a turn is an advisory lock, so that two actuators see each other.
//!
//! What needs a restart (context `postmaster`) is refused: a restart is nothing to be done without a person. What counts
//! is what `pg_settings` and `pg_file_settings` report: a reload is acknowledged even when a mistake elsewhere in the files
//! keeps the server from reading them, and the server's command line stands over them.
//!
//! The user is a superuser, or (PostgreSQL 15 and later) has been given:
//!
//! ```sql
//! GRANT ALTER SYSTEM ON PARAMETER work_mem, headroom.work_mem TO headroom;
//! GRANT EXECUTE ON FUNCTION pg_reload_conf(), pg_show_all_file_settings() TO headroom;
//! GRANT SELECT ON pg_file_settings TO headroom;
//! GRANT pg_read_all_settings TO headroom;
//! ```

mod quantity;

use async_trait::async_trait;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, SimpleQueryRow};

use super::governed::{Failure, Governed, Knob, Patience, Reading, Setting};
use super::ledger::{Entry, Ledger};
use super::server::{ServerSettings, column, rows};
use crate::Target;

/// Settings of a setting of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The server.
    pub server: ServerSettings,
    /// Any database of it: settings are the server's.
    #[serde(default = "default_database")]
    pub database: String,
    /// The setting, a whole number.
    pub setting: String,
    /// What is written behind the number: `MB`, `ms`; nothing for plain numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// Of the setting, in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "super::default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "super::default_settle", with = "span_text")]
    pub settle: Span,
}

fn default_database() -> String {
    "postgres".to_owned()
}

/// The setting.
struct ServerSetting {
    config: PostgresConfig,
}

/// A target over the setting.
pub(super) fn open(name: &str, config: &PostgresConfig) -> impl Target + 'static {
    let knob = ServerSetting { config: config.clone() };
    Governed::new(name, knob, config.per_unit, Patience::new(config.timeout, config.settle))
}

impl PostgresConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = super::common_problems(self.per_unit, self.timeout, self.settle);
        problems.extend(self.server.problems().into_iter().map(|problem| format!("server: {problem}")));
        let is_name = |part: &str| part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if self.setting.is_empty() || !self.setting.split('.').all(|part| !part.is_empty() && is_name(part)) {
            problems.push(format!("`setting`: `{}` is no name of a setting: write it in lower case", self.setting));
        }
        if !self.suffix.is_empty() && quantity::scale(&self.suffix).is_none() {
            problems.push(format!("`suffix`: `{}` is no unit: B, kB, MB, GB, TB, us, ms, s, min, h or d", self.suffix));
        }
        problems
    }

    /// The setting that keeps the record of changes.
    fn journal(&self) -> String {
        format!("headroom.{}", self.setting.replace('.', "_"))
    }
}

impl ServerSetting {
    /// What `postgresql.auto.conf` says of a setting.
    async fn written(&self, client: &Client, name: &str) -> Result<Option<SimpleQueryRow>, Failure> {
        let statement = format!(
            "SELECT setting FROM pg_file_settings WHERE name = {} AND sourcefile LIKE '%/postgresql.auto.conf' \
             ORDER BY seqno DESC LIMIT 1",
            literal(name)
        );
        Ok(rows(client, &statement).await?.into_iter().next())
    }

    /// The setting as the server holds it; refused when a reload cannot change it.
    async fn held(&self, client: &Client) -> Result<SimpleQueryRow, Failure> {
        let name = &self.config.setting;
        let statement = format!(
            "SELECT setting, unit, context, vartype, source, sourcefile, pending_restart FROM pg_settings WHERE name = {}",
            literal(name)
        );
        let Some(row) = rows(client, &statement).await?.into_iter().next() else {
            return Err(Failure::refused(format!(
                "the server has no setting `{name}`, or does not show it to this user"
            )));
        };
        match (column(&row, "context"), column(&row, "vartype")) {
            ("postmaster", _) => Err(Failure::refused(format!(
                "`{name}` takes a restart of the server, which is never done without a person: set it by hand, and name \
                 a setting here that a reload changes"
            ))),
            ("internal", _) => Err(Failure::refused(format!("`{name}` cannot be changed"))),
            (_, "integer") => Ok(row),
            (_, kind) => Err(Failure::refused(format!("`{name}` is of type {kind}: only whole numbers are scaled"))),
        }
    }

    /// Why what is written down does not hold.
    async fn unsettled(
        &self,
        client: &Client,
        written: Option<&SimpleQueryRow>,
        held: &SimpleQueryRow,
    ) -> Result<Option<String>, Failure> {
        let is_ours = column(held, "sourcefile").ends_with("/postgresql.auto.conf");
        let Some(written) = written else {
            return Ok(is_ours.then(|| "the server holds the value of before yet".to_owned()));
        };
        let (value, unit) = (column(held, "setting"), column(held, "unit"));
        if is_ours && quantity::is_same(column(written, "setting"), value, unit) {
            return Ok(None);
        }
        let mistakes = "SELECT name, error, sourcefile, sourceline FROM pg_file_settings WHERE error IS NOT NULL";
        let mistake = rows(client, mistakes).await?.into_iter().next().map(|row| {
            let (name, error) = (column(&row, "name"), column(&row, "error"));
            format!("; {}:{} ({name}): {error}", column(&row, "sourcefile"), column(&row, "sourceline"))
        });
        let source = column(held, "source");
        Ok(Some(format!("the server holds {value}{unit} from {source}{}", mistake.unwrap_or_default())))
    }
}

#[async_trait]
impl Knob for ServerSetting {
    type Session = Client;

    async fn open(&self, _workload: &str) -> Result<Client, Failure> {
        let client = self.config.server.connect(&self.config.database).await?;
        rows(&client, "SET standard_conforming_strings = on").await?;
        // Behind a mistake of syntax the server reads nothing, not even the record of changes.
        let mistakes = "SELECT sourcefile, sourceline, error FROM pg_file_settings \
                        WHERE name IS NULL AND error IS NOT NULL LIMIT 1";
        if let Some(row) = rows(&client, mistakes).await?.first() {
            let (file, line, error) = (column(row, "sourcefile"), column(row, "sourceline"), column(row, "error"));
            return Err(Failure::refused(format!("it cannot read its own settings: {file}:{line}: {error}")));
        }
        Ok(client)
    }

    async fn hold(&self, client: &mut Client) -> Result<(), Failure> {
        // Ends with the connection, however that ends.
        let key = literal(&self.config.journal());
        rows(client, &format!("SELECT pg_advisory_lock(hashtextextended({key}, 0))")).await.map(drop)
    }

    async fn ledger(&self, client: &mut Client) -> Result<Ledger, Failure> {
        let row = self.written(client, &self.config.journal()).await?;
        row.map_or_else(|| Ok(Ledger::default()), |row| Ledger::parse(column(&row, "setting")))
    }

    async fn keep(&self, client: &mut Client, ledger: &Ledger) -> Result<(), Failure> {
        let journal = self.config.journal();
        // Before PostgreSQL 17 a setting of nobody's can be altered only where the session knows it.
        rows(client, &format!("SET {journal} = ''")).await?;
        rows(client, &format!("ALTER SYSTEM SET {journal} = {}", literal(&ledger.text()))).await.map(drop)
    }

    async fn read(&self, client: &mut Client) -> Result<Reading, Failure> {
        let held = self.held(client).await?;
        let written = self.written(client, &self.config.setting).await?;
        let unsettled = self.unsettled(client, written.as_ref(), &held).await?;
        let unit = column(&held, "unit");
        let of_ours = |text: &str| quantity::in_suffix(text, unit, &self.config.suffix).unwrap_or(0);
        let ready = of_ours(column(&held, "setting"));
        let setting = written.map(|row| column(&row, "setting").to_owned());
        let commanded = setting.as_deref().map_or(ready, of_ours);
        Ok(Reading { setting, commanded, ready, unsettled })
    }

    async fn write(&self, client: &mut Client, entry: &Entry) -> Result<(), Failure> {
        let name = &self.config.setting;
        let statement = match &entry.after {
            Some(value) => format!("ALTER SYSTEM SET {name} = {}", literal(value)),
            None => format!("ALTER SYSTEM RESET {name}"),
        };
        rows(client, &statement).await?;
        rows(client, "SELECT pg_reload_conf()").await.map(drop)
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        Ok(format!("{number}{}", self.config.suffix))
    }

    fn shown(&self, setting: &Setting) -> String {
        let name = &self.config.setting;
        setting.as_ref().map_or_else(|| format!("{name} not set"), |value| format!("{name}={value}"))
    }

    async fn ready_for_change(&self, client: &mut Client) -> Result<(), Failure> {
        let lacking = "SELECT current_setting('server_version_num')::int >= 150000 AS can_tell";
        let can_tell = rows(client, lacking).await?.first().is_some_and(|row| column(row, "can_tell") == "t");
        if !can_tell {
            return Ok(());
        }
        let name = literal(&self.config.setting);
        let statement = format!(
            "SELECT has_parameter_privilege({name}, 'ALTER SYSTEM') AND \
             has_function_privilege('pg_reload_conf()', 'EXECUTE') AS may"
        );
        if rows(client, &statement).await?.first().is_some_and(|row| column(row, "may") == "t") {
            return Ok(());
        }
        Err(Failure::refused(format!("this user may not alter `{}` or reload: see the grants", self.config.setting)))
    }
}

/// A text in SQL, with `standard_conforming_strings`.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
