use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Windows of five minutes in a day, and in a hold of an hour.
const DAY: usize = 288;
const HOLD: usize = 12;

/// Windows of load and guards. Load has the day's course; the noise of load and of latency lasts as long as that of the
/// bundled trace: what its logarithm leaves of the median of its last days at that time has the autocorrelations 0.94, 0.83
/// and 0.78 at lags 1, 12 and 24, and this noise 0.94, 0.85 and 0.80. Latency rises with load and has heavy tails; errors
/// are rare and come in bursts.
struct Course {
    dice: SmallRng,
    load: Noise,
    latency: Noise,
    burst: f64,
    at: usize,
}

/// A slow part with nine tenths of the variance, 1 in all, and a fast one.
#[derive(Default)]
struct Noise {
    slow: f64,
    fast: f64,
}

impl Noise {
    fn next(&mut self, one: f64, other: f64) -> f64 {
        let step = |last: f64, kept: f64, dice: f64| kept * last + (1.0 - kept * kept).sqrt() * dice;
        self.slow = step(self.slow, 0.995, one);
        self.fast = step(self.fast, 0.4, other);
        0.9_f64.sqrt() * self.slow + 0.1_f64.sqrt() * self.fast
    }
}

impl Course {
    fn new(seed: u64) -> Self {
        let dice = SmallRng::seed_from_u64(seed);
        let mut course = Self { dice, load: Noise::default(), latency: Noise::default(), burst: 0.0, at: 0 };
        course.at = course.dice.random_range(0..DAY);
        course.load.slow = course.normal();
        course.latency.slow = course.normal();
        course
    }

    /// About normal: the sum of uniforms.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.dice.random::<f64>()).sum::<f64>() - 6.0
    }

    fn next(&mut self) -> Sample {
        self.at += 1;
        let hour = (self.at % DAY) as f64 / DAY as f64;
        let dice: [f64; 4] = std::array::from_fn(|_| self.normal());
        let tail = if self.dice.random_bool(0.01) { 4.0 } else { 1.0 };
        let load_noise = 0.3 * self.load.next(dice[0], dice[1]);
        let latency_noise = 0.15 * self.latency.next(dice[2], tail * dice[3]);
        self.burst = if self.dice.random_bool(0.005) { 0.01 } else { 0.7 * self.burst };
        let load = (1.0 + 0.6 * (hour * std::f64::consts::TAU).sin()) * load_noise.exp() * 200.0;
        let latency = (20.0 + load / 10.0) * latency_noise.exp();
        let errors = 0.004 * self.dice.random::<f64>() + self.burst;
        let locks = (load / 100.0 * self.dice.random::<f64>()).floor();
        let values = vec![latency, errors, locks, f64::NAN, f64::NAN, latency * 0.8];
        Sample { load, values }
    }

    fn take(&mut self, count: usize) -> Vec<Sample> {
        (0..count).map(|_| self.next()).collect()
    }
}

fn harmful_after(config: &VerifyConfig, before: &[Sample], after: &[Sample]) -> Option<usize> {
    (1..=after.len()).find(|seen| config.weigh(&config.guards, before, &after[..*seen], HOLD).is_harmful)
}

#[test]
fn harmless_changes_are_rolled_back_more_seldom_than_stated() {
    let config = VerifyConfig::default();
    for days in [2, 7] {
        let runs = 2_000;
        let mut reverted = 0;
        for seed in 0..runs {
            let mut course = Course::new(seed);
            // Between the change and its units being ready pass a quarter of an hour.
            let (before, _, after) = (course.take(days * DAY), course.take(3), course.take(HOLD));
            // The last look is the worst, since the evidence never falls while a block fills.
            reverted += u32::from(config.weigh(&config.guards, &before, &after, HOLD).is_harmful);
        }
        let rate = f64::from(reverted) / runs as f64;
        eprintln!("{days} days of history: {rate} of {runs} reverted");
        // Stated: 0.01; three standard errors of 2,000 runs are 0.0067.
        assert!(rate <= config.alpha + 0.0067, "{days} days: {rate}");
    }
}

#[test]
fn harm_is_found_soon() {
    let config = VerifyConfig::default();
    type Harm = fn(&mut Sample);
    // The share that is to be found within four windows. Latency varies by 15 % for hours and has heavy tails, which hide
    // some of it: 169 of 200 were found so, and 149 where it varies by 25 %; of the others all.
    let harms: [(&str, u32, Harm); 3] = [
        ("latency", 80, |sample| sample.values[0] *= 3.0),
        ("errors", 98, |sample| sample.values[1] = 3.0 * sample.values[1] + 0.02),
        ("lock waits", 98, |sample| sample.values[2] = 3.0 * sample.values[2] + 10.0),
    ];
    for (what, percent, harm) in harms {
        let runs = 200;
        let mut found = 0;
        for seed in 0..runs {
            let mut course = Course::new(10_000 + seed);
            let (before, mut after) = (course.take(7 * DAY), course.take(HOLD));
            after.iter_mut().for_each(harm);
            found += u32::from(harmful_after(&config, &before, &after).is_some_and(|windows| windows <= 4));
        }
        eprintln!("{what}: {found} of {runs} within 4 windows");
        assert!(u64::from(found) * 100 >= runs * u64::from(percent), "{what}: {found} of {runs}");
    }
}

#[test]
fn the_evidence_never_falls_and_says_what_is_worst() {
    let config = VerifyConfig::default();
    let mut course = Course::new(1);
    let (before, mut after) = (course.take(7 * DAY), course.take(HOLD));
    for sample in &mut after[4..] {
        sample.values[1] += 0.2;
    }
    let mut last = 0.0;
    for seen in 1..=HOLD {
        let evidence = config.weigh(&config.guards, &before, &after[..seen], HOLD);
        assert!(evidence.e_value >= last, "{seen}: {evidence:?}");
        last = evidence.e_value;
        assert_eq!((evidence.judged, evidence.block, evidence.is_harmful), (seen, HOLD, seen >= 5), "{evidence:?}");
    }
    let evidence = config.weigh(&config.guards, &before, &after, HOLD);
    assert_eq!(config.guards[evidence.guard.expect("one")].column, "error_ratio");
    assert!(evidence.observed > 0.19 && evidence.usual < 0.01, "{evidence:?}");
    assert_eq!(evidence.references, 7 * DAY / HOLD);
}

#[test]
fn a_short_history_shortens_the_block_and_none_says_nothing() {
    let config = VerifyConfig::default();
    assert_eq!(config.references_needed(), 120);
    assert_eq!([119, 120, 300, 7 * DAY].map(|before| config.block(before, HOLD)), [0, 1, 2, 12]);
    let mut course = Course::new(2);
    let (before, after) = (course.take(100), course.take(HOLD));
    assert_eq!(config.weigh(&config.guards, &before, &after, HOLD), Evidence::default());
    let mut nothing = VerifyConfig { alpha: 0.0, ..VerifyConfig::default() };
    nothing.guards[0].tolerance = 0.0;
    nothing.guards[0].floor = 0.0;
    assert_eq!(nothing.problems().len(), 2);
    assert!(VerifyConfig::default().problems().is_empty());
}
