//! The ensemble: a weighted mean of the families' paths on the log scale, each weighted by how it did of late, apart for
//! quiet steps and steps within events.
//!
//! A power of the inverse loss as weight is one of the oldest ways to combine forecasts (Bates and Granger, 1969), and
//! keeps whoever is nearly as good as the best. Between two full hours the members' distances from the short ridge are
//! kept, so that the ridge's look at the last minutes moves the whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calibration::Centres;
use crate::scales::log;

/// Power of the inverse loss.
const POWER: f64 = 8.0;
/// Weights below this share of the largest are dropped.
const LEAST: f64 = 0.1;
/// Loss is forgotten by half in a week.
const KEPT_PER_HOUR: f64 = 0.995_882;
/// Below this share of all load the events tell too little of their own.
const ENOUGH_EVENTS: f64 = 0.01;
/// Intervals are no narrower than this, on the log scale.
const MIN_WIDTH: f64 = 0.005;

/// Loss of a family of late, on quiet steps and on steps within events.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Recent {
    pinball: [f64; 2],
    actual: [f64; 2],
}

impl Recent {
    pub(crate) fn add(&mut self, event: bool, pinball: f64, actual: f64) {
        let [quiet, during] = &mut self.pinball;
        *(if event { during } else { quiet }) += pinball;
        let [quiet, during] = &mut self.actual;
        *(if event { during } else { quiet }) += actual;
    }

    /// An hour has passed.
    pub(crate) fn fade(&mut self) {
        for sum in self.pinball.iter_mut().chain(&mut self.actual) {
            *sum *= KEPT_PER_HOUR;
        }
    }

    /// Pinball loss over actual; none when nothing has matured.
    fn loss(&self, event: bool) -> Option<f64> {
        let total: f64 = self.actual.iter().sum();
        let [_, during] = self.actual;
        let loss = if event && during > ENOUGH_EVENTS * total {
            self.pinball[1] / during
        } else {
            self.pinball.iter().sum::<f64>() / total
        };
        loss.is_finite().then_some(loss.max(1e-9))
    }
}

/// One family's part in a forecast.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) recent: Recent,
    /// Of a family of which nothing has matured yet.
    pub(crate) prior: f64,
    pub(crate) medians_log: Vec<f64>,
    /// Half of its calibrated interval of 80 %, on the log scale.
    pub(crate) widths: Vec<f64>,
}

impl Part {
    /// From a path's quantiles: `values[step * levels + level]`.
    pub(crate) fn new(recent: Recent, prior: f64, levels: &[f64], values: &[f32]) -> Self {
        let at = |row: &[f32], level: f64| log(crate::score::at_level(levels, row, level));
        let rows = || values.chunks_exact(levels.len().max(1));
        let width = |row| ((at(row, 0.9) - at(row, 0.1)) / 2.0).max(MIN_WIDTH);
        Self { recent, prior, medians_log: rows().map(|row| at(row, 0.5)).collect(), widths: rows().map(width).collect() }
    }
}

/// The members' common path at the last full hour, as its distance from the anchor's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Blend {
    origin_us: i64,
    deltas: Vec<f32>,
    widths: Vec<f32>,
}

impl Blend {
    /// Joins the parts, the first of which is the anchor.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits are plenty")]
    pub(crate) fn join(&mut self, origin_us: i64, parts: &[Part], event_steps: &[bool]) {
        let Some(anchor) = parts.first() else { return };
        let weights = [weights(parts, false), weights(parts, true)];
        let of = |event: bool| if event { &weights[1] } else { &weights[0] };
        let mean = |step: usize, event: bool, values: fn(&Part) -> &[f64]| {
            let values = parts.iter().map(|part| values(part).get(step).copied().unwrap_or_default());
            values.zip(of(event)).map(|(value, weight)| value * weight).sum::<f64>()
        };
        self.origin_us = origin_us;
        let steps = || event_steps.iter().enumerate().zip(&anchor.medians_log);
        self.deltas =
            steps().map(|((step, event), base)| (mean(step, *event, |part| &part.medians_log) - base) as f32).collect();
        self.widths = steps().map(|((step, event), _)| mean(step, *event, |part| &part.widths) as f32).collect();
    }

    /// The common path from `origin_us` on, over the anchor's medians there; none before the first full hour.
    pub(crate) fn over(&self, anchor_log: &[f64], origin_us: i64, step_us: i64) -> Option<Centres> {
        let last = self.deltas.len().checked_sub(1)?;
        let passed = usize::try_from((origin_us - self.origin_us).div_euclid(step_us)).ok()?;
        let at = |values: &[f32], step: usize| f64::from(values.get((step + passed).min(last)).copied().unwrap_or(0.0));
        let medians = anchor_log.iter().enumerate().map(|(step, base)| base + at(&self.deltas, step)).collect();
        let widths = vec![1.0; anchor_log.len()];
        Some(Centres { medians, widths })
    }
}

/// What each family counts for, by name: on quiet steps and on steps within events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shares(BTreeMap<String, [f64; 2]>);

impl Shares {
    /// Of families with these recent losses and priors.
    pub(crate) fn of(families: impl IntoIterator<Item = (&'static str, Recent, f64)>) -> Self {
        let (names, parts): (Vec<_>, Vec<_>) = families
            .into_iter()
            .map(|(name, recent, prior)| (name, Part { recent, prior, medians_log: Vec::new(), widths: Vec::new() }))
            .unzip();
        let shares = weights(&parts, false).into_iter().zip(weights(&parts, true));
        Self(names.into_iter().map(str::to_owned).zip(shares.map(|(quiet, event)| [quiet, event])).collect())
    }

    /// Parameters for the record.
    pub(crate) fn parameters(&self) -> serde_json::Value {
        let rounded = |share: f64| (share * 1e4).round() / 1e4;
        let of = |which: usize| {
            let shares = self.0.iter().filter_map(|(name, shares)| Some((name.clone(), rounded(*shares.get(which)?).into())));
            serde_json::Value::Object(shares.collect())
        };
        serde_json::json!({ "quiet": of(0), "events": of(1) })
    }
}

/// Shares of the parts, which add up to one.
fn weights(parts: &[Part], event: bool) -> Vec<f64> {
    let losses: Vec<Option<f64>> = parts.iter().map(|part| part.recent.loss(event)).collect();
    let best = losses.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let raw = |(part, loss): (&Part, &Option<f64>)| match loss {
        Some(loss) => (best / loss).powf(POWER),
        None if best.is_finite() => 0.0,
        None => part.prior,
    };
    let mut weights: Vec<f64> = parts.iter().zip(&losses).map(raw).collect();
    let largest = weights.iter().copied().fold(0.0, f64::max);
    weights.iter_mut().filter(|weight| **weight < LEAST * largest).for_each(|weight| *weight = 0.0);
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum.max(1e-12)).collect()
}
