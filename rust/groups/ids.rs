//! What tells groups apart: one id per row, compared exactly.

use super::hash;

/// Something with one id per row. Equality is exact; hashes only sort the work.
pub trait Ids: Sync {
    /// What stands for an id while its row is carried to its group.
    type Key: Copy + Default + PartialEq + Send + Sync;
    /// Number of rows.
    fn len(&self) -> usize;
    /// The key of the id at `row`; equal ids have equal keys.
    fn key(&self, row: usize) -> Self::Key;
    /// Whether ids with this key are known to be equal.
    fn is_exact(key: Self::Key) -> bool;
    /// A word with every bit spread, equal for equal keys.
    fn hash(&self, key: Self::Key) -> u64;
    /// Whether rows `a` and `b` have the same id.
    fn same(&self, a: usize, b: usize) -> bool;
    /// Whether the id at `a` is known to be smaller than that at `b`.
    fn rises(&self, a: usize, b: usize) -> bool;
}

/// Integer ids, hashed by a seeded bijection, so that no input can be made to collide.
#[derive(Debug, Clone, Copy)]
pub struct IntIds<'a> {
    keys: &'a [i64],
    seed: u64,
}

impl<'a> IntIds<'a> {
    /// Wraps `keys`.
    #[must_use]
    pub fn new(keys: &'a [i64]) -> Self {
        Self {
            keys,
            seed: hash::process_seed(),
        }
    }
}

impl Ids for IntIds<'_> {
    type Key = u64;

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn key(&self, row: usize) -> u64 {
        hash::mix(self.keys[row].cast_unsigned() ^ self.seed)
    }

    fn is_exact(_: u64) -> bool {
        true
    }

    fn hash(&self, key: u64) -> u64 {
        key
    }

    fn same(&self, a: usize, b: usize) -> bool {
        self.keys[a] == self.keys[b]
    }

    fn rises(&self, a: usize, b: usize) -> bool {
        self.keys[a] < self.keys[b]
    }
}
