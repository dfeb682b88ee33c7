//! A Kafka-compatible broker in this process: tansu-broker over SQLite in one file.
//!
//! Durability: SQLite runs in WAL mode with `synchronous = normal`, so what was acknowledged survives the end of the
//! process however it ends (SIGKILL included); a power cut may lose the last moments. Limits: never delete a topic
//! (tansu deletes them all), no transactions, no snappy. Production is Apache Kafka.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tansu_broker::broker::Broker as Tansu;
use tansu_broker::coordinator::group::administrator::Controller;
use tansu_storage::StorageContainer;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;

use crate::BrokerError;

const READY_WITHIN: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
const NODE_ID: i32 = 1;

/// A running broker; it ends when this is stopped or dropped.
pub struct Embedded {
    servers: String,
    task: JoinHandle<Result<(), tansu_broker::Error>>,
}

impl Embedded {
    /// Opens or creates the broker of a folder and listens on `listen`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is no address or in use, the folder cannot be written, or the broker is not ready in time.
    pub async fn start(listen: &str, folder: &Path) -> Result<Self, BrokerError> {
        let address = free_address(listen)?;
        std::fs::create_dir_all(folder)
            .map_err(|error| BrokerError::Embedded(format!("folder {}: {error}", folder.display())))?;
        let file = folder
            .canonicalize()
            .map_err(|error| BrokerError::Embedded(format!("folder {}: {error}", folder.display())))?
            .join("broker.db");
        let listener = parse_url(&format!("tcp://{address}"))?;
        let storage = storage_url(&file)?;
        let built = Tansu::<Controller<StorageContainer>, StorageContainer>::builder()
            .node_id(NODE_ID)
            .cluster_id("headroom")
            .incarnation_id(Uuid::new_v4())
            .listener(listener.clone())
            .advertised_listener(listener)
            .storage(storage)
            .silent(true)
            .build()
            .await;
        let mut broker =
            built.map_err(|error| BrokerError::Embedded(format!("opening {}: {error}", file.display())))?;
        index_headers(&file)
            .await
            .map_err(|error| BrokerError::Embedded(format!("an index in {}: {error}", file.display())))?;
        let task = tokio::spawn(async move { broker.serve(tokio::time::Instant::now()).await });
        let mut embedded = Self { servers: address.to_string(), task };
        embedded.ready(address).await?;
        Ok(embedded)
    }

    /// `bootstrap.servers` for any Kafka client.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.servers
    }

    /// Ends the broker; what it acknowledged stays in its folder.
    pub async fn stop(mut self) {
        self.task.abort();
        (&mut self.task).await.ok();
    }

    async fn ready(&mut self, address: SocketAddr) -> Result<(), BrokerError> {
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        while TcpStream::connect(address).await.is_err() {
            if self.task.is_finished() {
                let ended = (&mut self.task).await;
                return Err(BrokerError::Embedded(format!("it ended at once: {ended:?}")));
            }
            if tokio::time::Instant::now() > deadline {
                return Err(BrokerError::Embedded(format!("not ready at {address} after {READY_WITHIN:?}")));
            }
            tokio::time::sleep(READY_POLL).await;
        }
        Ok(())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// tansu looks up the headers of each record that it reads in a table without an index: the time of a read grows with all
/// that was ever written.
async fn index_headers(file: &Path) -> libsql::Result<()> {
    let database = libsql::Builder::new_local(file).build().await?;
    let connection = database.connect()?;
    connection.execute("create index if not exists headers_of_record on header (topition, offset_id)", ()).await?;
    Ok(())
}

/// The broker binds the address itself, later: this finds a port, and tells early that one is in use.
fn free_address(listen: &str) -> Result<SocketAddr, BrokerError> {
    let bound = TcpListener::bind(listen).and_then(|listener| listener.local_addr());
    bound.map_err(|error| BrokerError::Listen { listen: listen.to_owned(), problem: error.to_string() })
}

/// tansu strips one slash and takes the rest as it is written in the URL, percent signs included.
fn storage_url(file: &Path) -> Result<Url, BrokerError> {
    let path = format!("/{}", file.display());
    let url = parse_url(&format!("sqlite://{path}"))?;
    if url.path() != path {
        return Err(BrokerError::Embedded(format!(
            "the path {} has characters that the embedded broker cannot take: choose a folder without spaces and the like",
            file.display()
        )));
    }
    Ok(url)
}

fn parse_url(text: &str) -> Result<Url, BrokerError> {
    Url::parse(text).map_err(|error| BrokerError::Embedded(format!("{text}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn headers_are_found_by_their_record() {
        let folder = tempfile::tempdir().expect("folder");
        for _start in 0..2 {
            Embedded::start("127.0.0.1:0", folder.path()).await.expect("broker").stop().await;
        }
        let file = folder.path().join("broker.db");
        let database = libsql::Builder::new_local(file).build().await.expect("database");
        let question = "explain query plan select k, v from header where topition = 1 and offset_id = 2";
        let connection = database.connect().expect("connection");
        let mut rows = connection.query(question, ()).await.expect("plan");
        let step: String = rows.next().await.expect("row").expect("step").get(3).expect("text");
        assert!(step.contains("USING INDEX headers_of_record"), "{step}");
    }
}
