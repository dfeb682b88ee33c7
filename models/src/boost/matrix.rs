//! Features in bins, column after column.

use super::FAMILY;
use super::edges::Edges;
use crate::ModelError;

/// Rows of a matrix at the most: counts of them take 24 bits of a histogram's cell.
const MAX_ROWS: usize = (1 << 24) - 1;
const MAX_COLUMNS: usize = 4_096;

/// Features in bins, a byte a cell: made once, used by any number of fits.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    edges: Vec<Edges>,
    bins: Vec<Vec<u8>>,
}

impl Matrix {
    /// Sorts the cells of each column into at most `bins` bins, 2 to 255, of about as many rows each. NaN is missing.
    ///
    /// # Errors
    /// When there are no columns or no rows or too many, columns differ in length, or `bins` is out of range.
    pub fn try_new<C: AsRef<[f32]>>(columns: &[C], bins: usize) -> Result<Self, ModelError> {
        if !(2..=255).contains(&bins) {
            return Err(ModelError::Setting { setting: "bins", problem: format!("must be 2 to 255, not {bins}") });
        }
        if columns.len() > MAX_COLUMNS {
            return Err(refused(format!("{} columns are more than {MAX_COLUMNS}", columns.len())));
        }
        let rows = rows(columns)?;
        if rows == 0 || rows > MAX_ROWS {
            return Err(refused(format!("{rows} rows are not 1 to {MAX_ROWS}")));
        }
        let edges: Vec<Edges> = columns.iter().map(|cells| Edges::of(cells.as_ref(), bins)).collect();
        let bin_all = |(edges, cells): (&Edges, &C)| cells.as_ref().iter().map(|cell| edges.bin(*cell)).collect();
        let bins = edges.iter().zip(columns).map(bin_all).collect();
        Ok(Self { rows, edges, bins })
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.edges.len()
    }

    pub(super) fn edges(&self) -> &[Edges] {
        &self.edges
    }

    /// The bins of a column's cells.
    pub(super) fn column(&self, column: u16) -> &[u8] {
        self.bins.get(usize::from(column)).map_or(&[], Vec::as_slice)
    }

    /// How many bins the known cells of a column fall into.
    pub(super) fn known_bins(&self, column: u16) -> usize {
        self.edges.get(usize::from(column)).map_or(1, Edges::bins)
    }
}

/// How many rows columns have.
pub(super) fn rows<C: AsRef<[f32]>>(columns: &[C]) -> Result<usize, ModelError> {
    let Some(first) = columns.first() else { return Err(refused("there are no columns".to_owned())) };
    let rows = first.as_ref().len();
    match columns.iter().position(|column| column.as_ref().len() != rows) {
        None => Ok(rows),
        Some(at) => Err(refused(format!("column 0 has {rows} rows, and column {at} another number"))),
    }
}

fn refused(problem: String) -> ModelError {
    ModelError::Fit { family: FAMILY, problem }
}
