//! A connection to PostgreSQL, or to the console of PgBouncer, which speaks the same protocol.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::governed::Failure;
use super::secret::SecretSettings;
use crate::Fault;

/// Where a server is and who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// A name, an address, or the folder of a Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The user's password.
    #[serde(default, skip_serializing_if = "is_default")]
    pub password: SecretSettings,
    /// `off`, or `verify`: the server's certificate must be of a known authority and of its name. Without a word: off on
    /// this machine, verify elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Authorities in PEM, in place of those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Not at all.
    Off,
    /// Encrypted, to a server that proves its name.
    Verify,
}

fn is_default(settings: &SecretSettings) -> bool {
    !settings.is_named()
}

impl ServerSettings {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.host.is_empty() || self.user.is_empty() || self.port == 0 {
            problems.push("name its `host`, `port` and `user`".to_owned());
        }
        problems.extend(self.password.problems().into_iter().map(|problem| format!("password: {problem}")));
        if self.ca_file.is_some() && self.tls() == Tls::Off {
            problems.push("`ca_file` is of no use with `tls = \"off\"`".to_owned());
        }
        problems
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.password.file.iter_mut().chain(self.ca_file.as_mut())
    }

    fn tls(&self) -> Tls {
        let is_here = self.host.starts_with('/')
            || self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.tls.unwrap_or(if is_here { Tls::Off } else { Tls::Verify })
    }

    /// Connects to a database.
    pub(super) async fn connect(&self, database: &str) -> Result<Client, Failure> {
        let mut config = tokio_postgres::Config::new();
        config.host(&self.host).port(self.port).user(&self.user).dbname(database).application_name("headroom");
        if let Some(password) = self.password.read()? {
            config.password(password.reveal());
        }
        let failed = |error: tokio_postgres::Error| {
            let failure = failure(&error);
            Failure { problem: format!("{}:{}: {}", self.host, self.port, failure.problem), ..failure }
        };
        match self.tls() {
            Tls::Off => {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                tokio::spawn(connection);
                Ok(client)
            }
            Tls::Verify => {
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                let connector = MakeRustlsConnect::new(self.tls_config()?);
                let (client, connection) = config.connect(connector).await.map_err(failed)?;
                tokio::spawn(connection);
                Ok(client)
            }
        }
    }

    fn tls_config(&self) -> Result<ClientConfig, Failure> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            let failed = |problem: String| Failure::refused(format!("{}: {problem}", path.display()));
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            return Err(Failure::refused("no certificate authority is known: name `ca_file`".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| Failure::refused(format!("TLS: {error}")))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// The rows of a statement.
pub(super) async fn rows(client: &Client, statement: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
    let messages = client.simple_query(statement).await.map_err(|error| failure(&error))?;
    let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// A column of a row; empty when there is none of that name, or no value.
pub(super) fn column<'a>(row: &'a SimpleQueryRow, name: &str) -> &'a str {
    row.try_get(name).ok().flatten().unwrap_or_default()
}

/// What the server or the way to it has said, with the causes behind it.
fn failure(error: &tokio_postgres::Error) -> Failure {
    if let Some(told) = error.as_db_error() {
        // Rights, syntax and values: asking again gives the same answer.
        let is_lasting = ["22", "28", "42"].iter().any(|class| told.code().code().starts_with(class));
        let hint = told.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let fault = if is_lasting { Fault::Refused } else { Fault::Away };
        return Failure::new(fault, format!("it says: {}{hint}", told.message()));
    }
    Failure::away(error)
}
