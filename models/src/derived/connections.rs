//! Sessions at work from load: Little's law, `L = λW` (Little, 1961). W, the time that a session is held for each unit of
//! load, is what past windows of like load had.

use super::{Range, equally_likely, groups};
use crate::scales::median;

/// Fewest windows to learn from.
const MIN_WINDOWS: usize = 48;
const GROUPS: usize = 12;

/// One window: its load, and the sessions that were at work on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionsSample {
    /// Load, in the unit of the forecast.
    pub load: f64,
    /// Average sessions at work.
    pub sessions: f64,
}

/// How long load holds sessions.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// By load, ascending: the typical load, and sessions for each unit of it.
    held: Vec<(f64, [f64; 9])>,
    /// Least and most load seen.
    pub seen: (f64, f64),
    /// Windows learned from.
    pub windows: usize,
}

impl Sessions {
    /// Learns from windows.
    ///
    /// # Errors
    /// Why it cannot: too few windows with load and sessions.
    pub fn fit(samples: &[SessionsSample]) -> Result<Self, String> {
        let usable: Vec<SessionsSample> = samples
            .iter()
            .copied()
            .filter(|sample| sample.load > 0.0 && sample.load.is_finite())
            .filter(|sample| sample.sessions >= 0.0 && sample.sessions.is_finite())
            .collect();
        if usable.len() < MIN_WINDOWS {
            return Err(format!("{} windows with load and sessions, {MIN_WINDOWS} are needed", usable.len()));
        }
        let held = groups(&usable, |sample| sample.load, GROUPS).into_iter().map(|group| {
            let typical = median(group.iter().map(|sample| sample.load).collect());
            (typical, equally_likely(group.iter().map(|sample| sample.sessions / sample.load).collect()))
        });
        let loads = usable.iter().map(|sample| sample.load);
        let seen = loads.fold((f64::INFINITY, 0.0), |(least, most), load| (load.min(least), load.max(most)));
        Ok(Self { held: held.collect(), seen, windows: usable.len() })
    }

    /// Time that a session is held for each unit of load, the median over windows of like load; in seconds when the load
    /// is a number a second.
    #[must_use]
    pub fn held_s(&self, load: f64) -> f64 {
        let [_, _, _, _, middle, ..] = self.nearest(load);
        middle
    }

    /// Average sessions at work under these equally likely loads.
    #[must_use]
    pub fn at(&self, loads: &[f64]) -> Range {
        let of = |load: &f64| self.nearest(*load).map(|held| load * held);
        Range::of(loads.iter().flat_map(of).collect())
    }

    fn nearest(&self, load: f64) -> [f64; 9] {
        let distance = |typical: f64| (typical.max(1e-12).ln() - load.max(1e-12).ln()).abs();
        let nearest = self.held.iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)));
        nearest.map_or([0.0; 9], |(_, held)| *held)
    }
}

/// Connections with which a session finds one free in this share of moments, when `sessions` are at work on average and come
/// independently: the number at work is then Poisson distributed, whatever they do (M/G/∞). More than is needed where a
/// limit holds some back.
#[must_use]
pub fn pool_for(sessions: f64, share: f64) -> u64 {
    let mean = sessions.max(0.0);
    if mean > 700.0 {
        // The normal distribution is as good there, and exp(-mean) has no digits left.
        let above = (mean + crate::calibration::normal_quantile(share) * mean.sqrt()).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of connections"
        )]
        return above as u64;
    }
    let (mut term, mut at_most, mut number) = ((-mean).exp(), (-mean).exp(), 0_u32);
    while at_most < share && number < 100_000 {
        number += 1;
        term *= mean / f64::from(number);
        at_most += term;
    }
    u64::from(number)
}
