//! Grouping by hashing, in partitions that fit the cache.
//!
//! Items are spread over
//! partitions by bits of their hash; each partition is grouped in a table of its own;
//! the groups of all partitions are then numbered by their first item.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;
use rayon::prelude::*;

use crate::error::Error;
use crate::groups::{Ids, NOWHERE};
use crate::items::{Items, narrow};
use crate::pool::Cancel;

/// Items per task: its partitions are long enough to be read in a stream.
const TASK: usize = 1 << 20;
/// Items per partition aimed at: its table fits the second-level cache.
const PARTITION: usize = 1 << 15;
const MAX_PARTITION_BITS: u32 = 10;

/// The seed of this process's hashes. Results do not depend on it.
pub(crate) fn process_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(0x6773_706f))
}

/// A bijection of 64-bit words that spreads every bit (the finaliser of `SplitMix64`).
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[derive(Clone, Copy, Default)]
struct Record {
    hash: u64,
    item: u32,
}

/// One task's records, partition after partition.
struct Spread {
    records: Vec<Record>,
    bounds: Vec<usize>,
}

/// What one partition's table found.
struct Partition {
    /// The local group of each record, in the order of the tasks.
    locals: Vec<u32>,
    /// The first item of each local group.
    firsts: Vec<u32>,
    /// The rows of each local group.
    sizes: Vec<u32>,
}

/// Groups `items`: the offsets of the groups, and the order unless the rows came in it.
pub(crate) fn group<I: Ids>(
    ids: &I,
    items: &Items,
    cancel: &Cancel,
) -> Result<(Vec<i64>, Option<Vec<u32>>), Error> {
    let wanted = items
        .len()
        .div_ceil(PARTITION)
        .next_power_of_two()
        .trailing_zeros();
    let bits = wanted.min(MAX_PARTITION_BITS);
    let spreads: Vec<Spread> = (0..items.len().div_ceil(TASK))
        .into_par_iter()
        .map(|task| {
            cancel
                .check()
                .map(|()| spread(ids, items, task * TASK, bits))
        })
        .collect::<Result<_, Error>>()?;
    let mut partitions: Vec<Partition> = (0..1_usize << bits)
        .into_par_iter()
        .map(|p| {
            cancel
                .check()
                .map(|()| group_partition(ids, items, &spreads, p))
        })
        .collect::<Result<_, Error>>()?;
    let n_groups = number_by_first_item(&mut partitions, items.len());
    if n_groups == items.len() && !matches!(items, Items::Kept(_)) {
        return Ok((items.offsets(), None));
    }
    let offsets = offsets_of(&partitions, n_groups);
    let order = place_rows(items, &spreads, &partitions, &offsets);
    Ok((offsets, Some(order)))
}

/// Hashes the items of one task and sorts them by partition, keeping their order inside it.
fn spread<I: Ids>(ids: &I, items: &Items, from: usize, bits: u32) -> Spread {
    let to = items.len().min(from + TASK);
    // Middle bits: the tables inside a partition use the low and the top ones.
    let partition = |hash: u64| (hash >> 32) as usize & ((1 << bits) - 1);
    let hashes: Vec<u64> = (from..to).map(|item| ids.hash(items.first(item))).collect();
    let mut bounds = vec![0; (1 << bits) + 1];
    for &hash in &hashes {
        bounds[partition(hash) + 1] += 1;
    }
    for p in 0..1 << bits {
        bounds[p + 1] += bounds[p];
    }
    let mut cursor = bounds.clone();
    let mut records = vec![Record::default(); hashes.len()];
    for (item, &hash) in (from..to).zip(&hashes) {
        let at = &mut cursor[partition(hash)];
        records[*at] = Record {
            hash,
            item: narrow(item),
        };
        *at += 1;
    }
    Spread { records, bounds }
}

/// The records of partition `p`, in item order.
fn records_of(spreads: &[Spread], p: usize) -> impl Iterator<Item = &Record> {
    spreads
        .iter()
        .flat_map(move |s| &s.records[s.bounds[p]..s.bounds[p + 1]])
}

