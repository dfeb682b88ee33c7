use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// γ = 100, α = 0.03, β = 0.0004: 20 units serve 1164, and beyond 49 more serve less.
const LAW: [f64; 3] = [100.0, 0.03, 0.0004];

fn served(units: u32) -> f64 {
    let [gamma, alpha, beta] = LAW;
    let units = f64::from(units);
    gamma * units / (1.0 + alpha * (units - 1.0) + beta * units * (units - 1.0))
}

/// Windows of a day's wave on 2 to 20 units; `noise` is the relative deviation of what is measured.
fn samples(count: u32, busiest: f64, noise: f64, by_latency: bool, seed: u64) -> Vec<Sample> {
    let mut random = SmallRng::seed_from_u64(seed);
    let window = |number: u32| {
        let units = 2 + 2 * (number / 7 % 10);
        let wave = 0.5 + 0.5 * (f64::from(number) / 17.0).sin();
        let share = busiest * (0.1 + 0.9 * wave);
        let wobble =
            1.0 + noise * (random.random::<f64>() + random.random::<f64>() + random.random::<f64>() - 1.5) * 2.0;
        let outlier = if number % 40 == 3 { 1.8 } else { 1.0 };
        let busy = if by_latency {
            Busy::Latency(4.0 / (1.0 - share) * wobble * outlier)
        } else {
            Busy::Utilisation(share * wobble * outlier)
        };
        Sample { units, load: share * served(units), busy }
    };
    (0..count).map(window).collect()
}

#[test]
fn the_law_is_found_again_from_utilisation_and_from_latency() {
    for by_latency in [false, true] {
        for seed in 1..=5 {
            let curve = fit(&samples(800, 0.9, 0.05, by_latency, seed), &LearnConfig::default(), seed).expect("fits");
            for units in [2, 5, 10, 20] {
                let error = curve.capacity(units) / served(units) - 1.0;
                assert!(error.abs() < 0.05, "{units} units, by latency {by_latency}, seed {seed}: {error} {curve:?}");
            }
            let [gamma, alpha, beta] = curve.law();
            assert!((gamma - 100.0).abs() < 8.0 && (alpha - 0.03).abs() < 0.02, "{gamma} {alpha} {beta}, seed {seed}");
            assert_eq!((curve.windows, curve.fewest_units, curve.most_units), (800, 2, 20));
        }
    }
}

#[test]
fn the_interval_holds_the_capacity_about_as_often_as_it_says() {
    let is_above_low = |seed: u64| {
        let curve = fit(&samples(300, 0.9, 0.15, false, seed), &LearnConfig::default(), seed).expect("fits");
        // Outliers, one in forty windows, are all upwards: they make the units look busier than they are.
        served(12) >= curve.interval(12).0
    };
    let held = (1..=40).filter(|seed| is_above_low(*seed)).count();
    assert!(held >= 36, "{held} of 40");
}

#[test]
fn what_cannot_be_known_is_refused_and_says_why() {
    let config = LearnConfig::default();
    let refused = |samples: &[Sample]| fit(samples, &config, 1).expect_err("refused");
    assert_eq!(refused(&samples(150, 0.9, 0.05, false, 1)), Refusal::Few { seen: 150, needed: 200 });
    let Refusal::Idle { busiest } = refused(&samples(400, 0.3, 0.05, true, 1)) else { panic!("never near saturation") };
    assert!(busiest < 0.5, "{busiest}");
    assert!(matches!(refused(&samples(400, 0.3, 0.05, false, 1)), Refusal::Idle { .. }));
    let mut one_size = samples(400, 0.9, 0.05, false, 1);
    one_size.iter_mut().for_each(|sample| sample.units = 4);
    assert_eq!(refused(&one_size), Refusal::Sizes { sizes: 1 });
    let mut unrelated = samples(400, 0.9, 0.05, false, 1);
    let mut random = SmallRng::seed_from_u64(2);
    unrelated.iter_mut().for_each(|sample| sample.busy = Busy::Utilisation(random.random()));
    assert!(matches!(refused(&unrelated), Refusal::Unexplained { .. } | Refusal::Wide { .. }));
    let narrow = LearnConfig { max_width: 0.001, ..config.clone() };
    let wide = fit(&samples(400, 0.9, 0.1, false, 1), &narrow, 1).expect_err("wide").to_string();
    assert!(wide.contains("20 units") && wide.contains("too wide"), "{wide}");
    let mut broken = samples(400, 0.9, 0.05, false, 1);
    broken.iter_mut().for_each(|sample| sample.load = f64::NAN);
    assert_eq!(refused(&broken), Refusal::Few { seen: 0, needed: 200 });
}

#[test]
fn units_are_sized_with_what_they_surely_serve_and_never_beyond_the_best_number() {
    let curve = fit(&samples(800, 0.9, 0.05, false, 3), &LearnConfig::default(), 3).expect("fits");
    let units = curve.units_for(600.0, 0.7, 1, 1_000);
    assert!(curve.interval(units).0 * 0.7 >= 600.0 && curve.interval(units - 1).0 * 0.7 < 600.0, "{units}");
    // 600 / 70 = 8.6 would be 9 units without contention.
    assert!(units > 9, "{units}");
    let most = curve.units_for(1e9, 0.7, 1, 1_000);
    assert!((20..=80).contains(&most), "{most}");
    assert!(curve.interval(most).0 >= curve.interval(most + 1).0);
    assert_eq!(curve.units_for(1e9, 0.7, 1, 15), 15);
    let told = curve.told(10);
    assert!(told.starts_with("learned ") && told.ends_with("from 800 windows"), "{told}");
    let (inverse, covariance) = curve.parts();
    assert_eq!(Curve::from_parts(inverse, covariance, 800, (2, 20)), Some(curve));
    assert_eq!(Curve::from_parts([0.0; 3], covariance, 800, (2, 20)), None);
}
