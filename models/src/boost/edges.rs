//! Where the cells of a column are cut into bins.

use serde::{Deserialize, Serialize};

use super::tree::MISSING;

/// Rows of a bin at the least, as in LightGBM.
const MIN_BIN_ROWS: usize = 3;
/// Rows that edges are found on at the most, spread evenly over all.
const SAMPLE_ROWS: usize = 200_000;

/// The upper edges of all bins of a column but the last, ascending; a cell on an edge belongs below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Edges(Vec<f32>);

impl Edges {
    /// At most `bins` bins, one of which is for missing cells when there are any.
    pub(super) fn of(cells: &[f32], bins: usize) -> Self {
        let every = cells.len().div_ceil(SAMPLE_ROWS).max(1);
        let mut known: Vec<f32> = cells.iter().step_by(every).filter(|cell| !cell.is_nan()).map(finite).collect();
        known.sort_unstable_by(f32::total_cmp);
        let bins = if cells.iter().any(|cell| cell.is_nan()) { bins.saturating_sub(1) } else { bins };
        let runs: Vec<(f32, usize)> =
            known.chunk_by(|a, b| a >= b).filter_map(|run| Some((*run.first()?, run.len()))).collect();
        let cuts = if runs.len() <= bins { cut_sparse(&runs) } else { cut_dense(&runs, known.len(), bins) };
        let edge = |at: usize| Some(between(runs.get(at)?.0, runs.get(at + 1)?.0));
        Self(cuts.into_iter().filter_map(edge).collect())
    }

    /// The bin of a cell; [`MISSING`] for NaN.
    pub(super) fn bin(&self, cell: f32) -> u8 {
        if cell.is_nan() {
            return MISSING;
        }
        let cell = finite(&cell);
        u8::try_from(self.0.partition_point(|edge| *edge < cell)).unwrap_or(MISSING - 1)
    }

    /// How many bins known cells fall into.
    pub(super) fn bins(&self) -> usize {
        self.0.len() + 1
    }
}

/// Infinity as the utmost number, so that edges have a form in JSON.
fn finite(cell: &f32) -> f32 {
    cell.clamp(f32::MIN, f32::MAX)
}

/// Halfway, or the lower one where single precision knows nothing between the two.
fn between(low: f32, high: f32) -> f32 {
    let middle = low + (high / 2.0 - low / 2.0);
    if low <= middle && middle < high { middle } else { low }
}

/// The runs behind which to cut: behind each, if the bin is not too small.
fn cut_sparse(runs: &[(f32, usize)]) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut rows = 0;
    for (at, (_, run)) in runs.iter().enumerate() {
        rows += run;
        if rows >= MIN_BIN_ROWS {
            cuts.push(at);
            rows = 0;
        }
    }
    cuts
}

/// The runs behind which to cut, for bins of about the same number of rows. A value with more rows than that has a bin
/// of its own, and the bin before such a one may stay half full.
fn cut_dense(runs: &[(f32, usize)], rows: usize, bins: usize) -> Vec<usize> {
    let bins = bins.min(rows / MIN_BIN_ROWS);
    if bins < 2 {
        return Vec::new();
    }
    let heavy = |run: usize| run * bins >= rows;
    let light: Vec<usize> = runs.iter().map(|(_, run)| *run).filter(|run| !heavy(*run)).collect();
    let mut rows_left: usize = light.iter().sum();
    let mut bins_left = bins.saturating_sub(runs.len() - light.len());
    let mut wanted = rows_left as f64 / bins_left as f64;
    let (mut cuts, mut filled) = (Vec::new(), 0);
    for (at, (_, run)) in runs.iter().enumerate() {
        filled += run;
        if !heavy(*run) {
            rows_left -= run;
        }
        let next_heavy = runs.get(at + 1).is_some_and(|(_, next)| heavy(*next));
        let full = heavy(*run) || filled as f64 >= wanted || (next_heavy && filled as f64 >= (wanted * 0.5).max(1.0));
        if !full {
            continue;
        }
        cuts.push(at);
        filled = 0;
        if cuts.len() + 1 >= bins {
            break;
        }
        if !heavy(*run) {
            bins_left = bins_left.saturating_sub(1);
            wanted = rows_left as f64 / bins_left as f64;
        }
    }
    cuts
}