fn group_partition<I: Ids>(ids: &I, items: &Items, spreads: &[Spread], p: usize) -> Partition {
    let mut table: HashTable<(u64, u32)> = HashTable::new();
    let (mut firsts, mut sizes) = (Vec::<u32>::new(), Vec::new());
    let mut locals =
        Vec::with_capacity(spreads.iter().map(|s| s.bounds[p + 1] - s.bounds[p]).sum());
    for &Record { hash, item } in records_of(spreads, p) {
        let row = items.first(item as usize);
        let found = table.entry(
            hash,
            |&(other, local)| {
                other == hash
                    && (I::HASH_IS_EXACT
                        || ids.same(items.first(firsts[local as usize] as usize), row))
            },
            |&(hash, _)| hash,
        );
        let (_, local) = *found.or_insert((hash, narrow(firsts.len()))).get();
        if local as usize == firsts.len() {
            firsts.push(item);
            sizes.push(0);
        }
        let rows = items.rows(item as usize);
        sizes[local as usize] += rows.end - rows.start;
        locals.push(local);
    }
    Partition {
        locals,
        firsts,
        sizes,
    }
}

/// Turns each local group's first item into the group's number; returns how many there are.
fn number_by_first_item(partitions: &mut [Partition], n_items: usize) -> usize {
    let mut is_first = vec![0_u64; n_items.div_ceil(64)];
    for &item in partitions.iter().flat_map(|partition| &partition.firsts) {
        is_first[item as usize / 64] |= 1 << (item % 64);
    }
    let mut count = 0;
    let before: Vec<u32> = is_first
        .iter()
        .map(|word| {
            count += word.count_ones();
            count - word.count_ones()
        })
        .collect();
    partitions
        .par_iter_mut()
        .flat_map(|partition| &mut partition.firsts)
        .for_each(|first| {
            let (word, bit) = (*first as usize / 64, *first % 64);
            let smaller = is_first[word] & ((1 << bit) - 1);
            *first = before[word] + smaller.count_ones();
        });
    count as usize
}

fn offsets_of(partitions: &[Partition], n_groups: usize) -> Vec<i64> {
    let mut offsets = vec![0; n_groups + 1];
    for partition in partitions {
        for (&group, &size) in partition.firsts.iter().zip(&partition.sizes) {
            offsets[group as usize + 1] = i64::from(size);
        }
    }
    for g in 0..n_groups {
        offsets[g + 1] += offsets[g];
    }
    offsets
}

/// The place of each row in `order`.
pub(crate) fn inverse(order: &[u32], n_rows: usize) -> Vec<u32> {
    // Atomics only so that threads may write to interleaved rows; each row is written once.
    let places: Vec<AtomicU32> = (0..n_rows)
        .into_par_iter()
        .map(|_| AtomicU32::new(NOWHERE))
        .collect();
    order.par_iter().enumerate().for_each(|(place, &row)| {
        places[row as usize].store(narrow(place), Ordering::Relaxed);
    });
    places.into_iter().map(AtomicU32::into_inner).collect()
}

/// Writes every row to its group's place; partitions own disjoint groups.
fn place_rows(
    items: &Items,
    spreads: &[Spread],
    partitions: &[Partition],
    offsets: &[i64],
) -> Vec<u32> {
    let n_rows = crate::groups::position(offsets[offsets.len() - 1]);
    let order: Vec<AtomicU32> = (0..n_rows).map(|_| AtomicU32::new(0)).collect();
    partitions
        .par_iter()
        .enumerate()
        .for_each(|(p, partition)| {
            let start = |&group: &u32| crate::groups::position(offsets[group as usize]);
            let mut cursor: Vec<usize> = partition.firsts.iter().map(start).collect();
            for (record, &local) in records_of(spreads, p).zip(&partition.locals) {
                for row in items.rows(record.item as usize) {
                    order[cursor[local as usize]].store(row, Ordering::Relaxed);
                    cursor[local as usize] += 1;
                }
            }
        });
    order.into_iter().map(AtomicU32::into_inner).collect()
}
