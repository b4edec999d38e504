//! What a worker keeps from one piece of work to the next, and how it fills columns.

use std::ops::Range;

use super::column::Column;
use super::normal::Tables;
use super::sorted::Sorted;
use crate::error::Error;
use crate::groups::Partition;
use crate::pool::Cancel;

/// What a worker keeps from group to group.
#[derive(Default)]
pub(crate) struct Scratch<'a> {
    group: Sorted<'a>,
    tables: Tables,
}

impl<'a> Scratch<'a> {
    pub(crate) fn until(cancel: &'a Cancel) -> Self {
        Self {
            group: Sorted::until(cancel),
            ..Self::default()
        }
    }

    /// Computes the columns of the groups that lie at `ranges` of `rewards` into `outs`. The row
    /// of an error is a place in its group.
    pub(crate) fn fill(
        &mut self,
        rewards: &[f64],
        ranges: impl Iterator<Item = Range<usize>>,
        columns: &[Column],
        outs: &mut [&mut [f64]],
    ) -> Result<(), Error> {
        for range in ranges {
            self.group.load(&rewards[range.clone()])?;
            for (column, out) in columns.iter().zip(outs.iter_mut()) {
                column.write(&self.group, &mut self.tables, &mut out[range.clone()])?;
            }
        }
        Ok(())
    }
}

/// What a worker keeps from partition to partition.
pub(crate) struct PartScratch<'a> {
    cancel: &'a Cancel,
    groups: Scratch<'a>,
    /// Rewards and columns, group after group.
    rewards: Vec<f64>,
    columns: Vec<Vec<f64>>,
}

impl<'a> PartScratch<'a> {
    pub(crate) fn until(cancel: &'a Cancel) -> Self {
        Self {
            cancel,
            groups: Scratch::until(cancel),
            rewards: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Computes the columns of one partition, whose rewards lie in `pieces`: group after group.
    pub(crate) fn fill<'b>(
        &mut self,
        part: &Partition,
        pieces: impl Iterator<Item = &'b [f64]>,
        columns: &[Column],
    ) -> Result<&[Vec<f64>], Error> {
        part.sort(pieces, &mut self.rewards, self.cancel)?;
        self.columns.resize_with(columns.len(), Vec::new);
        for column in &mut self.columns {
            self.cancel.resize(column, self.rewards.len(), &0.0)?;
        }
        let mut outs: Vec<&mut [f64]> = self.columns.iter_mut().map(Vec::as_mut_slice).collect();
        let ranges = (0..part.n_groups()).map(|g| part.range(g));
        self.groups
            .fill(&self.rewards, ranges, columns, &mut outs)?;
        Ok(&self.columns)
    }
}
