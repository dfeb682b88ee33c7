//! The curve that fits the windows best, and what keeps one from being believed.

use super::{Busy, Curve, LearnConfig, Sample, terms};

/// Coefficients: three of the law, and one over the latency without load.
const WIDTH: usize = 4;
const REWEIGHTINGS: usize = 6;
/// Huber's constant: 95 % as good as least squares where nothing is out of the ordinary.
const HUBER: f64 = 1.345;
/// Of a draw.
const DRAWN_REWEIGHTINGS: usize = 4;
const REPLICATES: usize = 200;
/// Windows that are drawn together.
const BLOCK: usize = 12;
/// Sizes that the law's three coefficients need.
const MIN_SIZES: usize = 3;
/// The busiest twentieth of the windows must be at least this busy.
const MIN_BUSY: f64 = 0.5;
/// Share of the variation that the curve must explain.
const MIN_EXPLAINED: f64 = 0.5;

/// Why there is no curve yet.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Too few windows.
    #[error("{seen} of the {needed} windows that a curve needs have come")]
    Few {
        /// Usable windows.
        seen: u32,
        /// Windows needed.
        needed: u32,
    },
    /// Too few sizes.
    #[error("only {sizes} different numbers of units were seen, and three tell how they get in each other's way")]
    Sizes {
        /// Different numbers of units.
        sizes: usize,
    },
    /// The load never came near the capacity.
    #[error("the load never came near what the units serve: their busiest was {:.0} %", busiest * 100.0)]
    Idle {
        /// Utilisation that one window in twenty was above.
        busiest: f64,
    },
    /// What is measured does not follow the load.
    #[error("load and units explain only {:.0} % of how busy the units were", explained * 100.0)]
    Unexplained {
        /// Share of the variation.
        explained: f64,
    },
    /// The interval is wide.
    #[error("the capacity of {units} units lies between {low:.1} and {high:.1}: too wide")]
    Wide {
        /// The most units seen.
        units: u32,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
}

/// A window as an equation: `terms · coefficients = value`.
#[derive(Clone, Copy, Debug)]
struct Equation {
    terms: [f64; WIDTH],
    value: f64,
    weight: f64,
}

/// Fits a curve. `seed` chooses the bootstrap's draws.
///
/// # Errors
/// Says why the windows do not tell the capacity well enough.
pub fn fit(samples: &[Sample], config: &LearnConfig, seed: u64) -> Result<Curve, Refusal> {
    let usable: Vec<&Sample> = samples.iter().filter(|sample| is_usable(sample)).collect();
    let windows = u32::try_from(usable.len()).unwrap_or(u32::MAX);
    if windows < config.min_windows {
        return Err(Refusal::Few { seen: windows, needed: config.min_windows });
    }
    let mut sizes: Vec<u32> = usable.iter().map(|sample| sample.units).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() < MIN_SIZES {
        return Err(Refusal::Sizes { sizes: sizes.len() });
    }
    let by_latency = usable.iter().all(|sample| matches!(sample.busy, Busy::Latency(_)));
    let mut equations: Vec<Equation> = usable.iter().filter_map(|sample| equation(sample, by_latency)).collect();
    let coefficients = robust(&mut equations, REWEIGHTINGS);
    let explained = explained(&equations, &coefficients);
    let busiest = busiest(&equations, by_latency, coefficients);
    if busiest < MIN_BUSY {
        return Err(Refusal::Idle { busiest });
    }
    if explained < MIN_EXPLAINED {
        return Err(Refusal::Unexplained { explained });
    }
    let covariance = bootstrap(&equations, by_latency, seed);
    let units = (sizes.first().copied().unwrap_or(1), sizes.last().copied().unwrap_or(1));
    let curve = Curve::from_parts(inverse(&coefficients, by_latency), covariance, windows, units);
    let Some(curve) = curve else { return Err(Refusal::Unexplained { explained: 0.0 }) };
    if curve.width() > config.max_width {
        let (low, high) = curve.interval(units.1);
        return Err(Refusal::Wide { units: units.1, low, high });
    }
    Ok(curve)
}

