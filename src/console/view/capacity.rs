//! Ready capacity over time, from the commands that changed it.

use std::collections::BTreeMap;

/// A change of the units commanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// Units commanded until then.
    pub(super) before: u32,
    /// Units commanded from then on.
    pub(super) after: u32,
    /// Number of the change of the view.
    pub(super) number: u64,
}

/// Units ready over time as steps `(from_us, units)`, beginning at `start_us` with the units that were there.
///
/// A unit is ready once it has been commanded for the whole lead time, and is gone at once when it is released: ready
/// at t is the least that was commanded during [t - lead, t].
pub(super) fn ready_steps(commands: &BTreeMap<i64, Command>, start: (i64, u32), lead_us: i64) -> Vec<(i64, u32)> {
    let first_units = commands.values().next().map_or(start.1, |command| command.before);
    let mut steps = vec![(start.0.min(commands.keys().next().copied().unwrap_or(i64::MAX)), first_units)];
    let mut turns: Vec<i64> = commands.keys().flat_map(|&at| [at, at.saturating_add(lead_us)]).collect();
    turns.sort_unstable();
    turns.dedup();
    for turn in turns {
        let from = turn.saturating_sub(lead_us);
        let at_from = commands.range(..=from).next_back().map_or(first_units, |(_, command)| command.after);
        let least_since = commands.range(from..=turn).map(|(_, command)| command.after).min();
        let units = least_since.map_or(at_from, |least| least.min(at_from));
        if steps.last().is_some_and(|(_, last)| *last != units) {
            steps.push((turn, units));
        }
    }
    steps
}
