//! One actuator acts at a time, for a term. Which moves count is told by the order of a log alone.

/// The terms of a log so far. A record `Term` begins one; a move of an earlier term behind it does not count: whoever
/// wrote it had been succeeded. Invariant `one-writer`: among the moves that count terms never fall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Succession {
    term: u64,
}

impl Succession {
    /// A term begins; one that is not newer changes nothing.
    pub fn begin(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    /// Does a move of that term count here? Moves from before there were terms have 0.
    #[must_use]
    pub fn counts(self, term: u64) -> bool {
        term >= self.term
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_term_ends_the_ones_before_it() {
        let mut succession = Succession::default();
        assert!(succession.counts(0) && succession.counts(1), "a record from before there were terms");
        succession.begin(2);
        assert!(!succession.counts(0) && !succession.counts(1) && succession.counts(2));
        succession.begin(1);
        assert!(!succession.counts(1), "a term that comes late changes nothing");
    }
}
