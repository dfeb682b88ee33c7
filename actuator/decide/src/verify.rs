//! Does a change do harm? A sequential test of what is observed once its units are ready against what was usual before.
//!
//! Null hypothesis: the windows that follow a change are one more block of the course before it. Precisely: cut the
//! windows before the change into blocks of as many windows as are judged; set each value against what is usual at its
//! load; then the block behind the change is exchangeable with them. Values within a block may depend on each other as
//! they like, and so the dependence of neighbouring windows is in the blocks and not assumed away.
//!
//! The evidence is a soft-rank e-value (Balinsky and Balinsky 2024, "Enhancing conformal prediction using e-test
//! statistics"): with a statistic T, `e = (n + 1) exp(k T) / sum(exp(k T_i))` over the block and its `n` references has a
//! mean of at most 1 under the null. T is the largest mean of three windows so far, over all guards, so it never falls
//! while the block fills: whoever looks at every window and stops at `1 / alpha` does so wrongly with a chance of at most
//! `alpha` for each action (Markov's inequality on the last look).

use headroom_proto::Span;
use headroom_proto::time::span_text;
use serde::{Deserialize, Serialize};

/// Windows that are averaged before they count: one bad window is not harm.
const SMOOTHED: usize = 3;
/// How sharply the statistic tells blocks apart.
const SHARPNESS: f64 = 4.0;
/// Ranges of load in each of which values have their own usual size.
const LOAD_RANGES: usize = 5;
/// A value counts as that many tolerable changes at the most.
const MOST: f64 = 30.0;
/// From the median absolute deviation to the standard deviation of a normal distribution.
const MAD_TO_SD: f64 = 1.4826;

/// Which way a value gets worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worse {
    /// More is worse, as of latencies.
    Up,
    /// Less is worse, as of load that is served.
    Down,
}

/// A feature column that must not get worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// The column of the windows.
    pub column: String,
    /// Which way it gets worse.
    pub worse: Worse,
    /// A change that matters, as a share of what is usual.
    #[serde(default = "half")]
    pub tolerance: f64,
    /// A change that matters, at least, in units of the column.
    #[serde(default)]
    pub floor: f64,
}

/// How changes are verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyConfig {
    /// The chance, for each action, that a harmless change is rolled back.
    pub alpha: f64,
    /// How far back the windows go that a change is compared with.
    #[serde(with = "span_text")]
    pub history: Span,
    /// Must the load not fall far below the low quantile that was forecast for it?
    pub served: bool,
    /// What must not get worse; columns that the windows do not have are not looked at.
    pub guards: Vec<Guard>,
}

/// A window as the test sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The load that was offered.
    pub load: f64,
    /// A value for each guard; not a number where it is not known.
    pub values: Vec<f64>,
}

/// What speaks against a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// The e-value: 1 says nothing, `1 / alpha` is harm.
    pub e_value: f64,
    /// The guard that is worst; none while there is nothing to say.
    pub guard: Option<usize>,
    /// Its mean over the worst windows, and what is usual at that load.
    pub observed: f64,
    /// What is usual.
    pub usual: f64,
    /// Blocks that the change was compared with.
    pub references: usize,
    /// Windows that were judged, and how many there are to be judged; 0 when the history is too short.
    pub judged: usize,
    /// Windows of a block.
    pub block: usize,
    /// The e-value has passed `1 / alpha`, and by more than is tolerated.
    pub is_harmful: bool,
}

fn half() -> f64 {
    0.5
}

impl Default for VerifyConfig {
    fn default() -> Self {
        let guard = |column: &str, worse, floor| Guard { column: column.to_owned(), worse, tolerance: half(), floor };
        Self {
            alpha: 0.01,
            history: Span::from_hours(24 * 7),
            served: true,
            guards: vec![
                guard("p99_ms", Worse::Up, 1.0),
                guard("error_ratio", Worse::Up, 0.002),
                guard("lock_waits", Worse::Up, 2.0),
                guard("queue_depth", Worse::Up, 5.0),
                guard("replication_lag_s", Worse::Up, 1.0),
                guard("write_p99_ms", Worse::Up, 1.0),
            ],
        }
    }
}

