//! What holds for any rows.

use crate::ModelError;
use crate::boost::random::Random;
use crate::boost::weighted::{quantile, weighted_quantile};
use crate::boost::{Boosted, Matrix, Settings};

const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];

/// Uniform in [0, 1), in steps that single precision holds.
fn uniform(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random::seeded(seed);
    std::iter::repeat_with(|| f32::from(u16::try_from(random.next() >> 48).expect("16 bits")) / 65_536.0)
        .take(count)
        .collect()
}

/// Three columns, some cells of the second missing, and a target that depends on all.
fn rows(count: usize) -> (Vec<Vec<f32>>, Vec<f32>) {
    let [a, mut b, c, noise] = [1, 2, 3, 4].map(|seed| uniform(seed, count));
    b.iter_mut().zip(&c).filter(|(_, c)| **c < 0.2).for_each(|(b, _)| *b = f32::NAN);
    let target = (0..count).map(|k| {
        let shape = if b[k].is_nan() { 3.0 } else { b[k] };
        4.0 * a[k] + shape + (1.0 + c[k]) * noise[k]
    });
    let target = target.collect();
    (vec![a, b, c], target)
}

fn settings() -> Settings {
    Settings { rounds: 30, leaves: 8, learning_rate: 0.2, min_rows: 5, ..Settings::default() }
}

fn drawn() -> Settings {
    Settings { row_share: 0.7, feature_share: 0.7, seed: 3, ..settings() }
}

fn fit(columns: &[Vec<f32>], target: &[f32], weights: Option<&[f32]>, settings: &Settings) -> Boosted {
    let matrix = Matrix::try_new(columns, 255).expect("a matrix");
    Boosted::fit(&matrix, target, weights, &LEVELS, settings).expect("fits")
}

