//! A Kafka-compatible broker in this process: tansu-broker over SQLite in one file.
//!
//! Durability: SQLite runs in WAL mode with `synchronous = normal`, so what was acknowledged survives the end of the
//! process however it ends (SIGKILL included); a power cut may lose the last moments. Limits: no topic
//! can be removed (tansu would remove them all), no transactions, no snappy. Production is Apache Kafka.

mod arrivals;
mod server;

use std::fmt;
use std::path::Path;

use tansu_storage::{BrokerRegistrationRequest, Storage, StorageContainer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;

use crate::BrokerError;

const NODE_ID: i32 = 1;
const CLUSTER: &str = "headroom";

/// A running broker; it ends when this is stopped or dropped.
pub struct Embedded {
    servers: String,
    task: JoinHandle<()>,
}

impl Embedded {
    /// Opens or creates the broker of a folder and listens on `listen`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is no address or in use, the folder cannot be written, or the broker is not ready in time.
    pub async fn start(listen: &str, folder: &Path) -> Result<Self, BrokerError> {
        let refused =
            |error: std::io::Error| BrokerError::Listen { listen: listen.to_owned(), problem: error.to_string() };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        std::fs::create_dir_all(folder)
            .map_err(|error| BrokerError::Embedded(format!("folder {}: {error}", folder.display())))?;
        let file = folder
            .canonicalize()
            .map_err(|error| BrokerError::Embedded(format!("folder {}: {error}", folder.display())))?
            .join("broker.db");
        let failed = |error: String| BrokerError::Embedded(format!("opening {}: {error}", file.display()));
        let built = StorageContainer::builder()
            .cluster_id(CLUSTER)
            .node_id(NODE_ID)
            .advertised_listener(parse_url(&format!("tcp://{address}"))?)
            .storage(storage_url(&file)?)
            .silent(true)
            .build()
            .await;
        let storage = built.map_err(|error| failed(error.to_string()))?;
        index_headers(&file).await.map_err(|error| failed(error.to_string()))?;
        let broker = BrokerRegistrationRequest {
            broker_id: NODE_ID,
            cluster_id: CLUSTER.to_owned(),
            incarnation_id: Uuid::new_v4(),
            rack: None,
        };
        storage.register_broker(broker).await.map_err(|error| failed(error.to_string()))?;
        let task = tokio::spawn(async move {
            if let Err(error) = server::serve(listener, CLUSTER, storage).await {
                tracing::error!(%error, "the embedded broker has ended");
            }
        });
        Ok(Self { servers: address.to_string(), task })
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
