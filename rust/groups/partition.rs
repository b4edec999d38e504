//! Scattered rows brought together in two steps that both stay in the cache.
//!
//! Rows in a block of neighbours are sorted by partition, and the rows of a partition, from all
//! blocks, by group. Row order is found again the same way back.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::block::Block;
use super::index::{position, to_u32};
use crate::error::Error;
use crate::pool::{self, CHECK_EVERY, Cancel};

/// The groups of one partition.
#[derive(Debug)]
pub(crate) struct Partition {
    /// For each row, block after block, its place when they are sorted by group.
    pub(crate) places: Vec<u32>,
    /// Sorted by group, group `g` is `offsets[g]..offsets[g + 1]`, in row order.
    pub(crate) offsets: Vec<u32>,
    /// The first row of each group.
    pub(crate) firsts: Vec<u32>,
}

/// All rows, sorted by block and partition, and the groups of each partition.
#[derive(Debug)]
pub(crate) struct Partitions {
    blocks: Vec<Block>,
    parts: Vec<Partition>,
}

impl Partition {
    /// Its rows.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn n_groups(&self) -> usize {
        self.firsts.len()
    }

    /// Where group `g` lies when the rows are sorted by group.
    pub(crate) fn range(&self, g: usize) -> Range<usize> {
        self.offsets[g] as usize..self.offsets[g + 1] as usize
    }

    /// Sorts the values of the partition, block after block, by group.
    pub(crate) fn sort<'a, T: Copy + 'a>(
        &self,
        pieces: impl Iterator<Item = &'a [T]>,
        sorted: &mut [T],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let mut places = self.places.as_slice();
        for piece in pieces {
            cancel.check()?;
            let (own, rest) = places.split_at(piece.len());
            places = rest;
            for (&value, &place) in piece.iter().zip(own) {
                sorted[place as usize] = value;
            }
        }
        Ok(())
    }

    /// Brings values that are sorted by group back to the order of the blocks.
    pub(crate) fn unsort(
        &self,
        sorted: &[f64],
        given: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let blocks = given
            .chunks_mut(CHECK_EVERY)
            .zip(self.places.chunks(CHECK_EVERY));
        let done = pool::map(blocks, |(given, places)| {
            cancel.check()?;
            for (value, &place) in given.iter_mut().zip(places) {
                *value = sorted[place as usize];
            }
            Ok(())
        });
        done.map(drop)
    }
}

impl Partitions {
    pub(crate) fn new(mut blocks: Vec<Block>, parts: Vec<Partition>) -> Self {
        let mut end = 0;
        let lengths = parts.iter().map(|part| to_u32(part.places.len()));
        let mut starts: Vec<u32> = lengths
            .map(|length| {
                end += length;
                end - length
            })
            .collect();
        for block in &mut blocks {
            block.starts.clone_from(&starts);
            for (start, bounds) in starts.iter_mut().zip(block.bounds.windows(2)) {
                *start += bounds[1] - bounds[0];
            }
        }
        Self { blocks, parts }
    }

    /// Of all rows in one partition.
    pub(crate) fn single(part: Partition) -> Self {
        Self::new(vec![Block::single(part.len())], vec![part])
    }

    pub(crate) fn parts(&self) -> &[Partition] {
        &self.parts
    }

    /// The only partition, if all rows are in it in their order.
    pub(crate) fn alone(&self) -> Option<&Partition> {
        let ([part], [block]) = (self.parts.as_slice(), self.blocks.as_slice()) else {
            return None;
        };
        (part.len() == block.rows.len()).then_some(part)
    }

    pub(crate) fn n_groups(&self) -> usize {
        self.parts.iter().map(Partition::n_groups).sum()
    }

    /// Sorts one value per row by partition inside every block.
    pub(crate) fn sort(
        &self,
        given: &[f64],
        sorted: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let work = self.blocks.iter().zip(self.of_blocks(sorted));
        let done = pool::map(work, |(block, sorted)| {
            let given = given[block.rows.clone()].iter().copied();
            block.sort(given, sorted, cancel)
        });
        done.map(drop)
    }

    /// Brings values that are sorted by partition back to row order; dropped rows get NaN.
    pub(crate) fn unsort(
        &self,
        sorted: &[f64],
        given: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let work = self.blocks.iter().zip(self.of_blocks(given));
        let done = pool::map_init(work, Vec::new, |own, (block, given)| {
            block.unsort(sorted, own, given, cancel)
        });
        done.map(drop)
    }

