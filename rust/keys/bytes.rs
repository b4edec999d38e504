//! Ids that are strings or binary: the bytes decide, the hash only sorts the work.

use std::hash::BuildHasher;

use arrow_array::BinaryViewArray;
use arrow_buffer::{Buffer, ScalarBuffer};
use foldhash::quality::FixedState;

use super::byte_key::ByteKey;
use crate::error::Error;
use crate::groups::{self, Ids};
use crate::pool::{CHECK_EVERY, Cancel};

/// Rows of bytes.
pub trait Bytes: Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// The bytes of `row`.
    fn row(&self, row: usize) -> &[u8];
    /// Whether the bytes of two rows are equal.
    fn same(&self, a: usize, b: usize) -> bool {
        self.row(a) == self.row(b)
    }
}

/// Up to this many bytes lie in the view itself.
const INLINE: usize = 12;

/// Rows of any length, as Arrow's views: 16 bytes each.
#[derive(Debug)]
pub struct Views {
    views: ScalarBuffer<u128>,
    buffers: Vec<Buffer>,
}

/// Views that are gathered from several arrays.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    views: Vec<u128>,
    buffers: Vec<Buffer>,
}

impl Gathered {
    pub(super) fn with_capacity(rows: usize) -> Self {
        Self {
            views: Vec::with_capacity(rows),
            buffers: Vec::new(),
        }
    }

    /// Appends the rows of `array`.
    pub(super) fn push(&mut self, array: &BinaryViewArray, cancel: &Cancel) -> Result<(), Error> {
        let shift = (self.buffers.len() as u128) << 64;
        self.buffers.extend(array.data_buffers().iter().cloned());
        let moved = |&view: &u128| {
            let [length, ..] = parts(view);
            if length > INLINE {
                view.wrapping_add(shift)
            } else {
                view
            }
        };
        for views in array.views().chunks(CHECK_EVERY) {
            cancel.check()?;
            self.views.extend(views.iter().map(moved));
        }
        Ok(())
    }
}

impl From<Gathered> for Views {
    fn from(gathered: Gathered) -> Self {
        Self {
            views: gathered.views.into(),
            buffers: gathered.buffers,
        }
    }
}

impl From<&BinaryViewArray> for Views {
    fn from(array: &BinaryViewArray) -> Self {
        Self {
            views: array.views().clone(),
            buffers: array.data_buffers().to_vec(),
        }
    }
}

/// The length of a row, its first four bytes, its buffer and its place there: the last two only if
/// the row is too long for the view.
fn parts(view: u128) -> [usize; 4] {
    let bytes = view.to_le_bytes();
    let (words, _) = bytes.as_chunks::<4>();
    std::array::from_fn(|k| u32::from_le_bytes(words[k]) as usize)
}

impl Bytes for Views {
    fn len(&self) -> usize {
        self.views.len()
    }

    fn row(&self, row: usize) -> &[u8] {
        let [length, _, buffer, offset] = parts(self.views[row]);
        if length <= INLINE {
            let start = row * size_of::<u128>() + size_of::<u32>();
            &self.views.inner()[start..start + length]
        } else {
            &self.buffers[buffer][offset..offset + length]
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        let (a_view, b_view) = (self.views[a], self.views[b]);
        // The low half of a view holds the length and the first four bytes.
        a_view << 64 == b_view << 64 && (a_view == b_view || self.row(a) == self.row(b))
    }
}

/// Rows of equal width in one buffer, as `NumPy` keeps strings.
#[derive(Debug)]
pub struct Fixed<'a> {
    /// All rows.
    pub bytes: &'a [u8],
    /// Bytes per row.
    pub width: usize,
}

impl Bytes for Fixed<'_> {
    fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.width..(row + 1) * self.width]
    }
}

/// Ids that are strings or binary.
#[derive(Debug)]
pub struct ByteIds<B, H = FixedState> {
    bytes: B,
    hasher: H,
    seed: u64,
}

