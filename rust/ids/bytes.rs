//! Ids that are strings or binary: the bytes decide, the hash only sorts the work.

use std::hash::BuildHasher;

use arrow_array::{Array, BinaryViewArray};
use foldhash::quality::FixedState;

use crate::groups::Ids;
use crate::hashing;

/// Ids that are strings or binary: the bytes decide.
#[derive(Debug)]
pub struct ByteIds {
    bytes: BinaryViewArray,
    hasher: FixedState,
}

impl ByteIds {
    /// Wraps a column without nulls that matter.
    #[must_use]
    pub fn new(bytes: BinaryViewArray) -> Self {
        Self {
            bytes,
            hasher: FixedState::with_seed(hashing::process_seed()),
        }
    }
}

impl Ids for ByteIds {
    const HASH_IS_EXACT: bool = false;

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn hash(&self, row: usize) -> u64 {
        self.hasher.hash_one(self.bytes.value(row))
    }

    fn same(&self, a: usize, b: usize) -> bool {
        let views = self.bytes.views();
        // The low half of a view holds the length and the first four bytes.
        let head = |row: usize| views[row] << 64;
        head(a) == head(b) && (views[a] == views[b] || self.bytes.value(a) == self.bytes.value(b))
    }

    fn rises(&self, a: usize, b: usize) -> bool {
        self.bytes.value(a) < self.bytes.value(b)
    }
}

/// Ids of equal width in one buffer, as `NumPy` keeps strings: the bytes decide.
#[derive(Debug)]
pub struct FixedIds<'a> {
    bytes: &'a [u8],
    width: usize,
    hasher: FixedState,
}

impl<'a> FixedIds<'a> {
    /// Wraps rows of `width` bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8], width: usize) -> Self {
        Self {
            bytes,
            width,
            hasher: FixedState::with_seed(hashing::process_seed()),
        }
    }

    fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.width..(row + 1) * self.width]
    }
}

impl Ids for FixedIds<'_> {
    const HASH_IS_EXACT: bool = false;

    fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    fn hash(&self, row: usize) -> u64 {
        self.hasher.hash_one(self.row(row))
    }

    fn same(&self, a: usize, b: usize) -> bool {
        self.row(a) == self.row(b)
    }

    fn rises(&self, a: usize, b: usize) -> bool {
        self.row(a) < self.row(b)
    }
}
