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
    /// How many bytes go with this key to tell its id; 0 if the key does, or if they are too many.
    fn carried(_: Self::Key) -> usize {
        0
    }
    /// Writes these bytes, so that ids of equal keys are equal if they are.
    fn carry(&self, _row: usize, _bytes: &mut [u8]) {}
    /// A word with every bit spread, equal for equal keys.
    fn hash(&self, key: Self::Key) -> u64;
    /// Whether rows `a` and `b` have the same id.
    fn same(&self, a: usize, b: usize) -> bool;
    /// Whether the id at `a` is known to be smaller than that at `b`.
    fn rises(&self, a: usize, b: usize) -> bool;
    /// The least id and how many there may be from it on, if ids are integers with few gaps.
    fn codes(&self) -> Option<(i64, usize)> {
        None
    }
    /// How far the id at `row` is from the least one.
    ///
    /// # Panics
    /// If there is none.
    fn code(&self, _row: usize, _least: i64) -> usize {
        unreachable!("ids without codes are not asked for one")
    }
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

    fn codes(&self) -> Option<(i64, usize)> {
        let ends = |(low, high): (i64, i64), &key: &i64| (low.min(key), high.max(key));
        let (low, high) = self.keys.iter().fold((i64::MAX, i64::MIN), ends);
        let codes = usize::try_from(high.checked_sub(low)?).ok()?;
        (codes < self.keys.len()).then_some((low, codes + 1))
    }

    fn code(&self, row: usize, least: i64) -> usize {
        usize::try_from(self.keys[row] - least).unwrap_or(usize::MAX)
    }
}
