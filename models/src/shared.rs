//! What workloads share: one set of trees for all of them, and what events do.
//!
//! The trees are a global model (Montero-Manso and Hyndman, "Principles and algorithms for
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
//!
//! What a ridge has learned of a kind of events is pooled in the same way, once a day, and is where the ridges of the others
//! start from: a workload's first sale is forecast by the sales of the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::is_wanted;
use crate::event::Responses;
use crate::learned::{Row, Trees};
use crate::{Engine, EngineConfig, Note};

/// Rows of all workloads at the most.
const MAX_ROWS: usize = 160_000;
const DAY_US: i64 = 86_400_000_000;
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
    /// What events did at each workload when it was last told, and when that was.
    given: BTreeMap<u64, (i64, Responses)>,
    /// The same of all together, the newest last.
    pools: VecDeque<Pool>,
    /// Are versions kept, however old?
    keeps_all: bool,
}

/// What events did at all workloads by some time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pool {
    at_us: i64,
    all: Responses,
    given: BTreeMap<u64, Responses>,
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

    /// Before an engine takes a step in: tells it which rows are wanted, and what events do at other workloads.
    pub fn ready(&self, engine: &mut Engine) {
        engine.thin(self.thinned);
        self.tell(engine);
    }

    /// What events did at other workloads before the end of its history.
    fn tell(&self, engine: &mut Engine) {
        let now_us = engine.span_us().1;
        let Some(pool) = self.pools.iter().rev().find(|pool| pool.at_us < now_us) else { return };
        engine.tell_elsewhere(pool.at_us, |workload| match pool.given.get(&workload) {
            Some(own) => pool.all.without(own),
            None => pool.all.clone(),
        });
    }

    /// Takes in what events did at a workload; once a day all are added up.
    fn pool(&mut self, now_us: i64, workload: u64, responses: Responses) {
        self.given.insert(workload, (now_us, responses));
        if self.pools.back().is_some_and(|newest| now_us - newest.at_us < DAY_US) {
            return;
        }
        // One that is ahead of others has told what they must not know of.
        let come = self.given.iter().filter(|(_, (end_us, _))| *end_us <= now_us);
        let given: BTreeMap<u64, Responses> = come.map(|(workload, (_, of))| (*workload, of.clone())).collect();
        self.pools.push_back(Pool { at_us: now_us, all: Responses::summed(given.values()), given });
        if self.pools.len() > VERSIONS && !self.keeps_all {
            self.pools.pop_front();
        }
    }

    /// Behind a step: takes the rows that the engine gives, grows the trees when it is time, and lends them.
    pub fn collect(&mut self, engine: &mut Engine) {
        if let Some(workload) = engine.gives_rows_of() {
            if let Some(responses) = engine.take_responses() {
                self.pool(engine.span_us().1, workload, responses);
            }
            let rows = engine.take_rows();
            if !rows.is_empty() {
                self.add(engine.config(), engine.span_us(), workload, rows);
                self.grow(engine.span_us().1);
            }
        }
        self.lend(engine);
    }

    /// Lends the newest trees that were grown before the engine's next forecast, and tells what events do elsewhere.
    pub fn lend(&self, engine: &mut Engine) {
        self.tell(engine);
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
