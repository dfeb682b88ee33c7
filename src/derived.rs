//! What follows from the outlook of a workload, for who plans: sessions at work, latency at the units of now, units and
//! their cost, storage. The forecaster knows load alone and the actuator units alone; here their records meet, in the
//! lake. Nothing is ever done by these numbers. Each says what it rests on, or why it cannot be told.

use std::collections::BTreeMap;

use headroom_ingest_lake::Lake;
use headroom_proto::Span;
use headroom_proto::time::span_text;
use headroom_proto::v1::Derived;
use serde::{Deserialize, Serialize};

use crate::config::Config;

mod figures;
mod service;
mod sources;

pub(crate) use service::{DerivedGrpc, keep_up};

/// From which columns of the windows, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DerivedConfig {
    /// A latency, of windows of `forecast.window_size`.
    pub(crate) latency: String,
    /// Average sessions at work.
    pub(crate) sessions: String,
    /// Connections that are open.
    pub(crate) connections: String,
    /// Bytes that are stored.
    pub(crate) storage: String,
    /// Bytes that may be stored, by workload.
    pub(crate) storage_limits: BTreeMap<String, f64>,
    /// The table `derived` has rows of outlooks so far apart.
    #[serde(with = "span_text")]
    pub(crate) every: Span,
}

impl Default for DerivedConfig {
    fn default() -> Self {
        Self {
            latency: "p95_ms".to_owned(),
            sessions: "db_load".to_owned(),
            connections: "connections".to_owned(),
            storage: "storage_bytes".to_owned(),
            storage_limits: BTreeMap::new(),
            every: Span::from_hours(6),
        }
    }
}

impl DerivedConfig {
    /// Everything that is out of range.
    pub(crate) fn problems(&self) -> Vec<String> {
        let columns = [&self.latency, &self.sessions, &self.connections, &self.storage];
        let mut problems = Vec::new();
        if columns.iter().any(|column| column.is_empty() || column.contains('"')) {
            problems.push("`latency`, `sessions`, `connections` and `storage` must name columns".to_owned());
        }
        if self.every < Span::from_hours(1) {
            problems.push(format!("`every` {} must be an hour or more: outlooks are hourly", self.every));
        }
        let limits = self.storage_limits.iter().filter(|(_, limit)| !(limit.is_finite() && **limit > 0.0));
        problems
            .extend(limits.map(|(workload, limit)| format!("`storage_limits.{workload}` {limit} must be positive")));
        problems
    }
}

/// Everything that follows from the newest outlook of a workload; none when it has no outlook.
///
/// # Errors
/// When the lake cannot be read.
pub(crate) async fn derive(lake: &Lake, config: &Config, workload: &str) -> anyhow::Result<Option<Vec<Derived>>> {
    let Some(outlook) = sources::outlook(lake, workload).await? else { return Ok(None) };
    let window = config.forecast.window_size;
    let columns = &config.derived;
    let windows = sources::windows(lake, &outlook, columns, window).await?;
    let stored = sources::stored(lake, &outlook, columns, window).await?;
    let planner = config.actuate.planner_of(workload);
    let limit = columns.storage_limits.get(workload).copied();
    let derived = [
        figures::sessions(&outlook, &windows, columns),
        figures::latency(&outlook, &windows, columns),
        figures::units(&outlook, planner),
        figures::cost(&outlook, planner),
        figures::storage(&outlook, &stored, limit, columns),
    ];
    Ok(Some(derived.into()))
}

#[cfg(test)]
mod tests;
