//! Scattered rows brought together in two steps that both stay in the cache.
//!
//! Rows in a stretch of neighbours are sorted by partition, and the rows of a partition, from all
//! stretches, by group. Row order is found again the same way back.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::error::Error;
use crate::groups::position;
use crate::items::narrow;
use crate::pool::Cancel;
use crate::stretch::Stretch;

/// The groups of one partition.
#[derive(Debug)]
pub(crate) struct Part {
    /// For each row, stretch after stretch, its place when they are sorted by group.
    pub(crate) places: Vec<u32>,
    /// Sorted by group, group `g` is `offsets[g]..offsets[g + 1]`, in row order.
    pub(crate) offsets: Vec<u32>,
    /// The first row of each group.
    pub(crate) firsts: Vec<u32>,
}

/// All rows, sorted by stretch and partition, and the groups of each partition.
#[derive(Debug)]
pub(crate) struct Partitions {
    stretches: Vec<Stretch>,
    parts: Vec<Part>,
}

impl Part {
    pub(crate) fn n_groups(&self) -> usize {
        self.firsts.len()
    }

    /// Where group `g` lies when the rows are sorted by group.
    pub(crate) fn range(&self, g: usize) -> Range<usize> {
        self.offsets[g] as usize..self.offsets[g + 1] as usize
    }

    /// Sorts the values of the partition, stretch after stretch, by group.
    pub(crate) fn sort<'a, T: Copy + Default + 'a>(
        &self,
        pieces: impl Iterator<Item = &'a [T]>,
        sorted: &mut Vec<T>,
    ) {
        sorted.resize(self.places.len(), T::default());
        let mut places = self.places.as_slice();
        for piece in pieces {
            let (own, rest) = places.split_at(piece.len());
            places = rest;
            for (&value, &place) in piece.iter().zip(own) {
                sorted[place as usize] = value;
            }
        }
    }

    /// Brings values that are sorted by group back to the order of the stretches.
    pub(crate) fn unsort(&self, sorted: &[f64], given: &mut [f64]) {
        for (value, &place) in given.iter_mut().zip(&self.places) {
            *value = sorted[place as usize];
        }
    }
}

impl Partitions {
    pub(crate) fn new(mut stretches: Vec<Stretch>, parts: Vec<Part>) -> Self {
        let mut end = 0;
        let lengths = parts.iter().map(|part| narrow(part.places.len()));
        let mut starts: Vec<u32> = lengths
            .map(|length| {
                end += length;
                end - length
            })
            .collect();
        for stretch in &mut stretches {
            stretch.starts.clone_from(&starts);
            for (start, bounds) in starts.iter_mut().zip(stretch.bounds.windows(2)) {
                *start += bounds[1] - bounds[0];
            }
        }
        Self { stretches, parts }
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(crate) fn n_groups(&self) -> usize {
        self.parts.iter().map(Part::n_groups).sum()
    }

    /// Sorts one value per row by partition inside every stretch.
    pub(crate) fn sort(
        &self,
        given: &[f64],
        sorted: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let work = self.stretches.par_iter().zip(self.of_stretches(sorted));
        work.map(|(stretch, sorted)| {
            cancel.check()?;
            stretch.sort(given[stretch.rows.clone()].iter().copied(), sorted);
            Ok(())
        })
        .collect()
    }

    /// Brings values that are sorted by partition back to row order; dropped rows get NaN.
    pub(crate) fn unsort(
        &self,
        sorted: &[f64],
        given: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let work = self.stretches.par_iter().zip(self.of_stretches(given));
        work.map_init(Vec::new, |own, (stretch, given)| {
            cancel.check()?;
            stretch.unsort(sorted, own, given);
            Ok(())
        })
        .collect()
    }

    fn of_stretches<'a, T>(&self, mut values: &'a mut [T]) -> Vec<&'a mut [T]> {
        let lengths = self.stretches.iter().map(|stretch| stretch.rows.len());
        let cut = |length| values.split_off_mut(..length).expect("one value per row");
        lengths.map(cut).collect()
    }

    /// What the sorted values of partition `p` are, stretch after stretch.
    pub(crate) fn pieces<'a, T>(
        &'a self,
        sorted: &'a [T],
        p: usize,
    ) -> impl Iterator<Item = &'a [T]> {
        let stretches = self.stretches.iter();
        stretches.map(move |stretch| &sorted[stretch.rows.clone()][stretch.part(p)])
    }

    /// The rows of every partition, to be written by one thread each.
    pub(crate) fn of_parts<'a>(&self, mut values: &'a mut [f64]) -> Vec<&'a mut [f64]> {
        let lengths = self.parts.iter().map(|part| part.places.len());
        let cut = |length| values.split_off_mut(..length).expect("one value per row");
        lengths.map(cut).collect()
    }

    /// The number of every partition's groups, counted by their first rows, and the offsets of
    /// all groups in that order.
    pub(crate) fn numbered(&self, n_rows: usize) -> (Vec<Vec<u32>>, Vec<i64>) {
        let mut is_first = vec![0_u64; n_rows.div_ceil(64)];
        for &row in self.parts.iter().flat_map(|part| &part.firsts) {
            is_first[row as usize / 64] |= 1 << (row % 64);
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
        let of_part = |part: &Part| part.firsts.iter().map(number).collect();
        let numbers: Vec<Vec<u32>> = self.parts.par_iter().map(of_part).collect();
        let mut offsets = vec![0; count as usize + 1];
        for (part, numbers) in self.parts.iter().zip(&numbers) {
            for (g, &number) in numbers.iter().enumerate() {
                offsets[number as usize + 1] = i64::from(narrow(part.range(g).len()));
            }
        }
        for g in 0..count as usize {
            offsets[g + 1] += offsets[g];
        }
        (numbers, offsets)
    }

    /// The rows group after group, in the order of the numbers.
    pub(crate) fn order(&self, numbers: &[Vec<u32>], offsets: &[i64]) -> Vec<u32> {
        let by_partition: Vec<Vec<u32>> = self.stretches.par_iter().map(Stretch::order).collect();
        let n_kept = offsets.last().map_or(0, |&end| position(end));
        // Atomics only so that threads may write to interleaved groups.
        let order: Vec<AtomicU32> = (0..n_kept).map(|_| AtomicU32::new(0)).collect();
        let parts = self.parts.par_iter().zip(numbers).enumerate();
        parts.for_each_init(Vec::new, |by_group, (p, (part, numbers))| {
            let stretches = self.stretches.iter().zip(&by_partition);
            part.sort(
                stretches.map(|(stretch, rows)| &rows[stretch.part(p)]),
                by_group,
            );
            for (g, &number) in numbers.iter().enumerate() {
                let start = position(offsets[number as usize]);
                for (place, &row) in order[start..].iter().zip(&by_group[part.range(g)]) {
                    place.store(row, Ordering::Relaxed);
                }
            }
        });
        order.into_iter().map(AtomicU32::into_inner).collect()
    }
}
