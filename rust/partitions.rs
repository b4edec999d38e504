//! Scattered rows brought together in two steps that both stay in the cache.
//!
//! Rows in a stretch of neighbours are sorted by partition, and the rows of a partition, from all
//! stretches, by group. Row order is found again the same way back.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use crate::error::Error;
use crate::groups::position;
use crate::items::{Items, narrow};
use crate::pool::Cancel;

/// The partition of a row that belongs to no group.
const NO_HOME: u16 = u16::MAX;

/// Neighbouring rows, and where they go when they are sorted by partition.
#[derive(Debug)]
pub(crate) struct Stretch {
    rows: Range<usize>,
    /// The partition of each row.
    homes: Vec<u16>,
    /// Sorted by partition, partition `p` is `bounds[p]..bounds[p + 1]`, in row order.
    bounds: Vec<u32>,
}

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

impl Stretch {
    /// Of the items `own`, with the partition of each and the bounds of the sorted items.
    pub(crate) fn new(
        items: &Items,
        n_rows: usize,
        own: Range<usize>,
        homes: Vec<u16>,
        bounds: &[u32],
    ) -> Self {
        // Dropped rows belong to the stretch of the items before them.
        let start = if own.start == 0 {
            0
        } else {
            items.first(own.start)
        };
        let end = if own.end == items.len() {
            n_rows
        } else {
            items.first(own.end)
        };
        if matches!(items, Items::Rows(_)) {
            return Self {
                rows: start..end,
                homes,
                bounds: bounds.to_vec(),
            };
        }
        let mut of_rows = vec![NO_HOME; end - start];
        let mut bounds = vec![0; bounds.len()];
        for (item, home) in own.zip(homes) {
            let rows = items.rows(item);
            bounds[home as usize + 1] += rows.end - rows.start;
            of_rows[rows.start as usize - start..rows.end as usize - start].fill(home);
        }
        for p in 1..bounds.len() {
            bounds[p] += bounds[p - 1];
        }
        Self {
            rows: start..end,
            homes: of_rows,
            bounds,
        }
    }

    /// Sorts `given`, one value per row, by partition into `sorted`, which may be longer.
    fn sort<T: Copy>(&self, given: impl Iterator<Item = T>, sorted: &mut [T]) {
        let mut cursor = self.bounds.clone();
        for (value, &home) in given.zip(&self.homes) {
            if home != NO_HOME {
                let at = &mut cursor[home as usize];
                sorted[*at as usize] = value;
                *at += 1;
            }
        }
    }

    /// Brings values that are sorted by partition back to row order; dropped rows get NaN.
    fn unsort(&self, sorted: &[f64], given: &mut [f64]) {
        let mut cursor = self.bounds.clone();
        for (value, &home) in given.iter_mut().zip(&self.homes) {
            *value = if home == NO_HOME {
                f64::NAN
            } else {
                let at = &mut cursor[home as usize];
                *at += 1;
                sorted[*at as usize - 1]
            };
        }
    }

    /// Where partition `p` lies in the sorted stretch.
    fn part(&self, p: usize) -> Range<usize> {
        self.bounds[p] as usize..self.bounds[p + 1] as usize
    }
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

    /// Brings values that are sorted by group back to the stretches.
    pub(crate) fn unsort(&self, sorted: &[f64], pieces: &mut [&mut [f64]]) {
        let mut places = self.places.as_slice();
        for piece in pieces {
            let (own, rest) = places.split_at(piece.len());
            places = rest;
            for (value, &place) in piece.iter_mut().zip(own) {
                *value = sorted[place as usize];
            }
        }
    }
}

impl Partitions {
    pub(crate) fn new(stretches: Vec<Stretch>, parts: Vec<Part>) -> Self {
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

    /// Brings values back to row order; dropped rows get NaN.
    pub(crate) fn unsort(
        &self,
        sorted: &[f64],
        given: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let work = self.stretches.par_iter().zip(self.of_stretches(given));
        work.map(|(stretch, given)| {
            cancel.check()?;
            stretch.unsort(&sorted[stretch.rows.clone()], given);
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

    /// The pieces of every partition, to be written by one thread each.
    pub(crate) fn pieces_mut<'a>(&self, sorted: &'a mut [f64]) -> Vec<Vec<&'a mut [f64]>> {
        let empty = || Vec::with_capacity(self.stretches.len());
        let mut pieces: Vec<_> = self.parts.iter().map(|_| empty()).collect();
        for (stretch, mut own) in self.stretches.iter().zip(self.of_stretches(sorted)) {
            for (p, pieces) in pieces.iter_mut().enumerate() {
                let piece = own.split_off_mut(..stretch.part(p).len());
                pieces.push(piece.expect("the bounds end with the stretch"));
            }
        }
        pieces
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

impl Stretch {
    /// Its rows, sorted by partition.
    fn order(&self) -> Vec<u32> {
        let mut order = vec![0; self.rows.len()];
        self.sort(self.rows.clone().map(narrow), &mut order);
        order
    }
}