    fn of_blocks<'a, T>(&self, mut values: &'a mut [T]) -> Vec<&'a mut [T]> {
        let lengths = self.blocks.iter().map(|block| block.rows.len());
        let cut = |length| values.split_off_mut(..length).expect("one value per row");
        lengths.map(cut).collect()
    }

    /// What the sorted values of partition `p` are, block after block.
    pub(crate) fn pieces<'a, T>(
        &'a self,
        sorted: &'a [T],
        p: usize,
    ) -> impl Iterator<Item = &'a [T]> {
        let blocks = self.blocks.iter();
        blocks.map(move |block| &sorted[block.rows.clone()][block.part(p)])
    }

    /// The rows of every partition, to be written by one thread each.
    pub(crate) fn of_parts<'a>(&self, mut values: &'a mut [f64]) -> Vec<&'a mut [f64]> {
        let lengths = self.parts.iter().map(|part| part.places.len());
        let cut = |length| values.split_off_mut(..length).expect("one value per row");
        lengths.map(cut).collect()
    }

    /// The number of every partition's groups, counted by their first rows, and the offsets of
    /// all groups in that order.
    pub(crate) fn numbered(
        &self,
        n_rows: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<Vec<u32>>, Vec<i64>), Error> {
        let mut is_first = vec![0_u64; n_rows.div_ceil(64)];
        for part in &self.parts {
            cancel.check()?;
            for &row in &part.firsts {
                is_first[row as usize / 64] |= 1 << (row % 64);
            }
        }
        let mut count = 0;
        let counted = is_first.iter().map(|word| {
            count += word.count_ones();
            count - word.count_ones()
        });
        let before: Vec<u32> = counted.collect();
        let number = |&row: &u32| {
            let (word, bit) = (row as usize / 64, row % 64);
            before[word] + (is_first[word] & ((1 << bit) - 1)).count_ones()
        };
        let of_part = |part: &Partition| {
            cancel.check()?;
            Ok(part.firsts.iter().map(number).collect())
        };
        let numbers: Vec<Vec<u32>> = pool::map(self.parts.iter(), of_part)?;
        let offsets = self.offsets(&numbers, count as usize, cancel)?;
        Ok((numbers, offsets))
    }

    /// The offsets of `count` groups, in the order of their `numbers`.
    fn offsets(
        &self,
        numbers: &[Vec<u32>],
        count: usize,
        cancel: &Cancel,
    ) -> Result<Vec<i64>, Error> {
        let mut offsets = vec![0; count + 1];
        for (part, numbers) in self.parts.iter().zip(numbers) {
            cancel.check()?;
            for (g, &number) in numbers.iter().enumerate() {
                offsets[number as usize + 1] = i64::from(to_u32(part.range(g).len()));
            }
        }
        let mut end = 0;
        for offsets in offsets.chunks_mut(CHECK_EVERY) {
            cancel.check()?;
            for offset in offsets {
                end += *offset;
                *offset = end;
            }
        }
        Ok(offsets)
    }

    /// The rows group after group, in the order of the numbers.
    pub(crate) fn order(
        &self,
        numbers: &[Vec<u32>],
        offsets: &[i64],
        cancel: &Cancel,
    ) -> Result<Vec<u32>, Error> {
        let of_block = |block: &Block| block.order(cancel);
        let by_partition: Vec<Vec<u32>> = pool::map(self.blocks.iter(), of_block)?;
        let n_kept = offsets.last().map_or(0, |&end| position(end));
        // Atomics only so that threads may write to interleaved groups.
        let mut order = Vec::<AtomicU32>::with_capacity(n_kept);
        while order.len() < n_kept {
            cancel.check()?;
            order.resize_with(n_kept.min(order.len() + CHECK_EVERY), AtomicU32::default);
        }
        let parts = self.parts.iter().zip(numbers).enumerate();
        pool::map_init(parts, Vec::new, |by_group, (p, (part, numbers))| {
            let blocks = self.blocks.iter().zip(&by_partition);
            let pieces = blocks.map(|(block, rows)| &rows[block.part(p)]);
            cancel.resize(by_group, part.len(), &0)?;
            part.sort(pieces, by_group, cancel)?;
            for (g, &number) in numbers.iter().enumerate() {
                let rows = by_group[part.range(g)].chunks(CHECK_EVERY);
                let places = order[position(offsets[number as usize])..].chunks(CHECK_EVERY);
                for (places, rows) in places.zip(rows) {
                    cancel.check()?;
                    for (place, &row) in places.iter().zip(rows) {
                        place.store(row, Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        })?;
        Ok(order.into_iter().map(AtomicU32::into_inner).collect())
    }
}
