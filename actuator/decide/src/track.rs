//! The track record of a workload's actions of one kind, and the stage that it has earned.
//!
//! A stage is earned when the rate of good outcomes is above a bound with confidence. The record is looked at after every
//! outcome, so the confidence must hold at all those times at once: the lower bound is that of a confidence sequence
//! (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021), not that of Clopper and Pearson, which holds at one time
//! that was set before.

use std::collections::BTreeMap;

use headroom_proto::EventTime;
use serde::{Deserialize, Serialize};

use crate::stage::Stage;

/// Actions that a record reaches back; the lower bound is computed in time proportional to it.
const MAX_MARKS: usize = 2_000;
/// Halvings of an interval; beyond what a double tells apart.
const HALVINGS: usize = 60;

/// How stages are earned. Off unless `enabled`: what is configured holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarnConfig {
    /// Must stages above `recommend` be earned? What is configured is the highest that can be.
    pub enabled: bool,
    /// The rate of good outcomes that must be shown, 0..1.
    pub bound: f64,
    /// With this confidence, 0..1.
    pub confidence: f64,
    /// Measured actions before `automate`.
    pub automate_after: u32,
    /// Measured actions before `expand`.
    pub expand_after: u32,
}

impl Default for EarnConfig {
    fn default() -> Self {
        Self { enabled: false, bound: 0.8, confidence: 0.95, automate_after: 10, expand_after: 50 }
    }
}

/// What became of the actions that count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Track {
    /// Good ones.
    pub good: u32,
    /// All.
    pub total: u32,
    /// The share of good ones.
    pub rate: f64,
    /// The rate is above this with the confidence asked for.
    pub lower_bound: f64,
}

/// A change of the earned stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Before.
    pub from: Stage,
    /// After.
    pub to: Stage,
    /// Why.
    pub reason: String,
    /// Does the record begin anew?
    pub anew: bool,
}

/// The record of one workload and kind of action.
#[derive(Clone, Debug)]
pub struct Earned {
    earned: Stage,
    /// Actions that were decided later count.
    since: EventTime,
    /// By when they were decided and their id: good or not.
    marks: BTreeMap<(EventTime, String), bool>,
    reason: String,
}

impl Default for Earned {
    fn default() -> Self {
        Self {
            earned: Stage::Recommend,
            since: EventTime::MIN,
            marks: BTreeMap::new(),
            reason: "nothing has been measured yet".to_owned(),
        }
    }
}

impl EarnConfig {
    /// What is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let is_share = |share: f64| share > 0.0 && share < 1.0;
        let checks = [
            (is_share(self.bound), "`bound` must be between 0 and 1"),
            (is_share(self.confidence), "`confidence` must be between 0 and 1"),
            (
                self.automate_after >= 1 && self.automate_after <= self.expand_after,
                "`automate_after` must be 1 to `expand_after`",
            ),
        ];
        checks.into_iter().filter(|(fits, _)| !fits).map(|(_, problem)| problem.to_owned()).collect()
    }
}

impl Earned {
    /// The stage that has been earned.
    #[must_use]
    pub fn earned(&self) -> Stage {
        self.earned
    }

    /// Actions that were decided later count.
    #[must_use]
    pub fn since(&self) -> EventTime {
        self.since
    }

    /// Why it is what it is.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Takes in what became of an action. One that was bad once stays bad.
    pub fn mark(&mut self, action_id: &str, decided_at: EventTime, good: bool) {
        if decided_at <= self.since {
            return;
        }
        let mark = self.marks.entry((decided_at, action_id.to_owned())).or_insert(good);
        *mark = *mark && good;
        while self.marks.len() > MAX_MARKS {
            self.marks.pop_first();
        }
    }

    /// The record at that confidence.
    #[must_use]
    pub fn track(&self, confidence: f64) -> Track {
        let count = |good: bool| u32::try_from(self.marks.values().filter(|mark| **mark == good).count()).unwrap_or(0);
        let (good, bad) = (count(true), count(false));
        let total = good + bad;
        let rate = if total == 0 { 0.0 } else { f64::from(good) / f64::from(total) };
        Track { good, total, rate, lower_bound: lower_bound(good, bad, 1.0 - confidence) }
    }