fn is_usable(sample: &Sample) -> bool {
    let measured = match sample.busy {
        Busy::Utilisation(share) => share.is_finite() && share > 0.0,
        Busy::Latency(latency) => latency.is_finite() && latency > 0.0,
    };
    measured && sample.units > 0 && sample.load.is_finite() && sample.load > 0.0
}

/// Of windows with a latency and windows with a utilisation, the latter count alone.
fn equation(sample: &Sample, by_latency: bool) -> Option<Equation> {
    let each = sample.load / f64::from(sample.units);
    let [a, b, c] = terms(sample.units).map(|term| term * each);
    match sample.busy {
        Busy::Utilisation(share) => Some(Equation { terms: [a, b, c, 0.0], value: share, weight: 1.0 }),
        Busy::Latency(latency) if by_latency => {
            Some(Equation { terms: [-a, -b, -c, 1.0], value: 1.0 / latency, weight: 1.0 })
        }
        Busy::Latency(_) => None,
    }
}

/// The law's coefficients: those of a latency are in units of the latency without load.
fn inverse(coefficients: &[f64; WIDTH], by_latency: bool) -> [f64; 3] {
    let [a, b, c, idle] = *coefficients;
    let unit = if by_latency { idle } else { 1.0 };
    [a / unit, b / unit, c / unit]
}

/// The utilisation that one window in twenty was above.
fn busiest(equations: &[Equation], by_latency: bool, coefficients: [f64; WIDTH]) -> f64 {
    let [.., idle] = coefficients;
    let busy = |equation: &Equation| if by_latency { 1.0 - equation.value / idle } else { equation.value };
    let mut shares: Vec<f64> = equations.iter().map(busy).filter(|share| share.is_finite()).collect();
    shares.sort_by(f64::total_cmp);
    shares.get(shares.len() * 19 / 20).copied().unwrap_or(0.0)
}

/// Iteratively reweighted least squares; leaves the last weights in the equations.
fn robust(equations: &mut [Equation], reweightings: usize) -> [f64; WIDTH] {
    let mut coefficients = nonnegative(equations);
    for _ in 0..reweightings {
        let mut residuals: Vec<f64> = equations.iter().map(|one| residual(one, &coefficients).abs()).collect();
        let middle = residuals.len() / 2;
        if middle == 0 {
            break;
        }
        let (_, median, _) = residuals.select_nth_unstable_by(middle, f64::total_cmp);
        // Scaled to a normal distribution's deviation.
        let scale = *median / 0.6745;
        if scale <= f64::EPSILON {
            break;
        }
        for one in equations.iter_mut() {
            let distance = residual(one, &coefficients).abs() / scale;
            one.weight = if distance <= HUBER { 1.0 } else { HUBER / distance };
        }
        coefficients = nonnegative(equations);
    }
    coefficients
}

fn residual(equation: &Equation, coefficients: &[f64; WIDTH]) -> f64 {
    let told: f64 = equation.terms.iter().zip(coefficients).map(|(term, coefficient)| term * coefficient).sum();
    equation.value - told
}

/// Weighted share of the variation that the coefficients explain.
fn explained(equations: &[Equation], coefficients: &[f64; WIDTH]) -> f64 {
    let weights: f64 = equations.iter().map(|one| one.weight).sum();
    let mean = equations.iter().map(|one| one.weight * one.value).sum::<f64>() / weights;
    let total: f64 = equations.iter().map(|one| one.weight * (one.value - mean).powi(2)).sum();
    let left: f64 = equations.iter().map(|one| one.weight * residual(one, coefficients).powi(2)).sum();
    if total > 0.0 { 1.0 - left / total } else { 0.0 }
}