fn predicted(columns: &[Vec<f32>], target: &[f32], weights: Option<&[f32]>, settings: &Settings) -> Vec<f32> {
    fit(columns, target, weights, settings).predict_all(columns).expect("the same columns")
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn problem<T>(result: Result<T, ModelError>) -> String {
    result.err().expect("is refused").to_string()
}

#[test]
fn a_constant_target_is_told_back() {
    let (columns, _) = rows(200);
    for weights in [None, Some(uniform(9, 200))] {
        let fitted = fit(&columns, &[7.3; 200], weights.as_deref(), &drawn());
        assert_eq!(fitted.trees(), 0, "nothing to split on");
        assert!(same(&fitted.predict_all(&columns).expect("the same columns"), &[7.3; 600]));
    }
}

#[test]
fn a_column_without_cells_or_without_difference_changes_nothing() {
    let (mut columns, target) = rows(300);
    let before = predicted(&columns, &target, None, &settings());
    columns.push(vec![f32::NAN; 300]);
    columns.push(vec![5.0; 300]);
    assert!(same(&predicted(&columns, &target, None, &settings()), &before));
}

#[test]
fn one_row_is_its_own_forecast() {
    let columns = [vec![1.0], vec![f32::NAN]];
    for weights in [None, Some([0.5_f32].as_slice())] {
        assert!(same(&predicted(&columns, &[-2.5], weights, &drawn()), &[-2.5; 3]));
    }
}

#[test]
fn missing_cells_go_where_they_belong() {
    let (columns, target) = rows(2_000);
    let fitted = fit(&columns, &target, None, &Settings { rounds: 150, ..settings() });
    let median = |b: f32| {
        let mut out = [0.0; 3];
        fitted.predict(&[0.5, b, 0.1], &mut out);
        out[1]
    };
    // A missing cell is worth 3.0, a low one 0.1 and a high one 0.9; the noise is 1.1 wide.
    assert!(median(f32::NAN) > median(0.9) + 1.0, "{} is near {}", median(f32::NAN), median(0.9));
    assert!(median(0.9) > median(0.1) + 0.3, "{} is near {}", median(0.9), median(0.1));
    let mut short = [0.0; 3];
    fitted.predict(&[0.5], &mut short);
    assert!(short.iter().all(|value| value.is_finite()), "{short:?}");
}

#[test]
fn levels_cover_their_share_of_new_rows() {
    let (columns, target) = rows(6_000);
    let half = |columns: &[Vec<f32>], second: bool| -> Vec<Vec<f32>> {
        columns.iter().map(|cells| if second { cells[3_000..].to_vec() } else { cells[..3_000].to_vec() }).collect()
    };
    let fitted = fit(&half(&columns, false), &target[..3_000], None, &settings());
    let values = fitted.predict_all(&half(&columns, true)).expect("the same columns");
    for (at, level) in LEVELS.iter().enumerate() {
        let below = values.chunks_exact(3).zip(&target[3_000..]).filter(|(row, actual)| **actual <= row[at]).count();
        let share = below as f64 / 3_000.0;
        // Three standard deviations of a share of 3000 are 0.027 at most; overfitting adds as much.
        assert!((share - level).abs() < 0.05, "level {level} covers {share}");
    }
}

#[test]
fn the_same_seed_gives_the_same_model() {
    let (columns, target) = rows(500);
    let first = fit(&columns, &target, None, &drawn());
    assert_eq!(first, fit(&columns, &target, None, &drawn()));
    assert_ne!(first, fit(&columns, &target, None, &Settings { seed: 4, ..drawn() }));
}

#[test]
fn a_row_is_forecast_alone_as_among_others() {
    let (columns, target) = rows(300);
    let fitted = fit(&columns, &target, None, &drawn());
    let values = fitted.predict_all(&columns).expect("the same columns");
    for (row, expected) in values.chunks_exact(3).enumerate() {
        let mut out = [0.0; 3];
        fitted.predict(&[columns[0][row], columns[1][row], columns[2][row]], &mut out);
        assert!(same(&out, expected), "row {row}: {out:?} is not {expected:?}");
    }
}

#[test]
fn a_level_does_not_depend_on_the_others() {
    let (columns, target) = rows(500);
    let all = predicted(&columns, &target, None, &drawn());
    let matrix = Matrix::try_new(&columns, 255).expect("a matrix");
    let alone = Boosted::fit(&matrix, &target, None, &[0.9], &drawn()).expect("fits");
    let alone = alone.predict_all(&columns).expect("the same columns");
    let of_all: Vec<f32> = all.chunks_exact(3).map(|row| row[2]).collect();
    assert!(same(&alone, &of_all));
}

#[test]
fn it_comes_back_the_same() {
    let (mut columns, target) = rows(500);
    columns[0][17] = f32::INFINITY;
    columns[2][18] = f32::NEG_INFINITY;
    let fitted = fit(&columns, &target, None, &drawn());
    let bytes = postcard::to_stdvec(&fitted).expect("serialises");
    assert_eq!(postcard::from_bytes::<Boosted>(&bytes).expect("comes back"), fitted);
    let text = serde_json::to_string(&fitted).expect("serialises");
    assert_eq!(serde_json::from_str::<Boosted>(&text).expect("comes back"), fitted);
    // Seven splits of 5 bytes and eight values of 4 make a tree, and edges take 4 bytes.
    let limit = fitted.trees() * (7 * 5 + 8 * 4 + 2) + 3 * 255 * 4 + 100;
    assert!(bytes.len() <= limit, "{} bytes are more than {limit}", bytes.len());
    let broken = text.replacen("[[[0,", "[[[9,", 1);
    assert!(serde_json::from_str::<Boosted>(&broken).is_err_and(|error| error.to_string().contains("leaf 9")));
}

#[test]
fn scale_and_unit_do_not_matter() {
    let (columns, target) = rows(500);
    let weights = uniform(9, 500);
    for weights in [None, Some(weights.as_slice())] {
        let before = predicted(&columns, &target, weights, &drawn());
        // Powers of two change no digit.
        let scaled: Vec<f32> = target.iter().map(|value| value * 1_024.0).collect();
        let expected: Vec<f32> = before.iter().map(|value| value * 1_024.0).collect();
        assert!(same(&predicted(&columns, &scaled, weights, &drawn()), &expected), "target");
        let units: Vec<Vec<f32>> = columns.iter().map(|cells| cells.iter().map(|cell| cell * 0.25).collect()).collect();
        assert!(same(&predicted(&units, &target, weights, &drawn()), &before), "features");
        let heavier = weights.map(|weights| weights.iter().map(|weight| weight * 8.0).collect::<Vec<f32>>());
        assert!(same(&predicted(&columns, &target, heavier.as_deref(), &drawn()), &before), "weights");
    }
}

#[test]
fn weights_count_relative_to_each_other() {
    let (columns, target) = rows(400);
    let plain = predicted(&columns, &target, None, &settings());
    assert!(same(&predicted(&columns, &target, Some(&[0.3; 400]), &settings()), &plain), "equal weights");
    // Rows of weight 0 have no say, whatever their target.
    let mut spoilt = target.clone();
    spoilt[300..].iter_mut().for_each(|value| *value = 1e6);
    let weights: Vec<f32> = (0..400).map(|row| if row < 300 { 1.0 + 0.5 * columns[0][row] } else { 0.0 }).collect();
    let values = predicted(&columns, &spoilt, Some(&weights), &drawn());
    assert!(same(&values, &predicted(&columns, &target, Some(&weights), &drawn())));
    assert!(values.iter().all(|value| *value < 10.0));
}

#[test]
fn mistakes_are_named() {
    let (columns, mut target) = rows(50);
    let matrix = Matrix::try_new(&columns, 255).expect("a matrix");
    let with = |weights: &[f32]| problem(Boosted::fit(&matrix, &target, Some(weights), &LEVELS, &settings()));
    assert!(with(&[0.0; 50]).contains("the weight of every row is 0"));
    assert!(with(&[-1.0; 50]).contains("the weight of row 0"));
    assert!(with(&[f32::NAN; 50]).contains("the weight of row 0"));
    assert!(with(&[1.0; 49]).contains("49 weights for 50 rows"));
    let none = |levels: &[f64]| problem(Boosted::fit(&matrix, &target, None, levels, &settings()));
    assert!(
        none(&[]).contains("`levels`") && none(&[1.0]).contains("`levels`") && none(&[f64::NAN]).contains("`levels`")
    );
    for (name, settings) in [
        ("rounds", Settings { rounds: 0, ..settings() }),
        ("leaves", Settings { leaves: 1, ..settings() }),
        ("learning_rate", Settings { learning_rate: f64::NAN, ..settings() }),
        ("min_rows", Settings { min_rows: 0, ..settings() }),
        ("l2", Settings { l2: -1.0, ..settings() }),
        ("row_share", Settings { row_share: 0.0, ..settings() }),
        ("feature_share", Settings { feature_share: 1.1, ..settings() }),
    ] {
        let told = problem(Boosted::fit(&matrix, &target, None, &LEVELS, &settings));
        assert!(told.contains(name), "{told}");
    }
    target[7] = f32::NAN;
    assert!(problem(Boosted::fit(&matrix, &target, None, &LEVELS, &settings())).contains("the target of row 7"));
    assert!(
        problem(Boosted::fit(&matrix, &target[1..], None, &LEVELS, &settings())).contains("49 targets for 50 rows")
    );
    assert!(problem(Matrix::try_new::<Vec<f32>>(&[], 255)).contains("no columns"));
    assert!(problem(Matrix::try_new(&[Vec::new()], 255)).contains("0 rows"));
    assert!(problem(Matrix::try_new(&[vec![1.0], vec![]], 255)).contains("column 1"));
    assert!(problem(Matrix::try_new(&columns, 256)).contains("`bins`"));
    assert!(problem(fit(&columns, &[1.0; 50], None, &settings()).predict_all(&columns[1..])).contains("2 columns"));
}

#[test]
fn weighted_quantiles_agree_with_plain_ones() {
    let values: Vec<f64> = uniform(5, 37).into_iter().map(f64::from).collect();
    for level in [0.01, 0.1, 0.5, 0.77, 0.95] {
        let plain = quantile(&mut values.clone(), level);
        let mut pairs: Vec<_> = values.iter().map(|value| (*value, 0.7)).collect();
        // Sums of 37 terms lose a few of 16 digits.
        assert!((weighted_quantile(&mut pairs, level) - plain).abs() < 1e-12);
        // An outlier that hardly weighs hardly pulls.
        pairs.push((-1e6, 1e-12));
        assert!((weighted_quantile(&mut pairs, level) - plain).abs() < 1e-3);
    }
    assert!((quantile(&mut [4.0, 1.0, 2.0], 0.25) - 1.5).abs() < 1e-12);
}

#[test]
fn few_bins_are_kept_to() {
    let (columns, target) = rows(300);
    for bins in [2, 3, 16] {
        let matrix = Matrix::try_new(&columns, bins).expect("a matrix");
        for column in 0..3 {
            let missing = usize::from(matrix.column(column).contains(&u8::MAX));
            assert!((1..=bins).contains(&(matrix.known_bins(column) + missing)), "column {column} of {bins}");
        }
        let fitted = Boosted::fit(&matrix, &target, None, &LEVELS, &settings()).expect("fits");
        assert_eq!(fitted.columns(), 3);
    }
}
