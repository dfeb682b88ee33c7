//! Which target has the capacity of which workload.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Target;

/// The targets of all workloads.
#[derive(Clone)]
pub struct Targets {
    fallback: Arc<dyn Target>,
    by_workload: BTreeMap<String, Arc<dyn Target>>,
}

impl Targets {
    /// One target for every workload that is not given another.
    #[must_use]
    pub fn new(fallback: Arc<dyn Target>) -> Self {
        Self { fallback, by_workload: BTreeMap::new() }
    }

    /// Gives a workload its own target.
    #[must_use]
    pub fn with(mut self, workload: &str, target: Arc<dyn Target>) -> Self {
        self.by_workload.insert(workload.to_owned(), target);
        self
    }

    /// The target of a workload.
    #[must_use]
    pub fn of(&self, workload: &str) -> Arc<dyn Target> {
        Arc::clone(self.by_workload.get(workload).unwrap_or(&self.fallback))
    }

    /// Says on the log which targets could not be changed now; they may come back by themselves, and
    /// nobody waits for them.
    pub(crate) async fn probe(&self) {
        for (workload, target) in &self.by_workload {
            match target.probe(workload).await {
                Ok(()) => tracing::info!(workload, target = target.name(), "the target answers"),
                Err(error) => tracing::warn!(workload, %error, "the target could not be changed now"),
            }
        }
    }
}

impl From<Arc<dyn Target>> for Targets {
    fn from(target: Arc<dyn Target>) -> Self {
        Self::new(target)
    }
}

impl std::fmt::Debug for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = self.by_workload.iter().map(|(workload, target)| (workload, target.name()));
        f.debug_map().entries(named).finish()
    }
}