    /// Looks at the record: what has been earned or, when the rate is no longer shown to be above the bound, lost.
    pub fn review(&mut self, config: &EarnConfig) -> Option<Turn> {
        let track = self.track(config.confidence);
        let holds = track.lower_bound >= config.bound;
        let earned = match track.total {
            _ if !holds => Stage::Recommend,
            total if total >= config.expand_after => Stage::Expand,
            total if total >= config.automate_after => Stage::Automate,
            _ => Stage::Recommend,
        };
        let told = format!(
            "{} of {} actions were good: above {:.3} with {} % confidence, {:.3} is asked for",
            track.good,
            track.total,
            track.lower_bound,
            config.confidence * 100.0,
            config.bound
        );
        // A record that begins anew after a loss climbs again; one that is only shorter than it was does not fall.
        if earned > self.earned || !holds { self.turn(earned, told, false) } else { None }
    }

    /// What was earned is lost at once, and the record begins anew behind `at`.
    pub fn lose(&mut self, at: EventTime, reason: &str) -> Option<Turn> {
        self.since = self.since.max(at);
        self.marks.retain(|(decided_at, _), _| *decided_at > at);
        self.turn(Stage::Recommend, reason.to_owned(), true)
    }

    /// Takes in a turn that is on record.
    pub fn restore(&mut self, to: Stage, at: EventTime, reason: &str, anew: bool) {
        self.earned = to;
        reason.clone_into(&mut self.reason);
        if anew {
            self.since = self.since.max(at);
            self.marks.retain(|(decided_at, _), _| *decided_at > at);
        }
    }

    fn turn(&mut self, to: Stage, reason: String, anew: bool) -> Option<Turn> {
        let from = std::mem::replace(&mut self.earned, to);
        if from == to {
            return None;
        }
        self.reason.clone_from(&reason);
        Some(Turn { from, to, reason, anew })
    }
}

/// The lower end of a one-sided confidence sequence for the rate of good ones: with probability 1 - `alpha` the rate is
/// above it after every outcome. It is the least rate that the mixture of likelihood ratios against all greater rates,
/// weighed evenly, does not refute at 1/alpha (Ville's inequality).
#[must_use]
pub fn lower_bound(good: u32, bad: u32, alpha: f64) -> f64 {
    if good == 0 {
        return 0.0;
    }
    let limit = -alpha.ln();
    let evidence = Evidence::new(good, bad);
    // The evidence against a rate falls up to here, and refutes nothing beyond.
    let (mut low, mut high) = (0.0, f64::from(good) / f64::from(good + bad + 1));
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if evidence.ln_against(middle) >= limit {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The evidence of so many good and bad ones against rates.
struct Evidence {
    good: f64,
    bad: f64,
    /// ln of (n choose k) for k = 0 to `good`, where n is one more than there are.
    ln_choose: Vec<f64>,
    /// ln of B(good + 1, bad + 1).
    ln_beta: f64,
}

impl Evidence {
    fn new(good: u32, bad: u32) -> Self {
        let n = good + bad + 1;
        let ln_factors = (0..good).map(|k| f64::from(n - k).ln() - f64::from(k + 1).ln());
        let mut ln_choose = vec![0.0];
        ln_choose.extend(ln_factors.scan(0.0, |sum, factor| {
            *sum += factor;
            Some(*sum)
        }));
        // B(good + 1, bad + 1) = 1 / (n * (n - 1 choose good)).
        let ln_chosen: f64 = (0..good).map(|k| f64::from(n - 1 - k).ln() - f64::from(k + 1).ln()).sum();
        let ln_beta = -(f64::from(n).ln() + ln_chosen);
        Self { good: f64::from(good), bad: f64::from(bad), ln_choose, ln_beta }
    }

    /// ln of 1/(1-p) * integral from p to 1 of (q/p)^good ((1-q)/(1-p))^bad dq. The integral is an incomplete beta
    /// function, which for whole numbers is B(good+1, bad+1) * P(Binomial(good+bad+1, p) <= good).
    fn ln_against(&self, p: f64) -> f64 {
        if p <= 0.0 {
            return f64::INFINITY;
        }
        let (ln_p, ln_q) = (p.ln(), (-p).ln_1p());
        let n = self.good + self.bad + 1.0;
        let (mut k, mut terms) = (0.0, Vec::with_capacity(self.ln_choose.len()));
        for ln_choose in &self.ln_choose {
            terms.push(ln_choose + k * ln_p + (n - k) * ln_q);
            k += 1.0;
        }
        let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let ln_tail = largest + terms.iter().map(|term| (term - largest).exp()).sum::<f64>().ln();
        self.ln_beta + ln_tail - ln_q - self.good * ln_p - self.bad * ln_q
    }
}

#[cfg(test)]
mod tests;