impl VerifyConfig {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            problems.push("`alpha` must be between 0 and 1".to_owned());
        }
        for guard in &self.guards {
            let fits = guard.tolerance >= 0.0 && guard.floor >= 0.0 && guard.tolerance + guard.floor > 0.0;
            if guard.column.is_empty() || !fits {
                let column = &guard.column;
                problems.push(format!("guard `{column}`: it needs a column, and a positive `tolerance` or `floor`"));
            }
        }
        problems
    }

    /// References without which `1 / alpha` could not be reached.
    #[must_use]
    pub fn references_needed(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "alpha is positive; a float saturates"
        )]
        let needed = (1.2 / self.alpha).ceil() as usize;
        needed
    }

    /// Windows of a block, with so many before a change: the whole hold, or less where the history is short.
    #[must_use]
    pub fn block(&self, before: usize, hold: usize) -> usize {
        hold.min(before / self.references_needed().max(1))
    }

    /// Weighs what speaks against a change: the windows before it and those since its units are ready, each in the order
    /// of time, and how many windows it is held. Values are those of `guards`.
    #[must_use]
    pub fn weigh(&self, guards: &[Guard], before: &[Sample], after: &[Sample], hold: usize) -> Evidence {
        let block = self.block(before.len(), hold);
        if block == 0 || guards.is_empty() {
            return Evidence::default();
        }
        let usual: Vec<Usual> = (0..guards.len()).filter_map(|at| Usual::of(guards.get(at)?, at, before)).collect();
        let judged = after.get(..after.len().min(block)).unwrap_or_default();
        let mut evidence = Evidence { judged: judged.len(), block, ..Evidence::default() };
        let Some(worst) = worst_of(&usual, judged, block) else { return evidence };
        let references: Vec<f64> = before
            .rchunks_exact(block)
            .filter_map(|reference| worst_of(&usual, reference, block))
            .map(|worst| worst.score)
            .collect();
        // Relative to the block's own, so that nothing overflows.
        let others: f64 = references.iter().map(|score| (SHARPNESS * (score - worst.score)).exp()).sum();
        #[expect(clippy::cast_precision_loss, reason = "blocks of some days")]
        let count = references.len() as f64 + 1.0;
        evidence.e_value = count / (1.0 + others);
        evidence.references = references.len();
        evidence.guard = Some(worst.guard);
        evidence.observed = worst.observed;
        evidence.usual = worst.usual;
        evidence.is_harmful = evidence.e_value >= 1.0 / self.alpha && worst.score >= 1.0;
        evidence
    }
}

/// What is usual of a guard's values before the change.
struct Usual<'a> {
    guard: &'a Guard,
    at: usize,
    /// Largest load of each range but the last, and the median of each.
    bounds: Vec<f64>,
    medians: Vec<f64>,
    deviation: f64,
}

/// The worst means of a block.
struct Worst {
    score: f64,
    guard: usize,
    observed: f64,
    usual: f64,
}

impl<'a> Usual<'a> {
    fn of(guard: &'a Guard, at: usize, before: &[Sample]) -> Option<Self> {
        let known = |sample: &Sample| Some((sample.load, sample.values.get(at).copied()?));
        let is_known = |(load, value): &(f64, f64)| load.is_finite() && value.is_finite();
        let mut pairs: Vec<(f64, f64)> = before.iter().filter_map(known).filter(is_known).collect();
        if pairs.len() < LOAD_RANGES * SMOOTHED {
            return None;
        }
        pairs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let ranges: Vec<&[(f64, f64)]> = pairs.chunks(pairs.len().div_ceil(LOAD_RANGES)).collect();
        let bounds = ranges.iter().filter_map(|range| range.last()).map(|(load, _)| *load).collect();
        let values = |range: &[(f64, f64)]| range.iter().map(|(_, value)| *value).collect();
        let medians: Vec<f64> = ranges.iter().map(|range| median(values(range))).collect();
        let deviations = ranges.iter().zip(&medians);
        let deviations = deviations.flat_map(|(range, middle)| range.iter().map(move |(_, v)| (v - middle).abs()));
        let deviation = MAD_TO_SD * median(deviations.collect());
        Some(Self { guard, at, bounds, medians, deviation })
    }

    fn usual_at(&self, load: f64) -> f64 {
        let range = self.bounds.iter().position(|bound| load <= *bound);
        let last = self.medians.last().copied();
        range.and_then(|range| self.medians.get(range)).copied().or(last).unwrap_or(0.0)
    }

    /// The value in tolerable changes from what is usual, the value, and what is usual.
    fn score(&self, sample: &Sample) -> Option<(f64, f64, f64)> {
        let value = sample.values.get(self.at).copied().filter(|value| value.is_finite())?;
        let usual = self.usual_at(sample.load);
        let matters = self.guard.tolerance * usual.abs() + self.guard.floor;
        let change = match self.guard.worse {
            Worse::Up => value - usual,
            Worse::Down => usual - value,
        };
        let scale = matters.max(self.deviation).max(f64::MIN_POSITIVE);
        Some(((change / scale).clamp(-MOST, MOST), value, usual))
    }
}

/// The worst mean of neighbouring windows, over all guards; none when too little is known.
fn worst_of(usual: &[Usual<'_>], windows: &[Sample], block: usize) -> Option<Worst> {
    let width = SMOOTHED.min(block);
    let mut worst: Option<Worst> = None;
    for usual in usual {
        for neighbours in windows.windows(width) {
            let known: Vec<(f64, f64, f64)> = neighbours.iter().filter_map(|sample| usual.score(sample)).collect();
            if known.len() * 2 <= width {
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "three at the most")]
            let mean = |of: fn(&(f64, f64, f64)) -> f64| known.iter().map(of).sum::<f64>() / known.len() as f64;
            let score = mean(|known| known.0);
            if worst.as_ref().is_none_or(|worst| score > worst.score) {
                worst = Some(Worst {
                    score,
                    guard: usual.at,
                    observed: mean(|known| known.1),
                    usual: mean(|known| known.2),
                });
            }
        }
    }
    worst
}

/// The median; the lower one of an even number.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