impl<B: Bytes> ByteIds<B> {
    /// Wraps rows of bytes; nulls are the caller's matter.
    #[must_use]
    pub fn new(bytes: B) -> Self {
        let seed = groups::process_seed();
        Self {
            bytes,
            hasher: FixedState::with_seed(seed),
            seed,
        }
    }

    /// The bytes of `row`.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        self.bytes.row(row)
    }
}

impl<B: Bytes, H: BuildHasher + Sync> Ids for ByteIds<B, H> {
    type Key = ByteKey;

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn key(&self, row: usize) -> ByteKey {
        ByteKey::new(self.bytes.row(row), &self.hasher)
    }

    fn carried(key: ByteKey) -> usize {
        key.carried()
    }

    fn carry(&self, row: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(self.bytes.row(row));
    }

    fn is_exact(key: ByteKey) -> bool {
        key.is_exact()
    }

    fn hash(&self, key: ByteKey) -> u64 {
        key.hash(self.seed)
    }

    fn same(&self, a: usize, b: usize) -> bool {
        self.bytes.same(a, b)
    }

    fn rises(&self, a: usize, b: usize) -> bool {
        self.bytes.row(a) < self.bytes.row(b)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::Hasher;

    use arrow_array::Array;
    use proptest::prelude::*;

    use super::*;
    use crate::groups::Groups;

    /// Every hash is the same.
    #[derive(Debug, Clone, Copy)]
    struct Colliding;

    impl Hasher for Colliding {
        fn finish(&self) -> u64 {
            7
        }

        fn write(&mut self, _: &[u8]) {}
    }

    impl BuildHasher for Colliding {
        type Hasher = Self;

        fn build_hasher(&self) -> Self {
            *self
        }
    }

    fn codes<H: BuildHasher + Sync>(words: &[Vec<u8>], hasher: H) -> Vec<i64> {
        let array = BinaryViewArray::from_iter_values(words);
        let ids = ByteIds {
            bytes: Views::from(&array),
            hasher,
            seed: 0,
        };
        let cancel = Cancel::default();
        assert_eq!(ids.len(), array.len());
        Groups::new(&ids, None, &cancel)
            .unwrap()
            .codes(&cancel)
            .unwrap()
    }

    /// The same by a dictionary.
    fn naive(words: &[Vec<u8>]) -> Vec<i64> {
        let mut places = HashMap::new();
        let code = |word| {
            let next = i64::try_from(places.len()).unwrap();
            *places.entry(word).or_insert(next)
        };
        words.iter().map(code).collect()
    }

    /// Few words of lengths at which ids are treated differently, that differ in one byte.
    fn word() -> impl Strategy<Value = Vec<u8>> {
        let length =
            prop::sample::select(vec![0, 1, 8, 12, 13, 15, 16, 17, 36, 255, 256, 257, 600]);
        (length, 0_usize..3, 0_u8..2).prop_map(|(length, at, byte)| {
            let mut word = vec![b'a'; length];
            if length > 0 {
                word[[0, length / 2, length - 1][at]] = b'a' + byte;
            }
            word
        })
    }

    proptest! {
        #[test]
        fn words_are_grouped_by_their_bytes_though_every_hash_collides(
            words in prop::collection::vec(word(), 0..120)
        ) {
            prop_assert_eq!(codes(&words, Colliding), naive(&words));
            prop_assert_eq!(codes(&words, FixedState::with_seed(1)), naive(&words));
        }
    }

    #[test]
    fn scattered_words_of_many_partitions_are_grouped_exactly() {
        let word = |row: usize| {
            let group = row * 7919 % 18_750;
            let filling = "x".repeat(group % 70);
            format!("{group:06}{filling}").into_bytes()
        };
        let words: Vec<Vec<u8>> = (0..150_000).map(word).collect();
        assert_eq!(codes(&words, FixedState::with_seed(2)), naive(&words));
    }
}
