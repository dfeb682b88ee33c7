//! One set of trees for many workloads: a global model (Montero-Manso and Hyndman, "Principles and algorithms for
//! forecasting groups of time series: locality and globality", 2021; Januschowski and others, 2020). Every workload keeps
//! its own ridges, calibration and weights; what a ridge misses, relative to it and on the log scale, is alike from
//! workload to workload, so the rows of all grow the trees together, in a room that does not grow with their number.
//!
//! Rows are thinned by origin: an origin's key is a hash, and when there are too many rows the share of keys that count
//! is halved (adaptive sampling: Wegman's, in Flajolet, 1990). What is kept depends on the rows alone and not on the order
//! in which they came, and origins that do not count cost no time.
//!
//! Trees are grown when rows have come and are lent to those whose history has passed the time at which they were grown,
//! so that no forecast rests on a row from after its origin, whichever workload's row that is, and that all who are at one
//! time borrow the same. Trees of one workload alone are lent at once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::is_wanted;
use crate::learned::{Row, Trees};
use crate::{Engine, EngineConfig, Note};

/// Rows of all workloads at the most.
const MAX_ROWS: usize = 160_000;
/// Versions of the trees that are kept for workloads whose windows come later than others'.
const VERSIONS: usize = 4;

/// The trees of all workloads, and the rows they grow from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shared {
    /// In the order of time and workload.
    batches: Vec<Batch>,
    rows: usize,
    /// Origins count whose key is below this share of all, as a power of two.
    thinned: u32,
    /// The longest history.
    length_us: i64,
    /// The newest last.
    #[serde(with = "versions")]
    versions: VecDeque<Arc<Trees>>,
    /// Are versions kept, however old?
    keeps_all: bool,
}

/// What a workload gave at one time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Batch {
    /// The end of its history then.
    end_us: i64,
    workload: u64,
    rows: Vec<Row>,
}

impl Shared {
    /// The same, for going through a history again: versions of the trees are kept from the first on.
    #[must_use]
    pub fn keeping_all() -> Self {
        Self { keeps_all: true, ..Self::default() }
    }

    /// Takes a closed step in, as [`Engine::observe`] does, for an engine that shares trees.
    pub fn observe(&mut self, engine: &mut Engine, start_us: i64, value: f64) -> Vec<Note> {
        self.ready(engine);
        let notes = engine.observe(start_us, value);
        self.collect(engine);
        notes
    }

    /// Before an engine takes a step in: tells it which rows are wanted.
    pub fn ready(&self, engine: &mut Engine) {
        engine.thin(self.thinned);
    }

    /// Behind a step: takes the rows that the engine gives, grows the trees when it is time, and lends them.
    pub fn collect(&mut self, engine: &mut Engine) {
        if let Some(workload) = engine.gives_rows_of() {
            let rows = engine.take_rows();
            if !rows.is_empty() {
                self.add(engine.config(), engine.span_us(), workload, rows);
                self.grow(engine.span_us().1);
            }
        }
        self.lend(engine);
    }

    /// Lends the newest trees that were grown before the engine's next forecast.
    pub fn lend(&self, engine: &mut Engine) {
        let now_us = engine.span_us().1;
        let is_lent = |trees: &Trees| trees.grown_us < now_us || (trees.grown_us == now_us && trees.workloads == 1);
        engine.lend(self.versions.iter().rev().find(|trees| is_lent(trees)));
    }

    /// The newest trees alone, as what is lent to all.
    #[must_use]
    pub fn artefact(&self) -> Self {
        Self { versions: self.versions.back().cloned().into_iter().collect(), ..Self::default() }
    }

    fn add(&mut self, config: &EngineConfig, (start_us, end_us): (i64, i64), workload: u64, mut rows: Vec<Row>) {
        rows.retain(|row| is_wanted(row.key(), self.thinned));
        self.length_us = self.length_us.max(end_us - start_us);
        let is_before = |batch: &Batch| (batch.end_us, batch.workload) <= (end_us, workload);
        let place = self.batches.partition_point(is_before);
        self.rows += rows.len();
        self.batches.insert(place, Batch { end_us, workload, rows });
        // What no engine remembers any more goes.
        let kept_us = config.step_us.saturating_mul(i64::try_from(config.history_steps).unwrap_or(i64::MAX));
        let forgotten = self.batches.partition_point(|batch| batch.end_us < end_us.saturating_sub(kept_us));
        for batch in self.batches.drain(..forgotten) {
            self.rows -= batch.rows.len();
        }
        while self.rows > MAX_ROWS {
            self.thinned += 1;
            for batch in &mut self.batches {
                batch.rows.retain(|row| is_wanted(row.key(), self.thinned));
                batch.rows.shrink_to_fit();
            }
            self.batches.retain(|batch| !batch.rows.is_empty());
            self.rows = self.batches.iter().map(|batch| batch.rows.len()).sum();
        }
    }

    /// Grows the trees anew when they are old, or there are twice as many rows.
    fn grow(&mut self, now_us: i64) {
        // One that is ahead of others has given rows that they must not know of.
        let come = self.batches.partition_point(|batch| batch.end_us <= now_us);
        let come = self.batches.get(..come).unwrap_or_default();
        let rows: usize = come.iter().map(|batch| batch.rows.len()).sum();
        let is_due = self.versions.back().is_none_or(|newest| {
            now_us >= newest.grown_us
                && (rows >= 2 * newest.rows || Trees::is_due(newest.grown_us, now_us, self.length_us))
        });
        if !is_due {
            return;
        }
        let workloads = come.iter().map(|batch| batch.workload).collect::<BTreeSet<_>>().len();
        let rows: Vec<&Row> = come.iter().flat_map(|batch| &batch.rows).collect();
        // Too few rows as yet.
        let Ok(trees) = Trees::grow(&rows, workloads, now_us, self.length_us) else { return };
        self.versions.push_back(Arc::new(trees));
        if self.versions.len() > VERSIONS && !self.keeps_all {
            self.versions.pop_front();
        }
    }
}

/// Trees are written as what they are.
mod versions {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::learned::Trees;

    pub(super) fn serialize<S: Serializer>(all: &VecDeque<Arc<Trees>>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(|trees| &**trees))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VecDeque<Arc<Trees>>, D::Error> {
        Ok(Vec::<Trees>::deserialize(from)?.into_iter().map(Arc::new).collect())
    }
}

#[cfg(test)]
mod tests;
