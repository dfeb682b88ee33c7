//! Latency from load for each unit: `R = S · (1 + C(c, ρ) / (c(1 - ρ)))` with `ρ` the load over a unit's capacity and C the
//! chance to wait in a queue with c servers (Erlang, 1917); with c = 1 it is also that of a server that is shared, `S / (1 - ρ)`.
//!
//! Robust: windows are put together by load, and the curve is that with the least absolute errors of the log. Curves that
//! fit nearly as well may differ much beyond what was seen, so all of them count in the interval.

use super::{Range, equally_likely, groups};
use crate::scales::{median, quantile};

const MIN_WINDOWS: usize = 200;
const GROUPS: usize = 40;
/// Servers within a unit that are tried.
const SERVERS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Capacities that are tried, as a factor of the highest load: from nearly saturated to never seen busy.
const FACTORS: usize = 60;
const FROM: f64 = 1.02;
const TO: f64 = 20.0;
/// A curve must leave less than this share of the error of no curve at all.
const EXPLAINS: f64 = 0.8;
/// Curves whose error is up to this many times the least are as likely.
const AS_LIKELY: f64 = 1.1;
/// From this utilisation on there is no latency to tell: requests pile up.
const SATURATED: f64 = 0.99;

/// One window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatencySample {
    /// Load for each unit that was ready.
    pub load: f64,
    /// Latency, in any unit.
    pub latency: f64,
}

/// A curve that may have made the windows.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    servers: u32,
    capacity: f64,
    log_service: f64,
}

/// What latency does with load, at a given number of units.
#[derive(Clone, Debug)]
pub struct LatencyCurve {
    /// The best first.
    candidates: Vec<Candidate>,
    /// How far windows are from the best curve, on the log scale.
    residuals: [f64; 9],
    /// Highest load for each unit that was seen.
    pub seen: f64,
    /// Windows learned from.
    pub windows: usize,
}

impl Candidate {
    fn log_latency(&self, load: f64) -> f64 {
        let utilisation = load / self.capacity;
        if utilisation >= SATURATED {
            return f64::INFINITY;
        }
        self.log_service + log_shape(self.servers, utilisation.max(0.0))
    }
}

/// The logarithm of latency over service time.
fn log_shape(servers: u32, utilisation: f64) -> f64 {
    // Erlang's loss by its recursion, and the chance to wait from that.
    let offered = f64::from(servers) * utilisation;
    let lost = (1..=servers).fold(1.0, |lost, k| offered * lost / (f64::from(k) + offered * lost));
    let waits = lost / (1.0 - utilisation * (1.0 - lost));
    (waits / (f64::from(servers) * (1.0 - utilisation))).ln_1p()
}

impl LatencyCurve {
    /// Learns from windows.
    ///
    /// # Errors
    /// Why it cannot: too few windows, or a latency that does not follow the load as far as it was seen.
    pub fn fit(samples: &[LatencySample]) -> Result<Self, String> {
        let usable: Vec<LatencySample> = samples
            .iter()
            .copied()
            .filter(|sample| sample.load > 0.0 && sample.load.is_finite())
            .filter(|sample| sample.latency > 0.0 && sample.latency.is_finite())
            .collect();
        if usable.len() < MIN_WINDOWS {
            return Err(format!("{} windows with load and latency, {MIN_WINDOWS} are needed", usable.len()));
        }
        let points: Vec<(f64, f64)> = groups(&usable, |sample| sample.load, GROUPS)
            .into_iter()
            .map(|group| {
                let load = median(group.iter().map(|sample| sample.load).collect());
                (load, median(group.iter().map(|sample| sample.latency.ln()).collect()))
            })
            .collect();
        let highest = points.iter().map(|(load, _)| *load).fold(0.0, f64::max);
        let flat = median(points.iter().map(|(_, log)| *log).collect());
        let without = points.iter().map(|(_, log)| (log - flat).abs()).sum::<f64>();
        let mut tried: Vec<(f64, Candidate)> = Vec::with_capacity(SERVERS.len() * FACTORS);
        for servers in SERVERS {
            tried.extend((0..FACTORS).map(|at| fitted(&points, servers, highest * factor(at))));
        }
        tried.sort_by(|a, b| a.0.total_cmp(&b.0));
        let Some((least, best)) = tried.first().copied() else { return Err("no curve was tried".to_owned()) };
        if least > EXPLAINS * without {
            let (first, last) = (points.first().map_or(0.0, |point| point.0), highest);
            return Err(format!(
                "latency does not rise with load where it was seen, from {first:.4} to {last:.4} a unit"
            ));
        }
        let candidates = likely(&tried, AS_LIKELY * least);
        let off = usable.iter().map(|sample| sample.latency.ln() - best.log_latency(sample.load));
        let residuals = equally_likely(off.filter(|off| off.is_finite()).collect());
        let mut loads: Vec<f64> = usable.iter().map(|sample| sample.load).collect();
        loads.sort_by(f64::total_cmp);
        Ok(Self { candidates, residuals, seen: quantile(&loads, 0.999), windows: usable.len() })
    }

    /// Latency under these equally likely loads for each unit; infinite where that is more than a unit bears.
    #[must_use]
    pub fn at(&self, loads: &[f64]) -> Range {
        let mut values = Vec::with_capacity(loads.len() * self.candidates.len() * self.residuals.len());
        for load in loads {
            for log in self.candidates.iter().map(|candidate| candidate.log_latency(*load)) {
                values.extend(self.residuals.iter().map(|residual| (log + residual).exp()));
            }
        }
        Range::of(values)
    }

    /// Load at which a unit is saturated, by the most likely curve.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.candidates.first().map_or(f64::NAN, |best| best.capacity)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn factor(at: usize) -> f64 {
    FROM * (TO / FROM).powf(at as f64 / (FACTORS - 1) as f64)
}

/// The service time that fits best to servers and capacity, and the error that is left.
fn fitted(points: &[(f64, f64)], servers: u32, capacity: f64) -> (f64, Candidate) {
    let above: Vec<f64> = points.iter().map(|(load, log)| log - log_shape(servers, load / capacity)).collect();
    let log_service = median(above.clone());
    let error = above.iter().map(|log| (log - log_service).abs()).sum();
    (error, Candidate { servers, capacity, log_service })
}

/// The best of all, then for each number of servers those of the smallest and largest capacity that are as likely.
fn likely(tried: &[(f64, Candidate)], most: f64) -> Vec<Candidate> {
    let mut chosen: Vec<Candidate> = tried.first().map(|(_, best)| *best).into_iter().collect();
    for servers in SERVERS {
        let of = || tried.iter().filter(|(error, one)| *error <= most && one.servers == servers);
        chosen.extend(of().min_by(|a, b| a.1.capacity.total_cmp(&b.1.capacity)).map(|(_, one)| *one));
        chosen.extend(of().max_by(|a, b| a.1.capacity.total_cmp(&b.1.capacity)).map(|(_, one)| *one));
    }
    chosen
}
