//! Neighbouring rows, sorted by partition and back.

use std::ops::Range;

use super::index::to_u32;
use super::runs::Runs;
use crate::error::Error;
use crate::pool::{CHECK_EVERY, Cancel};

/// The partition of a row that belongs to no group.
const NO_HOME: u16 = u16::MAX;

/// Neighbouring rows, and where they go when they are sorted by partition.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) rows: Range<usize>,
    /// The partition of each row.
    homes: Vec<u16>,
    /// Sorted by partition, partition `p` is `bounds[p]..bounds[p + 1]`, in row order.
    pub(crate) bounds: Vec<u32>,
    /// Where each of its partitions begins when all rows are sorted by partition.
    pub(crate) starts: Vec<u32>,
}

impl Block {
    /// Of the items `own`, with the partition of each and the bounds of the sorted items.
    pub(crate) fn new(
        items: &Runs,
        n_rows: usize,
        own: Range<usize>,
        homes: Vec<u16>,
        bounds: &[u32],
    ) -> Self {
        // Dropped rows belong to the block of the items before them.
        let border = |item| match item {
            item if item == items.len() => n_rows,
            item => items.first(item),
        };
        let start = if own.start == 0 { 0 } else { border(own.start) };
        let rows = start..border(own.end);
        if matches!(items, Runs::Rows(_)) {
            return Self {
                rows,
                homes,
                bounds: bounds.to_vec(),
                starts: Vec::new(),
            };
        }
        let mut of_rows = vec![NO_HOME; rows.len()];
        let mut bounds = vec![0; bounds.len()];
        for (item, home) in own.zip(homes) {
            let run = items.rows(item);
            bounds[home as usize + 1] += run.end - run.start;
            of_rows[run.start as usize - rows.start..run.end as usize - rows.start].fill(home);
        }
        for p in 1..bounds.len() {
            bounds[p] += bounds[p - 1];
        }
        Self {
            rows,
            homes: of_rows,
            bounds,
            starts: Vec::new(),
        }
    }

    /// Of so many rows in one partition.
    pub(crate) fn single(rows: usize) -> Self {
        Self {
            rows: 0..rows,
            homes: vec![0; rows],
            bounds: vec![0, to_u32(rows)],
            starts: Vec::new(),
        }
    }

    /// Sorts `given`, one value per row, by partition into `sorted`, which may be longer.
    pub(crate) fn sort<T: Copy>(
        &self,
        mut given: impl Iterator<Item = T>,
        sorted: &mut [T],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let mut cursor = self.bounds.clone();
        // A run of one id, however long, is in one block.
        for homes in self.homes.chunks(CHECK_EVERY) {
            cancel.check()?;
            for (&home, value) in homes.iter().zip(given.by_ref()) {
                if home != NO_HOME {
                    let at = &mut cursor[home as usize];
                    sorted[*at as usize] = value;
                    *at += 1;
                }
            }
        }
        Ok(())
    }

    /// Brings values of all rows, sorted by partition, back to the order of its own; dropped rows
    /// get NaN.
    pub(crate) fn unsort(
        &self,
        sorted: &[f64],
        own: &mut Vec<f64>,
        given: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        own.clear();
        for (p, &start) in self.starts.iter().enumerate() {
            let start = start as usize;
            own.extend_from_slice(&sorted[start..start + self.part(p).len()]);
        }
        let mut cursor = self.bounds.clone();
        for (given, homes) in given
            .chunks_mut(CHECK_EVERY)
            .zip(self.homes.chunks(CHECK_EVERY))
        {
            cancel.check()?;
            for (value, &home) in given.iter_mut().zip(homes) {
                *value = if home == NO_HOME {
                    f64::NAN
                } else {
                    let at = &mut cursor[home as usize];
                    *at += 1;
                    own[*at as usize - 1]
                };
            }
        }
        Ok(())
    }

    /// Where partition `p` lies in the sorted block.
    pub(crate) fn part(&self, p: usize) -> Range<usize> {
        self.bounds[p] as usize..self.bounds[p + 1] as usize
    }

    /// Its rows, sorted by partition.
    pub(crate) fn order(&self, cancel: &Cancel) -> Result<Vec<u32>, Error> {
        let mut order = vec![0; self.rows.len()];
        self.sort(self.rows.clone().map(to_u32), &mut order, cancel)?;
        Ok(order)
    }
}
