//! What an engine has learned, without what it was learned from.

use crate::Engine;
use crate::ensemble::Blend;
use crate::event::EventBook;
use crate::family::Family;
use crate::history::History;

impl Engine {
    /// The engine without its history, its training rows and its signals: what a forecast elsewhere needs beside them. It
    /// holds the families that are served, and the residuals that their intervals come from.
    #[must_use]
    pub fn artefact(&self) -> Self {
        let served = |family: Family| family == Family::Ensemble || family.prior().is_some();
        let tracks = self.tracks.iter().filter(|track| served(track.family));
        Self {
            config: self.config.clone(),
            history: History::new(self.config.step_us, self.config.history_steps),
            book: EventBook::default(),
            tracks: tracks.map(crate::champion::Track::without_training).collect(),
            blend: Blend::default(),
            last: Vec::new(),
            is_fixed: self.is_fixed,
            seen_steps: 0,
            outcomes: 0,
            surprise: 0.0,
        }
    }
}
