//! How long a target takes until units that it was asked for are ready, from the actions of the past.

use std::collections::VecDeque;

use headroom_proto::Span;

use crate::capacity::LearnConfig;

/// The share of the lead times that a plan counts on.
const LEVEL: f64 = 0.95;
/// How sure it is that the share is not smaller.
const CONFIDENCE: f64 = 0.95;
/// Lead times that are kept; older ones are forgotten.
const KEPT: usize = 500;

/// Lead times of one target's raises, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeadTimes {
    seen: VecDeque<Span>,
}

/// The lead time to plan with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadTime {
    /// The time from command to ready units.
    pub span: Span,
    /// Actions that it was learned from; 0 when it is the declared one.
    pub actions: u32,
}

impl LeadTimes {
    /// Adds one.
    pub fn add(&mut self, span: Span) {
        if span.micros() < 0 {
            return;
        }
        self.seen.push_back(span);
        if self.seen.len() > KEPT {
            self.seen.pop_front();
        }
    }

    /// An upper bound of the 95th percentile that holds with 95 % confidence whatever the distribution: the smallest
    /// order statistic with as many below it as are that surely not all above (David and Nagaraja, Order Statistics,
    /// 2003, 7.1). That takes 59; of fewer it is the longest.
    #[must_use]
    pub fn bound(&self) -> Option<Span> {
        let mut sorted: Vec<Span> = self.seen.iter().copied().collect();
        sorted.sort_unstable();
        let at = order(sorted.len());
        sorted.get(at).copied()
    }

    /// The declared lead time, until enough actions have shown the target's own; never below the declared one, unless that
    /// is wanted.
    #[must_use]
    pub fn plan_with(&self, declared: Span, config: &LearnConfig) -> LeadTime {
        let actions = u32::try_from(self.seen.len()).unwrap_or(u32::MAX);
        let learned = self.bound().filter(|_| actions >= config.min_actions);
        match learned {
            Some(span) if span > declared || (config.shorter_lead_time && span < declared) => {
                LeadTime { span, actions }
            }
            Some(_) | None => LeadTime { span: declared, actions: 0 },
        }
    }
}

impl LeadTime {
    /// `declared 15m` or `learned 22m from 31 raises`.
    #[must_use]
    pub fn told(&self) -> String {
        match self.actions {
            0 => format!("declared {}", self.span),
            actions => format!("learned {} from {actions} raises", self.span),
        }
    }
}

/// Place, from 0, of the smallest order statistic of `count` that is not below the level with confidence; the last where
/// none is.
fn order(count: usize) -> usize {
    // P(at most k of them lie below the level) of the binomial distribution, term by term.
    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    let (all, mut term) = (count as f64, (1.0 - LEVEL).powf(count as f64));
    let mut sum = 0.0;
    for below in 0..count {
        sum += term;
        // The value at place `below` is at least the percentile when no more than `below` lie under it.
        if sum >= CONFIDENCE {
            return below;
        }
        #[expect(clippy::cast_precision_loss, reason = "hundreds")]
        let place = below as f64;
        term *= (all - place) / (place + 1.0) * LEVEL / (1.0 - LEVEL);
    }
    count.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn of(minutes: impl IntoIterator<Item = i64>) -> LeadTimes {
        let mut times = LeadTimes::default();
        minutes.into_iter().for_each(|each| times.add(Span::from_mins(each)));
        times
    }

    #[test]
    fn the_declared_one_counts_until_enough_were_seen_and_is_never_undercut_by_itself() {
        let (declared, config) = (Span::from_mins(15), LearnConfig::default());
        assert_eq!(of(vec![40; 19]).plan_with(declared, &config), LeadTime { span: declared, actions: 0 });
        let longer = of(vec![40; 20]).plan_with(declared, &config);
        assert_eq!((longer.span, longer.told().as_str()), (Span::from_mins(40), "learned 40m from 20 raises"));
        let shorter = of(vec![5; 30]);
        assert_eq!(shorter.plan_with(declared, &config).told(), "declared 15m");
        let allowed = LearnConfig { shorter_lead_time: true, ..config };
        assert_eq!(shorter.plan_with(declared, &allowed).span, Span::from_mins(5));
        assert_eq!(LeadTimes::default().plan_with(declared, &allowed).actions, 0);
    }

    #[test]
    fn the_order_statistic_is_that_of_the_binomial_tables() {
        // 1 - 0.95^58 = 0.9490 and 1 - 0.95^59 = 0.9515; of 93 the last but one: 1 - 0.95^93 - 93 * 0.05 * 0.95^92 = 0.9500.
        assert_eq!((order(20), order(58), order(59), order(92), order(93)), (19, 57, 58, 91, 91));
        assert_eq!(of((1..=59).rev()).bound(), Some(Span::from_mins(59)));
        assert_eq!(of(1..=93).bound(), Some(Span::from_mins(92)));
    }

    #[test]
    fn it_covers_the_percentile_as_often_as_it_says() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut covers = |count: usize| {
            // Exponential: its 95th percentile is -ln 0.05 times the mean.
            let mut times = LeadTimes::default();
            for _ in 0..count {
                #[expect(clippy::cast_possible_truncation, reason = "far below the range")]
                let micros = (-random.random::<f64>().max(1e-12).ln() * 6e8) as i64;
                times.add(Span::from_micros(micros));
            }
            times.bound().is_some_and(|bound| bound.as_secs_f64() >= 600.0 * 2.9957)
        };
        for count in [60, 200, 400] {
            let held = (0..400).filter(|_| covers(count)).count();
            assert!(held >= 370, "{held} of 400 with {count} actions");
        }
    }
}
