//! Growing one tree, leaf by leaf.

use std::ops::Range;

use super::histogram::{Cells, Sums, add_rows};
use super::matrix::Matrix;
use super::split::{Candidate, Judge};
use super::tree::{Rule, Tree};

/// Rows whose sums are added to every column in turn, so that they stay in the processor's cache.
const BLOCK_ROWS: usize = 2_048;

/// Grows trees over one matrix; keeps its memory between them.
pub(super) struct Grower<'a, S> {
    matrix: &'a Matrix,
    judge: Judge,
    max_leaves: usize,
    /// Histograms not in use.
    spare: Vec<Vec<Cells<S>>>,
    ordered: Vec<S>,
    moved: Vec<u32>,
}

/// A leaf while the tree grows: a range of the rows, which are sorted by leaf.
struct Leaf<S> {
    rows: Range<usize>,
    sums: S,
    histogram: Vec<Cells<S>>,
    best: Option<Candidate<S>>,
}

impl<'a, S: Sums> Grower<'a, S> {
    pub(super) fn new(matrix: &'a Matrix, judge: Judge, max_leaves: usize) -> Self {
        Self { matrix, judge, max_leaves, spare: Vec::new(), ordered: Vec::new(), moved: Vec::new() }
    }

    /// Grows a tree on `rows`, with the sums of each row of the matrix, and sorts the rows by leaf. Returns the tree,
    /// yet without values, and where the rows of each leaf stand.
    pub(super) fn grow(&mut self, rows: &mut [u32], sums: &[S], columns: &[u16]) -> (Tree, Vec<Range<usize>>) {
        let mut tree = Tree::default();
        let mut all = S::default();
        rows.iter().filter_map(|row| sums.get(*row as usize)).for_each(|row| all += *row);
        let mut root = Leaf { rows: 0..rows.len(), sums: all, histogram: Vec::new(), best: None };
        if self.judge.splittable(all.rows()) {
            root.histogram = self.histogram(rows, sums, columns);
            self.search(&mut root, columns);
        }
        let mut leaves = vec![root];
        while leaves.len() < self.max_leaves {
            let Some((number, best)) = most_gaining(&leaves) else { break };
            let Some(leaf) = leaves.get_mut(number) else { break };
            if !tree.split(number, best.rule) {
                break;
            }
            let parent = std::mem::take(&mut leaf.histogram);
            let (left, right) = self.divide(leaf, best, rows);
            let (left, right) = if leaves.len() + 1 < self.max_leaves {
                self.measure(parent, [left, right], rows, sums, columns)
            } else {
                self.spare.push(parent);
                (left, right)
            };
            leaves.push(right);
            if let Some(leaf) = leaves.get_mut(number) {
                *leaf = left;
            }
        }
        let ranges = leaves.iter().map(|leaf| leaf.rows.clone()).collect();
        self.spare.extend(leaves.into_iter().map(|leaf| leaf.histogram).filter(|histogram| !histogram.is_empty()));
        (tree, ranges)
    }

    /// The two parts of a leaf, their rows apart and still in order.
    fn divide(&mut self, leaf: &Leaf<S>, best: Candidate<S>, rows: &mut [u32]) -> (Leaf<S>, Leaf<S>) {
        let bins = self.matrix.column(best.rule.column);
        let lefts =
            rows.get_mut(leaf.rows.clone()).map_or(0, |rows| sort_by_side(rows, bins, best.rule, &mut self.moved));
        let middle = leaf.rows.start + lefts;
        let part = |rows, sums| Leaf { rows, sums, histogram: Vec::new(), best: None };
        (part(leaf.rows.start..middle, best.left), part(middle..leaf.rows.end, leaf.sums - best.left))
    }

    /// Histograms and best splits of two siblings: the smaller one is counted, the larger one is the parent less it.
    fn measure(
        &mut self,
        mut parent: Vec<Cells<S>>,
        [mut left, mut right]: [Leaf<S>; 2],
        rows: &[u32],
        sums: &[S],
        columns: &[u16],
    ) -> (Leaf<S>, Leaf<S>) {
        let (small, large) =
            if left.rows.len() <= right.rows.len() { (&mut left, &mut right) } else { (&mut right, &mut left) };
        if !self.judge.splittable(large.sums.rows()) {
            self.spare.push(parent);
            return (left, right);
        }
        small.histogram = self.histogram(rows.get(small.rows.clone()).unwrap_or_default(), sums, columns);
        for column in columns {
            let column = usize::from(*column);
            let (Some(cells), Some(small)) = (parent.get_mut(column), small.histogram.get(column)) else { continue };
            for (cell, small) in cells.iter_mut().zip(small) {
                *cell = *cell - *small;
            }
        }
        large.histogram = parent;
        self.search(large, columns);
        self.search(small, columns);
        (left, right)
    }

    /// Counts rows into a histogram of each of `columns`; the others hold nothing of use.
    fn histogram(&mut self, rows: &[u32], sums: &[S], columns: &[u16]) -> Vec<Cells<S>> {
        let mut histogram = self.spare.pop().unwrap_or_else(|| vec![[S::default(); 256]; self.matrix.columns()]);
        for column in columns {
            if let Some(cells) = histogram.get_mut(usize::from(*column)) {
                *cells = [S::default(); 256];
            }
        }
        for block in rows.chunks(BLOCK_ROWS) {
            self.ordered.clear();
            self.ordered.extend(block.iter().map(|row| sums.get(*row as usize).copied().unwrap_or_default()));
            for column in columns {
                if let Some(cells) = histogram.get_mut(usize::from(*column)) {
                    add_rows(cells, self.matrix.column(*column), block, &self.ordered);
                }
            }
        }
        histogram
    }

    /// Finds a leaf's best split; without one its histogram is of no more use.
    fn search(&mut self, leaf: &mut Leaf<S>, columns: &[u16]) {
        if self.judge.splittable(leaf.sums.rows()) {
            for column in columns {
                let Some(cells) = leaf.histogram.get(usize::from(*column)) else { continue };
                let found = self.judge.best(*column, cells, self.matrix.known_bins(*column), leaf.sums);
                if found.is_some_and(|found| leaf.best.is_none_or(|best| found.gain > best.gain)) {
                    leaf.best = found;
                }
            }
        }
        if leaf.best.is_none() {
            self.spare.push(std::mem::take(&mut leaf.histogram));
        }
    }
}

fn most_gaining<S: Sums>(leaves: &[Leaf<S>]) -> Option<(usize, Candidate<S>)> {
    let candidates = leaves.iter().enumerate().filter_map(|(number, leaf)| Some((number, leaf.best?)));
    candidates.reduce(|best, next| if next.1.gain > best.1.gain { next } else { best })
}

/// Puts the rows that go left first, both sides in order, and tells how many those are.
fn sort_by_side(rows: &mut [u32], bins: &[u8], rule: Rule, moved: &mut Vec<u32>) -> usize {
    moved.clear();
    let mut lefts = 0;
    for at in 0..rows.len() {
        let Some(row) = rows.get(at).copied() else { break };
        if bins.get(row as usize).is_some_and(|bin| rule.sends_left(*bin)) {
            if let Some(place) = rows.get_mut(lefts) {
                *place = row;
            }
            lefts += 1;
        } else {
            moved.push(row);
        }
    }
    if let Some(rights) = rows.get_mut(lefts..) {
        rights.copy_from_slice(moved);
    }
    lefts
}
