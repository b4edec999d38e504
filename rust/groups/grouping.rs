//! Grouping by hashing, in partitions that fit the cache.
//!
//! Runs are spread over partitions by bits of their hash; each partition is then grouped in a
//! table of its own.

use std::iter::once;

use hashbrown::HashTable;

use super::ids::Ids;
use super::index::to_u32;
use super::partition::{Partition, Partitions};
use super::runs::Runs;
use super::spread::{Piece, Record, spread};
use crate::error::Error;
use crate::pool::{self, Cancel};

/// Rows per block: one column of it fits the second-level cache, and each of its partitions fills
/// a few cache lines.
const SPREAD: usize = 1 << 16;
/// Runs per partition aimed at: with a few columns of results it fits the second-level cache.
const PARTITION: usize = 1 << 14;
const MAX_PARTITION_BITS: u32 = 12;

/// Groups `items`.
pub(crate) fn group<I: Ids>(ids: &I, items: &Runs, cancel: &Cancel) -> Result<Partitions, Error> {
    let wanted = items.len().div_ceil(PARTITION).next_power_of_two();
    let bits = wanted.trailing_zeros().min(MAX_PARTITION_BITS);
    let per_block = (SPREAD * items.len() / ids.len().max(1)).max(1);
    let found = pool::map(0..items.len().div_ceil(per_block).max(1), |block| {
        cancel.check()?;
        let from = block * per_block;
        let own = from..items.len().min(from + per_block);
        Ok(spread(ids, items, own, bits))
    })?;
    let (spreads, blocks): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let parts = pool::map(0..1_usize << bits, |p| {
        cancel.check()?;
        let pieces: Vec<_> = spreads.iter().map(|spread| spread.part(p)).collect();
        group_partition(ids, items, &pieces, cancel)
    })?;
    Ok(Partitions::new(blocks, parts))
}

fn group_partition<I: Ids>(
    ids: &I,
    items: &Runs,
    pieces: &[Piece<'_, I::Key>],
    cancel: &Cancel,
) -> Result<Partition, Error> {
    let mut table: HashTable<(I::Key, u32)> = HashTable::new();
    let (mut known, mut sizes) = (Known::default(), Vec::<u32>::new());
    let mut locals = Vec::with_capacity(pieces.iter().map(Piece::len).sum());
    for piece in pieces {
        // Nearly all rows may be in one partition.
        cancel.check()?;
        for (Record { key, item }, own) in piece.each(I::carried) {
            let row = items.first(item as usize);
            let found = table.entry(
                ids.hash(key),
                |&(other, local)| other == key && known.is(local, ids, (key, row, own)),
                |&(key, _)| ids.hash(key),
            );
            let (_, local) = *found.or_insert((key, to_u32(sizes.len()))).get();
            if local as usize == sizes.len() {
                known.push(row, own);
                sizes.push(0);
            }
            let rows = items.rows(item as usize);
            sizes[local as usize] += rows.end - rows.start;
            locals.push(local);
        }
    }
    let offsets = offsets(&sizes);
    Ok(Partition {
        places: places(items, pieces, &locals, &offsets, cancel)?,
        offsets,
        firsts: known.firsts,
    })
}

/// Where groups of these sizes begin and the last ends.
fn offsets(sizes: &[u32]) -> Vec<u32> {
    let mut end = 0;
    let ends = sizes.iter().map(|size| {
        end += size;
        end
    });
    once(0).chain(ends).collect()
}

/// What tells the groups of one partition: their first rows, and once for each the bytes that were
/// carried there.
#[derive(Default)]
struct Known {
    firsts: Vec<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Known {
    fn push(&mut self, row: usize, own: &[u8]) {
        self.firsts.push(to_u32(row));
        self.bytes.extend_from_slice(own);
        self.ends.push(self.bytes.len());
    }

    /// Whether group `local` has the id of `row`, which has the same key and the bytes `own`.
    #[inline]
    fn is<I: Ids>(&self, local: u32, ids: &I, (key, row, own): (I::Key, usize, &[u8])) -> bool {
        let local = local as usize;
        // `memcmp` of nothing looks at where nothing is, which may cost more than all the rest.
        if own.is_empty() {
            return I::is_exact(key) || ids.same(self.firsts[local] as usize, row);
        }
        let end = self.ends[local];
        self.bytes[end - own.len()..end] == *own
    }
}

/// The places of the rows of `pieces`, whose local groups are `locals`, sorted by group.
fn places<K>(
    items: &Runs,
    pieces: &[Piece<'_, K>],
    mut locals: &[u32],
    offsets: &[u32],
    cancel: &Cancel,
) -> Result<Vec<u32>, Error> {
    let mut cursor = offsets.to_vec();
    let mut places = Vec::with_capacity(offsets[offsets.len() - 1] as usize);
    for piece in pieces {
        cancel.check()?;
        let records = piece.records;
        let (own, rest) = locals.split_at(records.len());
        locals = rest;
        let mut next = |local: u32, rows: u32| {
            let at = &mut cursor[local as usize];
            *at += rows;
            *at - rows..*at
        };
        if !matches!(items, Runs::Equal { .. }) {
            places.extend(own.iter().map(|&local| next(local, 1).start));
            continue;
        }
        for (record, &local) in records.iter().zip(own) {
            let rows = items.rows(record.item as usize);
            places.extend(next(local, rows.end - rows.start));
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Words whose hashes all collide, and whose keys do if they are as long or over four bytes.
    struct Words(Vec<Vec<u8>>);

    impl Ids for Words {
        type Key = usize;

        fn len(&self) -> usize {
            self.0.len()
        }

        fn key(&self, row: usize) -> usize {
            self.0[row].len().min(5)
        }

        fn carried(key: usize) -> usize {
            if key < 5 { key } else { 0 }
        }

        fn carry(&self, row: usize, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0[row]);
        }

        fn is_exact(key: usize) -> bool {
            key == 0
        }

        fn hash(&self, _: usize) -> u64 {
            7
        }

        fn same(&self, a: usize, b: usize) -> bool {
            self.0[a] == self.0[b]
        }

        fn rises(&self, a: usize, b: usize) -> bool {
            self.0[a] < self.0[b]
        }
    }

    proptest! {
        #[test]
        fn words_of_one_hash_keep_apart_by_the_bytes_that_are_carried_or_where_they_lie(
            words in prop::collection::vec(prop::collection::vec(0_u8..2, 0..8), 1..100)
        ) {
            let mut places = HashMap::new();
            let expected: Vec<usize> = words
                .iter()
                .map(|word| {
                    let next = places.len();
                    *places.entry(word.clone()).or_insert(next)
                })
                .collect();
            let items = Runs::Rows(words.len());
            let cut = group(&Words(words), &items, &Cancel::default()).unwrap();
            let [part] = cut.parts() else { panic!("one partition for so few rows") };
            let group_of = |place| part.offsets.partition_point(|&start| start <= place) - 1;
            let found: Vec<usize> = part.places.iter().map(|&place| group_of(place)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
