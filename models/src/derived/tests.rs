//! The truths here are made up, and known: queues by Erlang's formula, sessions by Little's law, growth by a rule.

use super::*;
use crate::boost::random::Random;

/// Between 0 and 1, evenly.
fn even(random: &mut Random) -> f64 {
    (random.next() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Around 1, by so much on the log scale (the sum of twelve even numbers is nearly normal).
fn noise(random: &mut Random, size: f64) -> f64 {
    let normal: f64 = (0..12).map(|_| even(random)).sum::<f64>() - 6.0;
    (size * normal).exp()
}

/// Mean time in an M/M/c queue over its service time, by Erlang's C formula.
fn erlang(servers: i32, utilisation: f64) -> f64 {
    let offered = f64::from(servers) * utilisation;
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..servers {
        term *= offered / f64::from(k);
        sum += term;
    }
    let waiting = term * offered / f64::from(servers) / (1.0 - utilisation);
    let share = waiting / (sum + waiting);
    1.0 + share / (f64::from(servers) * (1.0 - utilisation))
}

/// Windows of a queue whose units bear a load of 100, at utilisations between these.
fn windows(servers: i32, between: (f64, f64), count: u32, seed: u64) -> Vec<LatencySample> {
    let mut random = Random::seeded(seed);
    let window = |_| {
        let utilisation = between.0 + (between.1 - between.0) * even(&mut random);
        LatencySample {
            load: 100.0 * utilisation,
            latency: 5.0 * erlang(servers, utilisation) * noise(&mut random, 0.1),
        }
    };
    (0..count).map(window).collect()
}

#[test]
fn latency_of_a_queue_is_told_beyond_what_was_seen() {
    for servers in [1, 4, 16] {
        let seen = windows(servers, (0.1, 0.75), 2_000, 7);
        let curve = LatencyCurve::fit(&seen).expect("latency rises");
        // With many servers next to nobody waits at 75 %: then the windows do not tell where the capacity is.
        let is_told = (curve.capacity() / 100.0 - 1.0).abs() < 0.15;
        assert!(is_told || servers == 16, "{servers} servers: {}", curve.capacity());
        // Busier than any window: the interval must hold the truth, and not by being endless.
        for utilisation in [0.5, 0.7, 0.8, 0.85] {
            let truth = 5.0 * erlang(servers, utilisation);
            let told = curve.at(&[100.0 * utilisation]);
            assert!(told.low <= truth && truth <= told.high, "{servers} at {utilisation}: {truth} {told:?}");
            let is_near = (told.middle / truth).ln().abs() < 0.2;
            assert!(is_near || servers == 16, "{servers} at {utilisation}: {truth} {told:?}");
        }
        assert!(curve.at(&[150.0]).middle.is_infinite(), "more than a unit bears");
        // A load that is unsure makes the latency unsure, most upwards.
        let (sure, unsure) = (curve.at(&[70.0; 9]), curve.at(&[50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 84.0, 88.0]));
        assert!(unsure.high > 1.1 * sure.high && unsure.low < sure.middle, "{sure:?} {unsure:?}");
    }
}

#[test]
fn eight_of_ten_new_windows_are_within_the_latency_told() {
    let curve = LatencyCurve::fit(&windows(8, (0.2, 0.8), 1_500, 3)).expect("latency rises");
    let new = windows(8, (0.6, 0.85), 2_000, 11);
    let within = new.iter().filter(|window| {
        let told = curve.at(&[window.load]);
        told.low <= window.latency && window.latency <= told.high
    });
    let share = within.count() as f64 / new.len() as f64;
    assert!((0.76..0.92).contains(&share), "{share}");
}

#[test]
fn latency_that_does_not_follow_load_is_not_told() {
    let mut random = Random::seeded(5);
    let flat: Vec<LatencySample> =
        (1..500).map(|k| LatencySample { load: f64::from(k), latency: 3.0 * noise(&mut random, 0.2) }).collect();
    let reason = LatencyCurve::fit(&flat).expect_err("flat");
    assert!(reason.contains("does not rise"), "{reason}");
    let reason = LatencyCurve::fit(&flat[..100]).expect_err("few");
    assert!(reason.contains("100 windows"), "{reason}");
}

#[test]
fn sessions_follow_littles_law() {
    let mut random = Random::seeded(9);
    // 20 ms each, and longer the more there are.
    let truth = |load: f64| load * (0.02 + 0.000_1 * load);
    let sample = |_| {
        let load = 20.0 + 180.0 * even(&mut random);
        SessionsSample { load, sessions: truth(load) * noise(&mut random, 0.1) }
    };
    let seen: Vec<SessionsSample> = (0..600).map(sample).collect();
    let sessions = Sessions::fit(&seen).expect("enough");
    for load in [40.0, 100.0, 180.0] {
        let told = sessions.at(&[load]);
        assert!(told.low < truth(load) && truth(load) < told.high, "{load}: {told:?}");
        assert!((told.middle / truth(load) - 1.0).abs() < 0.1, "{load}: {told:?}");
    }
    assert!((sessions.held_s(100.0) - 0.03).abs() < 0.003);
    assert!(Sessions::fit(&seen[..10]).expect_err("few").contains("10 windows"));
}

#[test]
fn a_pool_suffices_as_often_as_is_said() {
    // Quantiles of the Poisson distribution, from scipy 1.17.1 (scipy.stats.poisson.ppf).
    for (mean, share, expected) in [(0.5, 0.99, 3), (5.0, 0.99, 11), (50.0, 0.99, 67), (50.0, 0.5, 50), (0.0, 0.99, 0)]
    {
        assert_eq!(pool_for(mean, share), expected, "{mean} {share}");
    }
    assert!((i64::try_from(pool_for(2_000.0, 0.99)).expect("small") - 2_105).abs() <= 2);
}

/// Days of storage that grows by about 10 a day, less at weekends, with one purge.
fn days(count: usize, seed: u64) -> Vec<Option<f64>> {
    let mut random = Random::seeded(seed);
    let mut value = 1_000.0;
    let day = |day: usize| {
        let weekday = if day % 7 >= 5 { 4.0 } else { 12.0 };
        value += weekday * noise(&mut random, 0.5) - if day == 40 { 60.0 } else { 0.0 };
        (day % 13 != 3).then_some(value)
    };
    (0..count).map(day).collect()
}

#[test]
fn storage_weeks_ahead_is_within_the_interval_as_often_as_is_said() {
    let (mut within, mut error) = (0, 0.0);
    for seed in 0..40 {
        let all = days(98, seed);
        let growth = Growth::fit(&all[..70], 28).expect("enough days");
        let (told, came) = (growth.after(27), all[96].expect("a value"));
        within += i32::from(told.low <= came && came <= told.high);
        error += (told.middle / came - 1.0).abs() / 40.0;
    }
    assert!((26..=38).contains(&within), "{within} of 40");
    assert!(error < 0.03, "{error}");
    assert!(Growth::fit(&days(20, 1), 28).expect_err("few").contains("28 are needed"));
}

#[test]
fn a_limit_is_crossed_when_the_paths_do() {
    let straight: Vec<Option<f64>> = (0..60).map(|day| Some(100.0 + 2.0 * f64::from(day))).collect();
    let growth = Growth::fit(&straight, 84).expect("enough days");
    // The last is 218: 250 is passed on the 16th day.
    assert_eq!(growth.crosses(250.0), Crossing { early: Some(16), middle: Some(16), late: Some(16) });
    assert_eq!(growth.crosses(1_000.0), Crossing { early: None, middle: None, late: None });
    assert!((growth.after(10).middle - 238.0).abs() < 1e-9);
    let noisy = Growth::fit(&days(70, 4), 84).expect("enough days").crosses(2_200.0);
    assert!(noisy.early < noisy.middle || noisy.late.is_none(), "{noisy:?}");
}
