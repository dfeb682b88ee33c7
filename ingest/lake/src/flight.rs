//! Flight SQL: the tables for every client that speaks Arrow, read-only, authenticated and within limits.
//!
//! A statement travels in its ticket, so any server over the same lake can answer it. Prepared statements are this
//! server's own, bounded in number. The protocol: <https://arrow.apache.org/docs/format/FlightSql.html>.

mod auth;
mod catalog;
mod service;
mod wire;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::scalar::ScalarValue;
use headroom_proto::time::{Span, span_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

pub use auth::{Auth, TokenError};

use crate::{Lake, QueryLimits};

/// Settings of the Flight SQL endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlightConfig {
    /// The address of its own listener, so that planners can be let in where the other gRPC services are not.
    pub listen: String,
    /// A file with a `name:token` in each line; without one, anyone who can connect may ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Rows of an answer; a query that has more fails.
    pub max_rows: usize,
    /// From a query's start to its last row.
    #[serde(with = "span_text")]
    pub max_time: Span,
    /// Memory of a query's sorts, joins and aggregations, in bytes.
    pub max_memory_bytes: usize,
    /// Disk for what does not fit into that memory, in bytes.
    pub max_spill_bytes: u64,
    /// Queries that run at once; others wait.
    pub max_queries: usize,
    /// Prepared statements that are kept; beyond, the one that was used longest ago is dropped.
    pub max_prepared: usize,
}

impl Default for FlightConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8688".to_owned(),
            token_file: None,
            max_rows: 10_000_000,
            max_time: Span::from_mins(1),
            max_memory_bytes: 256 << 20,
            max_spill_bytes: 1 << 30,
            max_queries: 4,
            max_prepared: 1_000,
        }
    }
}

impl FlightConfig {
    /// What is wrong with the settings.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let listen = &self.listen;
        let mut problems = Vec::new();
        match (listen.parse::<SocketAddr>(), &self.token_file) {
            (Err(_), _) => {
                problems.push(format!("listen: `{listen}` is no address: write HOST:PORT, such as 127.0.0.1:8688"));
            }
            (Ok(_), Some(file)) => problems.extend(Auth::from_file(file).err().map(|error| error.to_string())),
            (Ok(address), None) if address.ip().is_loopback() => {}
            (Ok(_), None) => problems.push(format!(
                "token_file: {listen} can be reached from elsewhere: name a file with `name:token` lines"
            )),
        }
        for (name, is_usable) in [
            ("max_rows", self.max_rows > 0),
            ("max_time", self.max_time.micros() > 0),
            ("max_memory_bytes", self.max_memory_bytes >= 1 << 20),
            ("max_queries", self.max_queries > 0),
            ("max_prepared", self.max_prepared > 0),
        ] {
            if !is_usable {
                problems.push(format!("{name}: no query could be answered: write a larger value"));
            }
        }
        problems
    }

    fn limits(&self) -> QueryLimits {
        QueryLimits {
            rows: Some(self.max_rows),
            memory_bytes: self.max_memory_bytes,
            spill_bytes: self.max_spill_bytes,
            time: Duration::from_micros(self.max_time.micros().unsigned_abs()),
        }
    }
}

/// What the endpoint has done since its start.
#[derive(Clone, Debug, Default)]
struct Counts {
    queries: Counter,
    rows: Counter,
    refused: Counter,
    cancelled: Counter,
}

impl Counts {
    fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        for (name, help, counter) in [
            ("headroom_flight_queries", "queries that were begun", &counts.queries),
            ("headroom_flight_rows", "rows that were handed out", &counts.rows),
            (
                "headroom_flight_refused",
                "requests that were not understood or would have changed something",
                &counts.refused,
            ),
            ("headroom_flight_cancelled", "queries that their askers cancelled", &counts.cancelled),
        ] {
            registry.register(name, help, counter.clone());
        }
        counts
    }
}

/// The endpoint, to be served on a gRPC listener.
pub type FlightEndpoint = InterceptedService<FlightServiceServer<FlightSql>, Auth>;

/// A Flight SQL endpoint over a lake.
///
/// # Errors
/// When the token file cannot be read or holds no token.
pub fn endpoint(lake: Arc<Lake>, config: &FlightConfig, registry: &mut Registry) -> Result<FlightEndpoint, TokenError> {
    let auth = match &config.token_file {
        Some(file) => Auth::from_file(file)?,
        None => Auth::open(),
    };
    let service = FlightSql {
        lake,
        limits: config.limits(),
        permits: Arc::new(Semaphore::new(config.max_queries.max(1))),
        max_prepared: config.max_prepared.max(1),
        running: Arc::default(),
        prepared: Mutex::default(),
        names: RandomState::new(),
        counts: Counts::register(registry),
    };
    Ok(FlightServiceServer::with_interceptor(service, auth))
}

/// The service behind the endpoint.
#[derive(Debug)]
pub struct FlightSql {
    lake: Arc<Lake>,
    limits: QueryLimits,
    permits: Arc<Semaphore>,
    max_prepared: usize,
    running: Running,
    prepared: Mutex<HashMap<String, Prepared>>,
    names: RandomState,
    counts: Counts,
}

/// Queries that wait or run, by their handle: each execution has a number.
type Running = Arc<Mutex<HashMap<String, Vec<(u64, CancellationToken)>>>>;

/// A prepared statement.
#[derive(Clone, Debug)]
struct Prepared {
    sql: String,
    schema: SchemaRef,
    parameters: Vec<ScalarValue>,
    /// Grows with each use of any statement.
    used: u64,
}

impl FlightSql {
    /// A name that nobody can guess.
    fn new_handle(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let part = |salt: u64| {
            let mut hasher = self.names.build_hasher();
            hasher.write_u64(count);
            hasher.write_u64(salt);
            hasher.finish()
        };
        format!("{:016x}{:016x}", part(0), part(1))
    }

    fn keep(&self, handle: String, prepared: Prepared) {
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        while all.len() >= self.max_prepared {
            let Some(oldest) = all.iter().min_by_key(|(_, one)| one.used).map(|(name, _)| name.clone()) else { break };
            all.remove(&oldest);
        }
        all.insert(handle, prepared);
    }

    fn used(&self) -> u64 {
        static USES: AtomicU64 = AtomicU64::new(0);
        USES.fetch_add(1, Ordering::Relaxed)
    }

    fn find(&self, handle: &str) -> Option<Prepared> {
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.get_mut(handle)?;
        found.used = self.used();
        Some(found.clone())
    }

    /// Sets a prepared statement's parameters.
    fn bind(&self, handle: &str, parameters: Vec<ScalarValue>) -> bool {
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(handle).map(|found| found.parameters = parameters).is_some()
    }

    fn forget(&self, handle: &str) {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
    }

    /// Ends every execution of a query; false when none waits or runs under this handle.
    fn cancel(&self, handle: &str) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
        running.is_some_and(|running| running.iter().map(|(_, token)| token.cancel()).count() > 0)
    }
}

#[cfg(test)]
mod tests;
