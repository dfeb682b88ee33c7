//! Where a running Headroom listens: written into the data folder, so that the command line finds it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::cli::UserError;

const FILE: &str = "endpoints.json";

/// The addresses of a running Headroom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    /// The console, `/metrics` and the signals' HTTP entry.
    pub(crate) http: SocketAddr,
    /// The gRPC services.
    pub(crate) grpc: SocketAddr,
    /// Flight SQL, where the lake's stage runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flight: Option<SocketAddr>,
    /// `bootstrap.servers` of the broker.
    pub(crate) kafka: String,
}

impl Endpoints {
    /// Writes them into the data folder.
    pub(crate) fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let staged = data_dir.join("endpoints.json.new");
        std::fs::write(&staged, serde_json::to_vec_pretty(self)?)
            .and_then(|()| std::fs::rename(&staged, data_dir.join(FILE)))
            .with_context(|| format!("writing {}", data_dir.join(FILE).display()))
    }

    /// Reads them from the data folder.
    pub(crate) fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|_| {
            UserError::new(format!(
                "no headroom has run with the data folder {}: start one, name its folder with --data-dir, or its \
                 address with --server",
                data_dir.display()
            ))
        })?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }
}
