//! Logs on stderr and metrics in the OpenMetrics text format.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

/// The media type of OpenMetrics 1.0.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Sends logs to stderr, `warn` and our own `info` unless a filter is given.
pub(crate) fn log_to_stderr(filter: Option<&str>) {
    let default = "warn,headroom=info,tansu_broker=error,tansu_storage=error,rdkafka=error,librdkafka=error";
    let filter = EnvFilter::try_new(filter.unwrap_or(default)).unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// The metrics of every stage in this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// Lets a stage register its metrics.
    pub(crate) fn register<T>(&self, with: impl FnOnce(&mut Registry) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}