/// Covariance of the law's coefficients, from draws of blocks.
fn bootstrap(equations: &[Equation], by_latency: bool, seed: u64) -> [f64; 6] {
    let mut state = seed;
    let mut draws: Vec<[f64; 3]> = Vec::with_capacity(REPLICATES);
    for _ in 0..REPLICATES {
        let starts: Vec<usize> =
            (0..equations.len().div_ceil(BLOCK)).map(|_| below(&mut state, equations.len())).collect();
        let blocks = starts.iter().flat_map(|start| equations.iter().cycle().skip(*start).take(BLOCK));
        // Weighted anew: with the weights of the whole, which know the outliers, the interval would be too narrow.
        let unweighted = blocks.take(equations.len()).map(|one| Equation { weight: 1.0, ..*one });
        let mut drawn: Vec<Equation> = unweighted.collect();
        let found = inverse(&robust(&mut drawn, DRAWN_REWEIGHTINGS), by_latency);
        if found.iter().all(|value| value.is_finite()) {
            draws.push(found);
        }
    }
    let mut covariance = [0.0; 6];
    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    let count = draws.len().max(2) as f64;
    let mean = |at: usize| draws.iter().filter_map(|draw| draw.get(at)).sum::<f64>() / count;
    let means = [mean(0), mean(1), mean(2)];
    for draw in &draws {
        let [a, b, c] =
            [0, 1, 2].map(|at: usize| draw.get(at).copied().unwrap_or(0.0) - means.get(at).copied().unwrap_or(0.0));
        for (sum, product) in covariance.iter_mut().zip([a * a, a * b, a * c, b * b, b * c, c * c]) {
            *sum += product / (count - 1.0);
        }
    }
    covariance
}

/// A number below `limit` (SplitMix64; Steele, Lea and Flood, 2014).
fn below(state: &mut u64, limit: usize) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    usize::try_from(mixed % u64::try_from(limit.max(1)).unwrap_or(1)).unwrap_or(0)
}

/// Weighted least squares without negative coefficients: of all choices of those that may be above zero, the one that
/// fits best. Four coefficients have sixteen.
fn nonnegative(equations: &[Equation]) -> [f64; WIDTH] {
    let mut gram = [[0.0; WIDTH]; WIDTH];
    let mut right = [0.0; WIDTH];
    for one in equations {
        for ((row, sum), left) in gram.iter_mut().zip(right.iter_mut()).zip(one.terms) {
            for (cell, term) in row.iter_mut().zip(one.terms) {
                *cell += one.weight * left * term;
            }
            *sum += one.weight * left * one.value;
        }
    }
    let mut best = ([0.0; WIDTH], f64::INFINITY);
    for choice in 1_u32..(1 << WIDTH) {
        let Some(found) = solve(&gram, &right, choice) else { continue };
        // What is left, but for the constant sum of squares.
        let fitted: f64 = found.iter().zip(right).map(|(coefficient, sum)| coefficient * sum).sum();
        if found.iter().all(|coefficient| *coefficient >= 0.0) && -fitted < best.1 {
            best = (found, -fitted);
        }
    }
    best.0
}

/// The coefficients of a choice by Gauss and Jordan, scaled to a diagonal of ones; none where they are not told apart.
fn solve(gram: &[[f64; WIDTH]; WIDTH], right: &[f64; WIDTH], choice: u32) -> Option<[f64; WIDTH]> {
    let chosen: Vec<usize> = (0..WIDTH).filter(|at| choice & (1 << at) != 0).collect();
    let at = |row: usize, column: usize| gram.get(row).and_then(|cells| cells.get(column)).copied();
    let scales: Vec<f64> = chosen.iter().map(|one| at(*one, *one).map(f64::sqrt)).collect::<Option<_>>()?;
    if scales.iter().any(|scale| *scale <= 0.0) {
        return None;
    }
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(chosen.len());
    for (row, scale) in chosen.iter().zip(&scales) {
        let cells = chosen.iter().zip(&scales).map(|(column, other)| Some(at(*row, *column)? / (scale * other)));
        let mut cells: Vec<f64> = cells.collect::<Option<_>>()?;
        cells.push(right.get(*row)? / scale);
        rows.push(cells);
    }
    for pivot in 0..rows.len() {
        let lead = rows.get(pivot)?.clone();
        let head = *lead.get(pivot)?;
        if head.abs() < 1e-10 {
            return None;
        }
        for (number, row) in rows.iter_mut().enumerate() {
            if number == pivot {
                row.iter_mut().for_each(|cell| *cell /= head);
            } else {
                let factor = *row.get(pivot)? / head;
                row.iter_mut().zip(&lead).for_each(|(cell, other)| *cell -= factor * other);
            }
        }
    }
    let mut found = [0.0; WIDTH];
    for ((one, scale), row) in chosen.iter().zip(&scales).zip(&rows) {
        *found.get_mut(*one)? = row.last()? / scale;
    }
    Some(found)
}
