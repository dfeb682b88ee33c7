//! The bound against values worked out otherwise and against chance; what is earned and lost.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

fn at(minute: i64) -> EventTime {
    EventTime::from_micros(0) + headroom_proto::Span::from_mins(minute)
}

/// The evidence by the trapezium rule over the mixture, without the incomplete beta function.
fn evidence_by_summing(good: u32, bad: u32, p: f64) -> f64 {
    const STEPS: u32 = 200_000;
    let width = (1.0 - p) / f64::from(STEPS);
    let (g, b) = (f64::from(good), f64::from(bad));
    let ratio = |q: f64| (q / p).powf(g) * ((1.0 - q) / (1.0 - p)).powf(b);
    let inner: f64 = (1..STEPS).map(|step| ratio(p + f64::from(step) * width)).sum();
    (inner + f64::midpoint(ratio(p), ratio(1.0))) * width / (1.0 - p)
}

#[test]
fn the_evidence_is_the_mixture_of_the_ratios() {
    for (good, bad, p) in [(1, 0, 0.3), (20, 0, 0.8), (18, 2, 0.7), (5, 40, 0.05), (300, 12, 0.9)] {
        let (computed, summed) = (Evidence::new(good, bad).ln_against(p), evidence_by_summing(good, bad, p).ln());
        // The rule's error is of the order of the squared step.
        assert!((computed - summed).abs() < 1e-5 * summed.abs().max(1.0), "{good}, {bad}, {p}: {computed}, {summed}");
    }
}

#[test]
fn the_bound_rises_with_good_outcomes_and_stays_below_that_of_clopper_and_pearson() {
    // Of n good ones out of n, Clopper and Pearson's lower bound is alpha^(1/n).
    for n in [1_u32, 5, 10, 20, 50, 200] {
        let bound = lower_bound(n, 0, 0.05);
        assert!(bound < 0.05_f64.powf(1.0 / f64::from(n)), "{n}: {bound}");
        assert!(lower_bound(n + 1, 0, 0.05) > bound && lower_bound(n, 1, 0.05) < bound, "{n}: {bound}");
    }
    // (1 - p^21) / (21 (1 - p) p^20) = 20 at p = 0.802.
    assert!((lower_bound(20, 0, 0.05) - 0.802).abs() < 0.002, "{}", lower_bound(20, 0, 0.05));
    assert!(lower_bound(0, 5, 0.05) <= 0.0 && lower_bound(0, 0, 0.05) <= 0.0);
    assert!(lower_bound(1_900, 100, 0.05) > 0.93);
}

#[test]
fn at_no_time_does_the_bound_pass_the_rate_more_often_than_alpha() {
    let mut random = SmallRng::seed_from_u64(7);
    for rate in [0.5, 0.8, 0.95] {
        const RUNS: u32 = 400;
        let mut passed = 0_u32;
        for _ in 0..RUNS {
            let (mut good, mut bad) = (0, 0);
            let wrong = (0..100).any(|_| {
                if random.random::<f64>() < rate {
                    good += 1
                } else {
                    bad += 1
                }
                lower_bound(good, bad, 0.05) > rate
            });
            passed += u32::from(wrong);
        }
        // 5 % of 400 is 20, with a standard deviation of 4.4.
        assert!(passed <= 30, "seed 7, rate {rate}: {passed} of {RUNS}");
    }
}

#[test]
fn a_stage_is_earned_and_lost_and_must_be_earned_anew() {
    let config = EarnConfig { enabled: true, expand_after: 30, ..EarnConfig::default() };
    let mut earned = Earned::default();
    let mut turns = Vec::new();
    for minute in 1..=40 {
        earned.mark(&format!("a{minute}"), at(minute), true);
        turns.extend(earned.review(&config).map(|turn| (minute, turn.to)));
    }
    assert_eq!(turns, [(20, Stage::Automate), (30, Stage::Expand)]);
    // Bad ones pull the bound below what is asked for.
    let mut lost = None;
    for minute in 41..=48 {
        earned.mark(&format!("a{minute}"), at(minute), false);
        let number = u32::try_from(minute).expect("few");
        lost = lost.or(earned.review(&config).map(|turn| (number, turn)));
    }
    let (minute, turn) = lost.expect("it is lost");
    assert_eq!((turn.from, turn.to, turn.anew), (Stage::Expand, Stage::Recommend, false));
    assert!(turn.reason.contains(&format!("40 of {minute}")) && turn.reason.contains("0.8"), "{}", turn.reason);
    let (before, after) = (lower_bound(40, minute - 41, 0.05), lower_bound(40, minute - 40, 0.05));
    assert!(before >= 0.8 && after < 0.8, "lost at once, and not before: {before}, {after}");

    let turn = earned.lose(at(50), "a failed verification");
    assert_eq!(turn, None, "there was nothing to lose any more");
    assert_eq!(earned.track(0.95).total, 0);
    earned.mark("late", at(50), true);
    assert_eq!(earned.track(0.95).total, 0, "what was decided before does not count");
    for minute in 51..=80 {
        earned.mark(&format!("a{minute}"), at(minute), true);
        earned.review(&config);
    }
    assert_eq!(earned.earned(), Stage::Expand);
    let turn = earned.lose(at(90), "a stale model").expect("lost");
    assert_eq!(
        (turn.from, turn.to, turn.anew, turn.reason.as_str()),
        (Stage::Expand, Stage::Recommend, true, "a stale model")
    );

    let mut restored = Earned::default();
    restored.mark("old", at(80), true);
    restored.restore(Stage::Recommend, at(90), "a stale model", true);
    restored.mark("new", at(91), true);
    assert_eq!((restored.earned(), restored.track(0.95).total), (Stage::Recommend, 1));
}

#[test]
fn an_action_counts_once_and_a_bad_one_stays_bad() {
    let mut earned = Earned::default();
    for good in [true, false, true] {
        earned.mark("a", at(1), good);
    }
    let track = earned.track(0.95);
    assert_eq!((track.good, track.total), (0, 1));
}
