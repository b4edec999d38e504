//! Ids that are strings or binary: the bytes decide, the hash only sorts the work.

use std::hash::BuildHasher;

use arrow_array::BinaryViewArray;
use arrow_buffer::{Buffer, ScalarBuffer};
use foldhash::quality::FixedState;

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
pub struct ByteIds<B> {
    bytes: B,
    hasher: FixedState,
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
}

/// The second word of a key whose first is only a hash: no length is as large as its top byte.
const HASHED: u64 = u64::MAX;

impl<B: Bytes> Ids for ByteIds<B> {
    /// Up to 15 bytes as they are, with their number in the top byte; else a hash.
    type Key = [u64; 2];

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn key(&self, row: usize) -> [u64; 2] {
        let bytes = self.bytes.row(row);
        packed(bytes).unwrap_or_else(|| [self.hasher.hash_one(bytes), HASHED])
    }

    fn is_exact(key: [u64; 2]) -> bool {
        key[1] != HASHED
    }

    fn hash(&self, [low, high]: [u64; 2]) -> u64 {
        groups::mix(groups::mix(low ^ self.seed) ^ high)
    }

    fn same(&self, a: usize, b: usize) -> bool {
        self.bytes.same(a, b)
    }

    fn rises(&self, a: usize, b: usize) -> bool {
        self.bytes.row(a) < self.bytes.row(b)
    }
}

/// Up to 15 bytes in two words, with their number in the top byte.
fn packed(bytes: &[u8]) -> Option<[u64; 2]> {
    let length = (bytes.len() as u64) << 56;
    match (bytes.first_chunk(), bytes.last_chunk()) {
        _ if bytes.len() > 15 => None,
        (Some(&head), Some(&tail)) => {
            // The last 8 bytes, less those that the first 8 hold.
            let known = u32::try_from(8 * (16 - bytes.len())).unwrap_or(u32::MAX);
            let tail = u64::from_le_bytes(tail).checked_shr(known).unwrap_or(0);
            Some([u64::from_le_bytes(head), tail | length])
        }
        _ => {
            let short = bytes.iter().rev();
            Some([
                short.fold(0, |word, &byte| word << 8 | u64::from(byte)),
                length,
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(bytes: &[u8]) -> [u64; 2] {
        ByteIds::new(Fixed {
            bytes,
            width: bytes.len().max(1),
        })
        .key(0)
    }

    proptest! {
        #[test]
        fn keys_of_up_to_15_bytes_are_equal_only_if_the_bytes_are(
            a in prop::collection::vec(0_u8..3, 0..16), b in prop::collection::vec(0_u8..3, 0..16)
        ) {
            prop_assert_eq!(packed(&a) == packed(&b), a == b);
            let mut twin = a.clone();
            if let Some(last) = twin.last_mut() {
                *last ^= 0x80;
                prop_assert_ne!(packed(&a), packed(&twin));
            }
        }
    }

    #[test]
    fn only_keys_of_up_to_15_bytes_are_taken_as_they_are() {
        assert!(ByteIds::<Fixed<'_>>::is_exact(key(&[255; 15])));
        assert!(!ByteIds::<Fixed<'_>>::is_exact(key(&[255; 16])));
    }
}
