//! Sharing trees with the engines of other workloads: it gives its rows away and borrows what grows from those of all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Engine, Note};
use crate::EngineConfig;
use crate::ModelError;
use crate::event::Responses;
use crate::family::{Family, Fitted};
use crate::learned::{Base, Gatherer, Row, Trees};
use crate::ridge::{Memory, Ridge};

const DAY_US: i64 = 86_400_000_000;

/// One engine's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sharing {
    workload: u64,
    gathers: bool,
    gatherer: Option<Gatherer>,
    gathered_us: i64,
    /// Not taken yet.
    #[serde(skip)]
    rows: Vec<Row>,
    /// What events do here; not taken yet.
    #[serde(skip)]
    responses: Option<Responses>,
    /// What they do at other workloads; lent like the trees.
    #[serde(skip)]
    elsewhere: Arc<Responses>,
    /// When they were added up.
    #[serde(skip)]
    elsewhere_us: i64,
    /// Only origins are gone through whose key is below this share of all, as a power of two; lent like the trees.
    #[serde(skip)]
    thinned: u32,
}

/// Is this key among the share of `1 / 2^thinned`?
pub(crate) fn is_wanted(key: u64, thinned: u32) -> bool {
    key.leading_zeros() >= thinned
}

impl Engine {
    /// From now on it shares trees with the engines of other workloads, by [`crate::Shared`]. To be called before it sees
    /// anything.
    #[must_use]
    pub fn sharing_trees(mut self, workload: &str) -> Self {
        // FNV-1a, so that it is the same on every machine.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let workload = workload.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
        self.sharing = Some(Sharing {
            workload,
            gathers: true,
            gatherer: None,
            gathered_us: i64::MIN,
            rows: Vec::new(),
            responses: None,
            elsewhere: Arc::default(),
            elsewhere_us: 0,
            thinned: 0,
        });
        self
    }

    /// The same, for trees that others have grown: it gives no rows.
    #[must_use]
    pub fn borrowing_trees(self, workload: &str) -> Self {
        let mut engine = self.sharing_trees(workload);
        engine.sharing.iter_mut().for_each(|sharing| sharing.gathers = false);
        engine
    }

    /// An engine that does nothing but give its rows, as [`Engine::sharing_trees`] would.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn gathering(config: EngineConfig, workload: &str) -> Result<Self, ModelError> {
        // Rows are gathered once a day: its ridges need not be fitted more often.
        let config = EngineConfig { refit_after_us: config.refit_after_us.max(DAY_US), ..config };
        let mut engine = Self::of_family(config, Family::Boosted)?.sharing_trees(workload);
        engine.tracks.retain(|track| track.family != Family::Boosted);
        Ok(engine)
    }

    /// Which workload's rows it gives; none when it gives none.
    pub(crate) fn gives_rows_of(&self) -> Option<u64> {
        self.sharing.as_ref().filter(|sharing| sharing.gathers).map(|sharing| sharing.workload)
    }

    pub(crate) fn thin(&mut self, thinned: u32) {
        self.sharing.iter_mut().for_each(|sharing| sharing.thinned = thinned);
    }

    pub(crate) fn take_rows(&mut self) -> Vec<Row> {
        self.sharing.as_mut().map(|sharing| std::mem::take(&mut sharing.rows)).unwrap_or_default()
    }

    pub(crate) fn take_responses(&mut self) -> Option<Responses> {
        self.sharing.as_mut().and_then(|sharing| sharing.responses.take())
    }

    /// From now on it goes by what events did at the others by `at_us`: `of` gives it for this workload.
    pub(crate) fn tell_elsewhere(&mut self, at_us: i64, of: impl Fn(u64) -> Responses) {
        let Some(sharing) = self.sharing.as_mut().filter(|sharing| sharing.elsewhere_us != at_us) else { return };
        (sharing.elsewhere, sharing.elsewhere_us) = (Arc::new(of(sharing.workload)), at_us);
    }

    /// What events do at other workloads.
    pub(super) fn elsewhere(&self) -> Arc<Responses> {
        self.sharing.as_ref().map(|sharing| Arc::clone(&sharing.elsewhere)).unwrap_or_default()
    }

    /// Start and end of the history.
    pub(crate) fn span_us(&self) -> (i64, i64) {
        (self.history.start_us(), self.history.end_us())
    }

    pub(crate) fn lend(&mut self, trees: Option<&Arc<Trees>>) {
        for track in &mut self.tracks {
            if let Some(Fitted::Learned(learned)) = &mut track.fitted {
                learned.lend(trees.cloned());
            }
        }
    }

    /// What it forecasts with.
    #[cfg(test)]
    pub(crate) fn trees(&self) -> Option<&Trees> {
        self.tracks.iter().find_map(|track| match &track.fitted {
            Some(Fitted::Learned(learned)) => learned.trees(),
            _ => None,
        })
    }

    /// The newest ridges.
    pub(super) fn base(&self) -> Option<Base> {
        let ridge = |family: Family| {
            let fitted = self.tracks.iter().find(|track| track.family == family)?.fitted.as_ref();
            if let Some(Fitted::Ridge(ridge)) = fitted { Some(ridge.clone()) } else { None }
        };
        Some(Base { short: ridge(Family::RidgeEvents)?, long: ridge(Family::RidgeLong) })
    }

    /// The same, the short one fitted now: whether losses have called for a fit of late makes no difference to rows.
    fn fresh_base(&self) -> Option<Base> {
        let now_us = self.history.end_us();
        let base = self.base()?;
        let short = self.tracks.iter().find(|track| track.family == Family::RidgeEvents)?;
        if short.fitted_at_us == now_us {
            return Some(base);
        }
        let events = self.book.known(now_us, self.history.start_us(), now_us + 15 * DAY_US);
        let short = Ridge::fit(&self.history, &events, Memory::Short, &self.elsewhere()).ok()?;
        Some(Base { short, ..base })
    }

    /// Gathers the rows of the steps that have come, as often as trees that are its own would be fitted.
    pub(super) fn gather(&mut self, notes: &mut Vec<Note>) {
        let now_us = self.history.end_us();
        let enough_us = Family::Boosted.min_history_us(self.config.step_us);
        let every_us = self.config.refit_after_us.max(DAY_US);
        let is_due = |sharing: &Sharing| sharing.gathers && now_us.saturating_sub(sharing.gathered_us) >= every_us;
        if self.length_us() < enough_us || !self.sharing.as_ref().is_some_and(is_due) {
            return;
        }
        let base = self.fresh_base();
        let events = self.book.known(now_us, self.history.start_us(), now_us);
        let span_us = (self.history.start_us(), now_us);
        let ridge = base.as_ref().map(|base| base.long.as_ref().unwrap_or(&base.short));
        let responses = ridge.map(|ridge| ridge.responses(&events, span_us));
        let Some(sharing) = &mut self.sharing else { return };
        let (horizon_steps, workload, thinned) = (self.config.horizon_steps, sharing.workload, sharing.thinned);
        let gatherer = sharing.gatherer.get_or_insert_with(|| Gatherer::new(&self.history, horizon_steps, workload));
        sharing.gathered_us = now_us;
        sharing.responses = responses;
        match gatherer.gather(&self.history, &self.book, |key| is_wanted(key, thinned), base) {
            Ok(rows) => sharing.rows.extend(rows),
            Err(error) => notes.push(Note::Ignored(error.to_string())),
        }
    }
}
