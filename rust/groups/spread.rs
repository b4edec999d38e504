//! Items sorted by partition, with all that is needed to group them there.

use std::iter::repeat_n;
use std::ops::Range;

use super::block::Block;
use super::ids::Ids;
use super::index::to_u32;
use super::runs::Runs;

/// An item, and what stands for its id.
#[derive(Clone, Copy, Default)]
pub(super) struct Record<K> {
    pub(super) key: K,
    pub(super) item: u32,
}

/// The records of one block, partition after partition, in item order inside each.
pub(super) struct Spread<K> {
    records: Vec<Record<K>>,
    bounds: Vec<u32>,
    /// The bytes of the ids whose keys do not tell them, in the order of the records: they would
    /// be a cache miss each where the records are grouped.
    bytes: Vec<u8>,
    byte_bounds: Vec<usize>,
}

impl<K> Spread<K> {
    /// The records of partition `p`, and their bytes.
    pub(super) fn part(&self, p: usize) -> Piece<'_, K> {
        Piece {
            records: &self.records[self.bounds[p] as usize..self.bounds[p + 1] as usize],
            bytes: &self.bytes[self.byte_bounds[p]..self.byte_bounds[p + 1]],
        }
    }
}

/// What one block has for one partition.
pub(super) struct Piece<'a, K> {
    pub(super) records: &'a [Record<K>],
    bytes: &'a [u8],
}

impl<'a, K: Copy> Piece<'a, K> {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Each record with its bytes, of which there are `carried`.
    pub(super) fn each(
        &self,
        carried: impl Fn(K) -> usize,
    ) -> impl Iterator<Item = (Record<K>, &'a [u8])> {
        let mut bytes = self.bytes;
        self.records.iter().map(move |&record| {
            let own;
            (own, bytes) = bytes.split_at(carried(record.key));
            (record, own)
        })
    }
}

/// Sorts the items of one block by partition, keeping their order inside it.
pub(super) fn spread<I: Ids>(
    ids: &I,
    items: &Runs,
    own: Range<usize>,
    bits: u32,
) -> (Spread<I::Key>, Block) {
    let keys: Vec<I::Key> = own.clone().map(|item| ids.key(items.first(item))).collect();
    let homes = homes(ids, &keys, bits);
    let sizes = keys.iter().map(|&key| I::carried(key));
    let byte_bounds = bounds(&homes, sizes, bits);
    let bounds = bounds(&homes, repeat_n(1, homes.len()), bits);
    let bounds: Vec<u32> = bounds.into_iter().map(to_u32).collect();
    let mut records = vec![Record::default(); keys.len()];
    let mut bytes = vec![0; byte_bounds[byte_bounds.len() - 1]];
    let (mut cursor, mut byte_cursor) = (bounds.clone(), byte_bounds.clone());
    for ((item, &key), &home) in own.clone().zip(&keys).zip(&homes) {
        let at = &mut cursor[home as usize];
        records[*at as usize] = Record {
            key,
            item: to_u32(item),
        };
        *at += 1;
        let carried = I::carried(key);
        if carried > 0 {
            let at = &mut byte_cursor[home as usize];
            ids.carry(items.first(item), &mut bytes[*at..*at + carried]);
            *at += carried;
        }
    }
    let block = Block::new(items, ids.len(), own, homes, &bounds);
    let spread = Spread {
        records,
        bounds,
        bytes,
        byte_bounds,
    };
    (spread, block)
}

/// The partition of each key.
fn homes<I: Ids>(ids: &I, keys: &[I::Key], bits: u32) -> Vec<u16> {
    // Middle bits: the tables inside a partition use the low and the top ones.
    let home_of = |&key| (ids.hash(key) >> 32) as usize & ((1 << bits) - 1);
    let narrow = |home| u16::try_from(home).expect("partitions fit 16 bits");
    keys.iter().map(home_of).map(narrow).collect()
}

/// Where each partition begins and the last ends, if items of `sizes` are sorted by `homes`.
fn bounds(homes: &[u16], sizes: impl Iterator<Item = usize>, bits: u32) -> Vec<usize> {
    let mut bounds = vec![0; (1 << bits) + 1];
    for (&home, size) in homes.iter().zip(sizes) {
        bounds[home as usize + 1] += size;
    }
    for p in 0..1 << bits {
        bounds[p + 1] += bounds[p];
    }
    bounds
}
