//! A target that exists on paper: units that take their lead time to be ready and are released at once. It keeps its
//! state in a file, as a real system outlives the actuator.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use headroom_proto::EventTime;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};

use super::ledger;
use crate::{Applied, ApplyRequest, Fault, Fence, Target, TargetError, TargetState};

const NAME: &str = "simulated";
/// Changes that are kept for each workload: enough to know a repeat and to answer for the last days.
const KEPT_CHANGES: usize = 1_000;

/// Settings of the simulated target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatedConfig {
    /// Load that one unit serves at 100 %.
    pub unit_capacity: f64,
    /// From command to ready units.
    #[serde(with = "span_text")]
    pub lead_time: Span,
    /// Units of a workload before the first change.
    pub initial_units: u32,
}

impl Default for SimulatedConfig {
    fn default() -> Self {
        Self { unit_capacity: 100.0, lead_time: Span::from_mins(15), initial_units: 1 }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Change {
    key: String,
    at_us: i64,
    units: u32,
    /// What was commanded before it, and its place; not in files of earlier versions.
    #[serde(default)]
    before: Option<u32>,
    #[serde(default)]
    fence: Option<Fence>,
}

/// Changes by workload, oldest first.
type Changes = BTreeMap<String, Vec<Change>>;

/// The simulated target.
#[derive(Debug)]
pub struct SimulatedTarget {
    config: SimulatedConfig,
    file: PathBuf,
    changes: Mutex<Changes>,
}

impl SimulatedTarget {
    /// Opens the state in `file`, or begins anew.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(config: SimulatedConfig, file: &Path) -> Result<Self, TargetError> {
        let changes = Mutex::new(load(file)?);
        Ok(Self { config, file: file.to_owned(), changes })
    }

    fn save(&self, changes: &Changes) -> std::io::Result<()> {
        let staged = self.file.with_extension("new");
        let mut file = std::fs::File::create(&staged)?;
        file.write_all(&serde_json::to_vec(changes)?)?;
        std::fs::rename(&staged, &self.file)
    }
}

#[async_trait]
impl Target for SimulatedTarget {
    fn name(&self) -> &str {
        NAME
    }

    async fn apply(&self, request: &ApplyRequest) -> Result<Applied, TargetError> {
        // Another of us may have changed it since, as another actuator may have changed a real system.
        let lock = ledger::lock(&self.file).await.map_err(|failure| failure.of(NAME))?;
        let mut all = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = load(&self.file)?;
        let changes = next.entry(request.workload.clone()).or_default();
        if let Some(known) = changes.iter().find(|change| change.key == request.idempotency_key) {
            let applied = known.applied(self.config.initial_units);
            *all = next;
            return Ok(applied);
        }
        let newest = changes.iter().filter_map(|change| change.fence).max();
        if let Some(newest) = newest.filter(|newest| request.fence <= *newest) {
            let problem = format!("overtaken: it knows a change of {newest}, and this one is of {}", request.fence);
            return Err(TargetError { fault: Fault::Fenced, ..failed(problem) });
        }
        let before = changes.last().map_or(self.config.initial_units, |change| change.units);
        let units = match &request.undoes {
            None => request.units,
            Some(undone) => changes
                .iter()
                .find(|change| change.key == *undone)
                .map_or(before, |change| change.before.unwrap_or(request.units)),
        };
        let change = Change {
            key: request.idempotency_key.clone(),
            at_us: request.at.micros(),
            units,
            before: Some(before),
            fence: Some(request.fence),
        };
        let applied = change.applied(self.config.initial_units);
        changes.push(change);
        if changes.len() > KEPT_CHANGES {
            changes.remove(0);
        }
        self.save(&next).map_err(|error| failed(format!("{}: {error}", self.file.display())))?;
        *all = next;
        drop(lock);
        Ok(applied)
    }

    async fn observe(&self, workload: &str, at: EventTime) -> Result<TargetState, TargetError> {
        let all = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = all.get(workload).map(Vec::as_slice).unwrap_or_default();
        let commanded_at = |time: EventTime| {
            let last = changes.iter().rev().find(|change| change.at_us <= time.micros());
            last.map_or(self.config.initial_units, |change| change.units)
        };
        // A unit is ready when it was commanded all through the lead time; a release takes effect at once.
        let since = at - self.config.lead_time;
        let within = changes.iter().filter(|change| change.at_us > since.micros() && change.at_us <= at.micros());
        let ready = within.map(|change| change.units).fold(commanded_at(since), u32::min);
        let commanded = commanded_at(at);
        Ok(TargetState { ready, commanded, value: format!("{commanded} units") })
    }

    async fn probe(&self, _workload: &str) -> Result<(), TargetError> {
        Ok(())
    }
}

impl Change {
    fn applied(&self, initial: u32) -> Applied {
        let before = self.before.unwrap_or(initial);
        Applied { before: format!("{before} units"), after: format!("{} units", self.units) }
    }
}

fn load(file: &Path) -> Result<Changes, TargetError> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(format!("{}: {e}", file.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Changes::default()),
        Err(error) => Err(failed(format!("{}: {error}", file.display()))),
    }
}

fn failed(problem: String) -> TargetError {
    TargetError { target: NAME.to_owned(), fault: Fault::Refused, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str, minute: i64, units: u32) -> ApplyRequest {
        let at = EventTime::from_micros(0) + Span::from_mins(minute);
        let fence = Fence::new(at, 1);
        ApplyRequest {
            workload: "w".to_owned(),
            units,
            idempotency_key: key.to_owned(),
            fence,
            undoes: None,
            at,
            begin_at: None,
        }
    }

    #[tokio::test]
    async fn units_are_ready_after_the_lead_time_released_at_once_and_applied_once() {
        let folder = tempfile::tempdir().expect("a temp folder");
        let file = folder.path().join("simulated.json");
        let target = SimulatedTarget::open(SimulatedConfig::default(), &file).expect("new");
        for request in [request("a", 0, 5), request("b", 30, 2), request("a", 40, 9)] {
            target.apply(&request).await.expect("applies");
        }
        let reopened = SimulatedTarget::open(SimulatedConfig::default(), &file).expect("kept");
        reopened.apply(&request("b", 50, 7)).await.expect("a repeat");
        for (minute, ready, commanded) in
            [(-1, 1, 1), (0, 1, 5), (14, 1, 5), (15, 5, 5), (29, 5, 5), (30, 2, 2), (60, 2, 2)]
        {
            let at = EventTime::from_micros(0) + Span::from_mins(minute);
            let state = reopened.observe("w", at).await.expect("answers");
            assert_eq!((state.ready, state.commanded), (ready, commanded), "minute {minute}");
        }
        std::fs::write(&file, "{").expect("writes");
        assert!(SimulatedTarget::open(SimulatedConfig::default(), &file).is_err());
    }
}
