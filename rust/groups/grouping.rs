//! Grouping by hashing, in partitions that fit the cache.
//!
//! Runs are spread over partitions by bits of their hash; each partition is then grouped in a
//! table of its own.

use hashbrown::HashTable;

use super::block::Block;
use super::ids::Ids;
use super::index::to_u32;
use super::partition::{Partition, Partitions};
use super::runs::Runs;
use crate::error::Error;
use crate::pool::{self, Cancel};

/// Rows per block: one column of it fits the second-level cache, and each of its partitions fills
/// a few cache lines.
const SPREAD: usize = 1 << 16;
/// Runs per partition aimed at: with a few columns of results it fits the second-level cache.
const PARTITION: usize = 1 << 14;
const MAX_PARTITION_BITS: u32 = 12;

#[derive(Clone, Copy, Default)]
struct Record<K> {
    key: K,
    item: u32,
}

/// The records of one block, partition after partition, in item order inside each.
struct Spread<K> {
    records: Vec<Record<K>>,
    bounds: Vec<u32>,
}

impl<K> Spread<K> {
    fn part(&self, p: usize) -> &[Record<K>] {
        &self.records[self.bounds[p] as usize..self.bounds[p + 1] as usize]
    }
}

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
        let records: Vec<_> = spreads.iter().map(|spread| spread.part(p)).collect();
        group_partition(ids, items, &records, cancel)
    })?;
    Ok(Partitions::new(blocks, parts))
}

/// Sorts the items of one block by partition, keeping their order inside it.
fn spread<I: Ids>(
    ids: &I,
    items: &Runs,
    own: std::ops::Range<usize>,
    bits: u32,
) -> (Spread<I::Key>, Block) {
    // Middle bits: the tables inside a partition use the low and the top ones.
    let home_of = |hash: u64| (hash >> 32) as usize & ((1 << bits) - 1);
    let keys: Vec<I::Key> = own.clone().map(|item| ids.key(items.first(item))).collect();
    let homes: Vec<u16> = keys
        .iter()
        .map(|&key| u16::try_from(home_of(ids.hash(key))).expect("partitions fit 16 bits"))
        .collect();
    let mut bounds = vec![0; (1 << bits) + 1];
    for &home in &homes {
        bounds[home as usize + 1] += 1;
    }
    for p in 0..1 << bits {
        bounds[p + 1] += bounds[p];
    }
    let mut cursor = bounds.clone();
    let mut records = vec![Record::default(); keys.len()];
    for ((item, &key), &home) in own.clone().zip(&keys).zip(&homes) {
        let at = &mut cursor[home as usize];
        records[*at as usize] = Record {
            key,
            item: to_u32(item),
        };
        *at += 1;
    }
    let block = Block::new(items, ids.len(), own, homes, &bounds);
    (Spread { records, bounds }, block)
}

fn group_partition<I: Ids>(
    ids: &I,
    items: &Runs,
    records: &[&[Record<I::Key>]],
    cancel: &Cancel,
) -> Result<Partition, Error> {
    let mut table: HashTable<(I::Key, u32)> = HashTable::new();
    let (mut firsts, mut offsets) = (Vec::<u32>::new(), vec![0_u32]);
    let n_items = records.iter().map(|records| records.len()).sum();
    let mut locals = Vec::with_capacity(n_items);
    for &records in records {
        // Nearly all rows may be in one partition.
        cancel.check()?;
        for &Record { key, item } in records {
            let row = items.first(item as usize);
            let found = table.entry(
                ids.hash(key),
                |&(other, local)| {
                    other == key
                        && (I::is_exact(key) || ids.same(firsts[local as usize] as usize, row))
                },
                |&(key, _)| ids.hash(key),
            );
            let (_, local) = *found.or_insert((key, to_u32(firsts.len()))).get();
            if local as usize == firsts.len() {
                firsts.push(to_u32(row));
                offsets.push(0);
            }
            let rows = items.rows(item as usize);
            offsets[local as usize + 1] += rows.end - rows.start;
            locals.push(local);
        }
    }
    for g in 0..firsts.len() {
        offsets[g + 1] += offsets[g];
    }
    Ok(Partition {
        places: places(items, records, &locals, &offsets, cancel)?,
        offsets,
        firsts,
    })
}

/// The places of the rows of `records`, whose local groups are `locals`, sorted by group.
fn places<K>(
    items: &Runs,
    records: &[&[Record<K>]],
    mut locals: &[u32],
    offsets: &[u32],
    cancel: &Cancel,
) -> Result<Vec<u32>, Error> {
    let mut cursor = offsets.to_vec();
    let mut places = Vec::with_capacity(offsets[offsets.len() - 1] as usize);
    for &records in records {
        cancel.check()?;
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
