//! How much load so many units serve, learned from windows: the Universal Scalability Law,
//! `C(N) = γN / (1 + α(N-1) + βN(N-1))` (Gunther, Guerrilla Capacity Planning, 2007): γ is what one unit serves, α what
//! they lose by waiting for each other, β by keeping each other consistent.
//!
//! A window shows what was served, which is the capacity only when nothing is left over. So the law is fitted through the
//! utilisation, `U = X / C(N)`: the measured one, or `1 - R₀/R` from the latency R of a queue that shares its server (R₀ is
//! the latency without load). Both are linear in `a = 1/γ`, `b = α/γ`, `c = β/γ` (and `1/R₀`), none of them negative:
//! `U = X/N · (a + b(N-1) + cN(N-1))` and `1/R = 1/R₀ - U/R₀`. Least squares with Huber's weights; the interval is from a
//! block bootstrap, since neighbouring windows are alike.

use serde::{Deserialize, Serialize};

mod fit;

pub use fit::{Refusal, fit};

/// Deviations of the interval. 1.645 would be one-sided 95 % of a normal distribution; in simulation that held 92 of 100
/// times, since the bootstrap knows the windows alone, and this held 95.
const Z: f64 = 1.96;
/// More units than this are not looked at when the curve is searched.
const MOST_UNITS: u32 = 100_000;

/// What is learned, and from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnConfig {
    /// Feature column with the utilisation of the ready capacity, 0..1; without it and `latency` the declared
    /// `unit_capacity` counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<String>,
    /// Feature column with a latency, in any unit; read when there is no utilisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
    /// Fewest windows that a curve is fitted to.
    pub min_windows: u32,
    /// Most windows kept; older ones are forgotten.
    pub kept_windows: u32,
    /// Widest interval of the capacity at the most units seen, as a share of it, with which a curve is used.
    pub max_width: f64,
    /// Fewest actions of a target before their lead times count.
    pub min_actions: u32,
    /// May a learned lead time be shorter than the declared one?
    pub shorter_lead_time: bool,
}

impl Default for LearnConfig {
    fn default() -> Self {
        Self {
            utilisation: None,
            latency: None,
            min_windows: 200,
            kept_windows: 4_032,
            max_width: 0.3,
            min_actions: 20,
            shorter_lead_time: false,
        }
    }
}

impl LearnConfig {
    /// Everything that is out of range.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let checks = [
            (
                (30..=self.kept_windows).contains(&self.min_windows) && self.kept_windows <= 100_000,
                "`learn.min_windows` must be 30 to `learn.kept_windows`, which is at most 100,000",
            ),
            (self.max_width > 0.0 && self.max_width <= 1.0, "`learn.max_width` must be above 0 and at most 1"),
            (self.min_actions >= 2, "`learn.min_actions` must be 2 or more"),
        ];
        checks.into_iter().filter(|(fits, _)| !fits).map(|(_, problem)| problem.to_owned()).collect()
    }
}

/// One window of a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Units that were ready.
    pub units: u32,
    /// Load that was served.
    pub load: f64,
    /// What of the window shows how busy the units were.
    pub busy: Busy,
}

/// How busy the units were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Busy {
    /// Share of the capacity, 0..1.
    Utilisation(f64),
    /// Latency, in any unit.
    Latency(f64),
}

/// A learned curve with its uncertainty.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// `1/γ`, `α/γ`, `β/γ`.
    inverse: [f64; 3],
    /// Covariance of `inverse`: 11, 12, 13, 22, 23, 33.
    covariance: [f64; 6],
    /// Windows it was learned from.
    pub windows: u32,
    /// Fewest units among them.
    pub fewest_units: u32,
    /// Most units among them.
    pub most_units: u32,
}

impl Curve {
    /// A curve from its parts; none when they describe none.
    #[must_use]
    pub fn from_parts(inverse: [f64; 3], covariance: [f64; 6], windows: u32, units: (u32, u32)) -> Option<Self> {
        let is_finite = inverse.iter().chain(&covariance).all(|value| value.is_finite());
        let fits = is_finite && inverse.iter().all(|value| *value >= 0.0) && inverse.iter().sum::<f64>() > 0.0;
        let (fewest_units, most_units) = units;
        fits.then_some(Self { inverse, covariance, windows, fewest_units, most_units })
    }

    /// `1/γ`, `α/γ`, `β/γ`, and the upper triangle of their covariance.
    #[must_use]
    pub fn parts(&self) -> ([f64; 3], [f64; 6]) {
        (self.inverse, self.covariance)
    }

    /// γ, α and β.
    #[must_use]
    pub fn law(&self) -> [f64; 3] {
        let [a, b, c] = self.inverse;
        [1.0 / a, b / a, c / a]
    }

    /// Load that so many units serve at 100 %: as likely too much as too little.
    #[must_use]
    pub fn capacity(&self, units: u32) -> f64 {
        let (cost, _) = self.cost(units);
        f64::from(units) / cost
    }

    /// Between which loads the capacity lies: one time in twenty it is below the first, one in twenty above the second.
    #[must_use]
    pub fn interval(&self, units: u32) -> (f64, f64) {
        let (cost, deviation) = self.cost(units);
        let high = cost - Z * deviation;
        let served = f64::from(units);
        (served / (cost + Z * deviation), if high > 0.0 { served / high } else { f64::INFINITY })
    }

    /// Width of the interval at the most units seen, as a share of the capacity there.
    #[must_use]
    pub fn width(&self) -> f64 {
        let (low, high) = self.interval(self.most_units);
        (high - low) / self.capacity(self.most_units)
    }

    /// Fewest units, from `min` to `max`, that serve `load` at `utilisation` of what they surely serve. Where no number
    /// does, the one that serves most: further units would get in each other's way.
    #[must_use]
    pub fn units_for(&self, load: f64, utilisation: f64, min: u32, max: u32) -> u32 {
        let (mut best, mut most) = (min, 0.0);
        for units in min..=max.min(MOST_UNITS.max(min)) {
            let (served, _) = self.interval(units);
            if served * utilisation >= load {
                return units;
            }
            if served > most {
                (best, most) = (units, served);
            } else if units > best.saturating_mul(2).saturating_add(16) {
                break;
            }
        }
        best
    }

    /// A unit's worth among so many: `learned 95.0 (88.1..103.0) from 312 windows`.
    #[must_use]
    pub fn told(&self, units: u32) -> String {
        let each = |load: f64| load / f64::from(units.max(1));
        let (low, high) = self.interval(units.max(1));
        let (served, windows) = (self.capacity(units.max(1)), self.windows);
        format!("learned {:.1} ({:.1}..{:.1}) from {windows} windows", each(served), each(low), each(high))
    }

    /// `N / C(N)` and its standard deviation.
    fn cost(&self, units: u32) -> (f64, f64) {
        let terms = terms(units);
        let [a, b, c] = terms;
        let [aa, ab, ac, bb, bc, cc] = self.covariance;
        let cost = terms.iter().zip(self.inverse).map(|(term, inverse)| term * inverse).sum::<f64>();
        let variance = a * a * aa + b * b * bb + c * c * cc + 2.0 * (a * b * ab + a * c * ac + b * c * bc);
        (cost, variance.max(0.0).sqrt())
    }
}

/// What the three coefficients are multiplied with.
fn terms(units: u32) -> [f64; 3] {
    let units = f64::from(units);
    [1.0, units - 1.0, units * (units - 1.0)]
}

#[cfg(test)]
mod tests;
