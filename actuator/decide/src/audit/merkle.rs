//! The Merkle tree of a log: RFC 9162, section 2.1 (the same tree as RFC 6962), over SHA-256.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// A node's hash.
pub type Hash = [u8; 32];

/// The hash of a leaf.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The tree over the leaves so far. It only grows, and answers for every size that it had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// `levels[k][i]` is the hash of the whole subtree over the leaves `i * 2^k .. (i + 1) * 2^k`.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Adds a leaf at the end.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for at in 0.. {
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
            }
            let Some(level) = self.levels.get_mut(at) else { return };
            level.push(hash);
            match level.as_slice() {
                [.., left, right] if level.len() % 2 == 0 => hash = node_hash(left, right),
                _ => return,
            }
        }
    }

    /// How many leaves it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Has it no leaf yet?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One leaf.
    #[must_use]
    pub fn leaf(&self, index: usize) -> Option<Hash> {
        self.levels.first()?.get(index).copied()
    }

    /// The root over the first `size` leaves; none when it does not have as many.
    #[must_use]
    pub fn root(&self, size: usize) -> Option<Hash> {
        if size == 0 {
            return Some(Sha256::digest([]).into());
        }
        self.subtree(0..size)
    }

    /// That a leaf is among the first `size`: the hashes beside its way to the root.
    #[must_use]
    pub fn inclusion(&self, index: usize, size: usize) -> Option<Vec<Hash>> {
        if index >= size || size > self.len() {
            return None;
        }
        let (mut range, mut proof) = (0..size, Vec::new());
        while range.len() > 1 {
            let middle = range.start + split(range.len());
            let (inside, beside) = if index < middle {
                (range.start..middle, middle..range.end)
            } else {
                (middle..range.end, range.start..middle)
            };
            proof.push(self.subtree(beside)?);
            range = inside;
        }
        proof.reverse();
        Some(proof)
    }

    /// That the first `first` leaves are those of the tree of that size.
    #[must_use]
    pub fn consistency(&self, first: usize, second: usize) -> Option<Vec<Hash>> {
        if first == 0 || first > second || second > self.len() {
            return None;
        }
        let (mut range, mut proof, mut is_whole) = (0..second, Vec::new(), true);
        while first != range.end {
            let middle = range.start + split(range.len());
            if first <= middle {
                proof.push(self.subtree(middle..range.end)?);
                range = range.start..middle;
            } else {
                proof.push(self.subtree(range.start..middle)?);
                range = middle..range.end;
                is_whole = false;
            }
        }
        if !is_whole {
            proof.push(self.subtree(range)?);
        }
        proof.reverse();
        Some(proof)
    }

    fn subtree(&self, range: Range<usize>) -> Option<Hash> {
        let size = range.len();
        if size.is_power_of_two() && range.start.is_multiple_of(size) {
            let level = usize::try_from(size.trailing_zeros()).ok()?;
            return self.levels.get(level)?.get(range.start / size).copied();
        }
        let middle = range.start + split(size);
        Some(node_hash(&self.subtree(range.start..middle)?, &self.subtree(middle..range.end)?))
    }
}

/// The largest power of two below `size`, which is 2 or more.
fn split(size: usize) -> usize {
    size.div_ceil(2).next_power_of_two()
}

/// Does the proof lead from the leaf to the root? RFC 9162, section 2.1.3.2.
#[must_use]
pub fn is_included(leaf: &Hash, index: usize, size: usize, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for beside in proof {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            hash = node_hash(beside, &hash);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = node_hash(&hash, beside);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && hash == *root
}

/// Is the tree of the first root the beginning of that of the second? RFC 9162, section 2.1.4.2. Every tree begins with
/// the empty one.
#[must_use]
pub fn is_consistent(first: (usize, &Hash), second: (usize, &Hash), proof: &[Hash]) -> bool {
    let ((first, first_root), (second, second_root)) = (first, second);
    if first == 0 || first >= second {
        let is_same = first == second && first_root == second_root;
        return proof.is_empty() && (first == 0 || is_same);
    }
    let mut path = proof.iter();
    let begin = if first.is_power_of_two() { Some(first_root) } else { path.next() };
    let Some(begin) = begin else { return false };
    let (mut at, mut last) = (first - 1, second - 1);
    while at % 2 == 1 {
        (at, last) = (at / 2, last / 2);
    }
    let (mut of_first, mut of_second) = (*begin, *begin);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            of_first = node_hash(beside, &of_first);
            of_second = node_hash(beside, &of_second);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            of_second = node_hash(&of_second, beside);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && of_first == *first_root && of_second == *second_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::hex;

    /// The leaves and roots of the reference implementation of RFC 6962 (google/certificate-transparency, `merkletree`).
    const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn reference() -> Tree {
        let mut tree = Tree::default();
        LEAVES.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
        tree
    }

    fn texts(proof: &[Hash]) -> Vec<String> {
        proof.iter().map(|hash| hex(hash)).collect()
    }

    #[test]
    fn the_vectors_of_the_reference_implementation() {
        let tree = reference();
        for (size, root) in ROOTS.iter().enumerate() {
            assert_eq!(hex(&tree.root(size).expect("has as many")), *root, "size {size}");
        }
        assert_eq!(tree.root(9), None);
        let inclusion = tree.inclusion(0, 8).expect("is there");
        let expected = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        assert_eq!(texts(&inclusion), expected);
        let consistency = tree.consistency(6, 8).expect("is there");
        let expected = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(texts(&consistency), expected);
        let expected = [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ];
        assert_eq!(texts(&tree.consistency(2, 5).expect("is there")), expected);
    }

    /// Every proof of every size up to 70 leads to the root, and to no other: not with another leaf, index, size, root or
    /// a node that was changed, left out or added.
    #[test]
    fn proofs_hold_and_changed_ones_do_not() {
        let mut tree = Tree::default();
        (0_u8..70).for_each(|number| tree.push(leaf_hash(&[number])));
        for size in 1..=tree.len() {
            let root = tree.root(size).expect("a root");
            for index in 0..size {
                let leaf = tree.leaf(index).expect("a leaf");
                let proof = tree.inclusion(index, size).expect("a proof");
                assert!(is_included(&leaf, index, size, &proof, &root), "{index} of {size}");
                assert!(!is_included(&leaf_hash(b"other"), index, size, &proof, &root));
                assert!(!is_included(&leaf, index ^ 1, size, &proof, &root) || size == 1);
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at][0] ^= 1;
                    assert!(!is_included(&leaf, index, size, &changed, &root));
                    changed.remove(at);
                    assert!(!is_included(&leaf, index, size, &changed, &root));
                }
                let longer: Vec<Hash> = proof.iter().copied().chain([root]).collect();
                assert!(!is_included(&leaf, index, size, &longer, &root));
            }
            for first in 1..=size {
                let first_root = tree.root(first).expect("a root");
                let proof = tree.consistency(first, size).expect("a proof");
                assert!(is_consistent((first, &first_root), (size, &root), &proof), "{first} to {size}");
                let other = leaf_hash(b"other");
                assert!(!is_consistent((first, &other), (size, &root), &proof), "{first} to {size}");
                assert!(!is_consistent((first, &first_root), (size, &other), &proof), "{first} to {size}");
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at][0] ^= 1;
                    assert!(!is_consistent((first, &first_root), (size, &root), &changed));
                }
            }
        }
        assert!(tree.inclusion(70, 70).is_none() && tree.inclusion(0, 71).is_none());
        assert!(tree.consistency(0, 3).is_none() && tree.consistency(4, 3).is_none());
    }
}
