//! One tree: rules on bins, and the values of its leaves.

use serde::{Deserialize, Serialize};

/// The bin of a missing cell.
pub(super) const MISSING: u8 = u8::MAX;

/// Which rows of a split leaf go left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) column: u16,
    /// The last bin that goes left.
    pub(super) bin: u8,
    pub(super) missing_left: bool,
}

impl Rule {
    pub(super) fn sends_left(self, bin: u8) -> bool {
        if bin == MISSING { self.missing_left } else { bin <= self.bin }
    }
}

/// A split; a child is the index of a later node, or `!leaf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    rule: Rule,
    left: i16,
    right: i16,
}

/// A tree. When a leaf is split its left part keeps the leaf's number, and the right part gets the next one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub(super) struct Tree {
    nodes: Vec<Node>,
    values: Vec<f32>,
}

impl Tree {
    /// Splits a leaf. False, and nothing done, when there is no such leaf or no number left for another.
    pub(super) fn split(&mut self, leaf: usize, rule: Rule) -> bool {
        let (Ok(left), Ok(next), Ok(node)) =
            (i16::try_from(leaf), i16::try_from(self.nodes.len() + 1), i16::try_from(self.nodes.len()))
        else {
            return false;
        };
        match self.nodes.iter_mut().flat_map(|node| [&mut node.left, &mut node.right]).find(|child| **child == !left) {
            Some(child) => *child = node,
            None if leaf == 0 && node == 0 => {}
            None => return false,
        }
        self.nodes.push(Node { rule, left: !left, right: !next });
        true
    }

    /// Gives the leaves their values, in the order of their numbers.
    pub(super) fn set_values(&mut self, values: Vec<f32>) {
        self.values = values;
    }

    /// The value of the leaf that a row falls into, given the bins of its cells.
    pub(super) fn value(&self, bin: impl Fn(u16) -> Option<u8>) -> f32 {
        let mut at = if self.nodes.is_empty() { !0 } else { 0 };
        while let Ok(index) = usize::try_from(at) {
            let Some(node) = self.nodes.get(index) else { return 0.0 };
            at = if node.rule.sends_left(bin(node.rule.column).unwrap_or(MISSING)) { node.left } else { node.right };
        }
        usize::try_from(!at).ok().and_then(|leaf| self.values.get(leaf).copied()).unwrap_or(0.0)
    }

    /// The leaf that a node split: the leftmost below it.
    fn split_leaf(&self, node: &Node) -> u16 {
        let mut at = node.left;
        while let Some(below) = usize::try_from(at).ok().and_then(|index| self.nodes.get(index)) {
            at = below.left;
        }
        u16::try_from(!at).unwrap_or(0)
    }
}

/// A tree as it is written: each split as (leaf, column, last bin to the left, missing to the left), in order.
#[derive(Serialize, Deserialize)]
struct Stored(Vec<(u16, u16, u8, bool)>, Vec<f32>);

impl From<Tree> for Stored {
    fn from(tree: Tree) -> Self {
        let split = |node: &Node| {
            let Rule { column, bin, missing_left } = node.rule;
            (tree.split_leaf(node), column, bin, missing_left)
        };
        Self(tree.nodes.iter().map(split).collect(), tree.values.clone())
    }
}

impl TryFrom<Stored> for Tree {
    type Error = String;

    fn try_from(Stored(splits, values): Stored) -> Result<Self, String> {
        if values.len() != splits.len() + 1 {
            return Err(format!("a tree of {} splits has {} leaves", splits.len(), values.len()));
        }
        let mut tree = Self { nodes: Vec::with_capacity(splits.len()), values };
        for (leaf, column, bin, missing_left) in splits {
            if !tree.split(usize::from(leaf), Rule { column, bin, missing_left }) {
                return Err(format!("a tree splits leaf {leaf}, which it does not have"));
            }
        }
        Ok(tree)
    }
}
