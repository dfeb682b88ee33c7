//! Against LightGBM on the same rows. `lightgbm.json` is what `bench/boost/reference.py` printed; it names the version.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::boost::random::Random;
use crate::boost::{Boosted, Matrix, Settings};
use crate::score::pinball;

const ROWS: usize = 600;

#[derive(Deserialize)]
struct Reference {
    lightgbm: String,
    levels: Vec<f64>,
    /// By rounds: every fortieth row, a value for each of `levels`.
    predictions: BTreeMap<u32, Vec<Vec<f32>>>,
    /// Mean loss after 50 rounds, without weights and with them.
    losses: BTreeMap<String, Vec<f64>>,
}

struct Table {
    columns: Vec<Vec<f32>>,
    target: Vec<f32>,
    weights: Vec<f32>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("lightgbm.json")).expect("the reference file")
}

/// The rows of `bench/boost/reference.py`.
fn table() -> Table {
    let mut random = Random::seeded(7);
    let mut table = Table { columns: vec![Vec::new(); 4], target: Vec::new(), weights: Vec::new() };
    for _ in 0..ROWS {
        let mut below = |limit: u64| u16::try_from((random.next() >> 32) % limit).expect("small");
        let [a, b, c, d, weight] = std::array::from_fn(|_| below(40) + 1);
        let noise = f32::from(below(40_000)) / 1024.0;
        let missing = (a + 3 * b + 5 * c) % 7 == 0;
        let effect = if missing { 30 } else { 2 * b };
        let cells = [f32::from(a), if missing { f32::NAN } else { f32::from(b) }, f32::from(c), f32::from(d)];
        table.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
        table.target.push(f32::from(4 * a + effect + c * d / 8) + noise * f32::from(1 + d / 10));
        table.weights.push(f32::from(weight) / 64.0);
    }
    table
}

fn settings(rounds: u32) -> Settings {
    Settings { rounds, leaves: 8, learning_rate: 0.1, min_rows: 20, ..Settings::default() }
}

#[test]
fn the_same_trees_as_lightgbm() {
    let (reference, table) = (reference(), table());
    let matrix = Matrix::try_new(&table.columns, 255).expect("a matrix");
    for (rounds, expected) in &reference.predictions {
        let fitted = Boosted::fit(&matrix, &table.target, None, &reference.levels, &settings(*rounds)).expect("fits");
        let values = fitted.predict_all(&table.columns).expect("the same columns");
        for (row, expected) in values.chunks_exact(reference.levels.len()).step_by(40).zip(expected) {
            for (value, expected) in row.iter().zip(expected) {
                // Single precision has 7 digits; another tree would differ in the second or third.
                let close = (value - expected).abs() <= 1e-6 * expected.abs();
                assert!(close, "LightGBM {}, {rounds} rounds: {row:?} is not {expected}", reference.lightgbm);
            }
        }
    }
}

#[test]
fn as_small_a_loss_as_lightgbm() {
    let (reference, table) = (reference(), table());
    let matrix = Matrix::try_new(&table.columns, 255).expect("a matrix");
    let levels = &reference.levels;
    for (name, expected) in &reference.losses {
        let weights = (name == "weighted").then_some(table.weights.as_slice());
        let fitted = Boosted::fit(&matrix, &table.target, weights, levels, &settings(50)).expect("fits");
        let values = fitted.predict_all(&table.columns).expect("the same columns");
        let of_row = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
        let whole: f64 = (0..ROWS).map(of_row).sum();
        let ratio = |(at, (level, expected)): (usize, (&f64, &f64))| {
            let loss_of = |row: usize| {
                let (forecast, actual) = (values[row * levels.len() + at], table.target[row]);
                of_row(row) * pinball(*level, f64::from(forecast), f64::from(actual))
            };
            (0..ROWS).map(loss_of).sum::<f64>() / whole / expected
        };
        let ratios: Vec<f64> = levels.iter().zip(expected).enumerate().map(ratio).collect();
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        // With weights LightGBM guesses the rows of a bin from their weight and takes a step for the quantile of a
        // leaf, so trees differ; without, they are the same.
        let tolerance = if weights.is_some() { 0.02 } else { 1e-6 };
        assert!((mean - 1.0).abs() < tolerance, "{name}: {ratios:?}");
    }
}
