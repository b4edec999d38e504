//! What a worker keeps from one piece of work to the next, and how it fills columns.

use std::ops::Range;

use super::column::Column;
use super::lane::Lane;
use super::lanes::Lanes;
use super::means::Means;
use super::needs::Needs;
use super::network::LANES;
use super::normal::Tables;
use super::sorted::Sorted;
use super::two::Two;
use crate::error::Error;
use crate::groups::Partition;
use crate::pool::Cancel;

/// Rewards, or some more, whose means are found at once: they stay in the first-level cache.
const BLOCK: usize = 1 << 10;

/// What a worker keeps from group to group.
#[derive(Default)]
pub(crate) struct Scratch<'a> {
    group: Sorted<'a>,
    lanes: Lanes,
    means: Means,
    sizes: Vec<usize>,
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
        if columns.iter().all(|&column| Means::suffice_for(column)) {
            return self.fill_by_means(rewards, ranges, columns, outs);
        }
        let needs = columns.iter().map(|column| column.needs());
        match needs.reduce(|all, needs| Some(all?.and(needs?))).flatten() {
            Some(needs) => self.fill_side_by_side(rewards, ranges, (columns, needs), outs),
            None => self.fill_each(rewards, ranges, columns, outs),
        }
    }

    /// Computes columns for which the means of the groups suffice.
    fn fill_by_means(
        &mut self,
        rewards: &[f64],
        ranges: impl Iterator<Item = Range<usize>>,
        columns: &[Column],
        outs: &mut [&mut [f64]],
    ) -> Result<(), Error> {
        let mut ranges = ranges.peekable();
        while let Some(first) = ranges.peek() {
            let (start, mut end) = (first.start, first.start);
            self.sizes.clear();
            while end - start < BLOCK
                && let Some(range) = ranges.next()
            {
                self.sizes.push(range.len());
                end = range.end;
            }
            let own = &rewards[start..end];
            if self.means.load(own, &self.sizes) {
                for (&column, out) in columns.iter().zip(outs.iter_mut()) {
                    self.means
                        .write(column, own, &self.sizes, &mut out[start..end]);
                }
            } else {
                let sizes = std::mem::take(&mut self.sizes);
                self.fill_each(rewards, places(start, &sizes), columns, outs)?;
                self.sizes = sizes;
            }
        }
        Ok(())
    }

    /// Computes columns for which several groups are looked at at once.
    fn fill_side_by_side(
        &mut self,
        rewards: &[f64],
        ranges: impl Iterator<Item = Range<usize>>,
        (columns, needs): (&[Column], Needs),
        outs: &mut [&mut [f64]],
    ) -> Result<(), Error> {
        let mut ranges = ranges.peekable();
        while let Some(first) = ranges.peek() {
            let start = first.start;
            if first.len() == 2 && needs.spread {
                let own = start..first.end;
                ranges.next();
                self.fill_two(rewards, own, columns, outs)?;
                continue;
            }
            let (mut sizes, mut count, mut end) = ([0; LANES], 0, start);
            for (size, range) in sizes.iter_mut().zip(ranges.by_ref()) {
                (*size, count, end) = (range.len(), count + 1, range.end);
            }
            let sizes = &sizes[..count];
            if self.lanes.load(&rewards[start..end], sizes, needs) {
                for (column, out) in columns.iter().zip(outs.iter_mut()) {
                    for (lane, own) in places(start, sizes).enumerate() {
                        let group = Lane::of(&self.lanes, lane, &rewards[own.clone()]);
                        column.write_plain(&group, &mut self.tables, &mut out[own]);
                    }
                }
            } else {
                self.fill_each(rewards, places(start, sizes), columns, outs)?;
            }
        }
        Ok(())
    }

    /// Computes the columns of a group of two.
    #[inline]
    fn fill_two(
        &mut self,
        rewards: &[f64],
        own: Range<usize>,
        columns: &[Column],
        outs: &mut [&mut [f64]],
    ) -> Result<(), Error> {
        let Some(group) = Two::of(&rewards[own.clone()]) else {
            return self.fill_each(rewards, std::iter::once(own), columns, outs);
        };
        for (column, out) in columns.iter().zip(outs.iter_mut()) {
            column.write_plain(&group, &mut self.tables, &mut out[own.clone()]);
        }
        Ok(())
    }

    /// Computes the columns of one group after the other.
    fn fill_each(
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

/// Where groups of these sizes lie, the first from `start` on.
fn places(start: usize, sizes: &[usize]) -> impl Iterator<Item = Range<usize>> {
    sizes.iter().scan(start, |end, size| {
        *end += size;
        Some(*end - size..*end)
    })
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
        self.cancel.resize(&mut self.rewards, part.len(), &0.0)?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::advantage::Estimator;
    use crate::stats::normal::Scores;
    use crate::stats::rank::Ties;

    fn columns() -> Vec<Column> {
        let estimators = [
            Estimator::Percentile {
                unit: true,
                ties: Ties::Average,
            },
            Estimator::TopFraction { q: 0.2.into() },
            Estimator::Normal {
                scores: Scores::Blom,
            },
            Estimator::Mean,
            Estimator::Rloo,
            Estimator::Zscore { ddof: 1, eps: 1e-6 },
            Estimator::Quantile {
                k: 0.4.into(),
                ddof: 1,
                eps: 0.0,
            },
            Estimator::MaxRl,
            Estimator::BestMinusSecond,
            Estimator::SoftWinrate { tau: 0.5 },
            Estimator::PassAtK {
                k: 2,
                threshold: 0.5,
            },
        ];
        let others = [
            Column::Rank(Ties::Average),
            Column::Percentile,
            Column::TopFraction(0.3.into()),
            Column::GroupSize,
            Column::GroupMean,
            Column::GroupStd,
        ];
        estimators
            .map(Column::Advantage)
            .into_iter()
            .chain(others)
            .collect()
    }

    fn filled(rewards: &[f64], sizes: &[usize], column: Column, side_by_side: bool) -> Vec<u64> {
        let cancel = Cancel::default();
        let mut scratch = Scratch::until(&cancel);
        let mut out = vec![0.25; rewards.len()];
        let ranges = sizes.iter().scan(0, |end, size| {
            *end += size;
            Some(*end - size..*end)
        });
        let (columns, outs) = (&[column], &mut [out.as_mut_slice()]);
        let done = if side_by_side {
            scratch.fill(rewards, ranges, columns, outs)
        } else {
            scratch.fill_each(rewards, ranges, columns, outs)
        };
        done.unwrap();
        out.iter().map(|value| (value + 0.0).to_bits()).collect()
    }

    fn kind(kind: u8, word: u32) -> f64 {
        let (word, share) = (f64::from(word), f64::from(word) / f64::from(u32::MAX));
        match kind {
            0 => (word % 11.0) / 10.0,
            1 => (word % 3.0) - 1.0,
            2 => share.sqrt() * (word % 97.0),
            3 => share.exp2() * 1e-145,
            4 => 1e9 + share,
            _ if word % 50.0 == 0.0 => f64::NAN,
            _ => share * 1e200,
        }
    }

    proptest! {
        #[test]
        fn groups_side_by_side_have_the_bits_of_one_after_the_other(
            sizes in prop::collection::vec(1_usize..70, 1..20),
            equal in prop::option::of(prop_oneof![Just(2_usize), 1_usize..66]),
            which in 0_u8..6,
            words in prop::collection::vec(any::<u32>(), 20 * 70),
        ) {
            let sizes: Vec<usize> = sizes.iter().map(|&size| equal.unwrap_or(size)).collect();
            let n = sizes.iter().sum();
            let rewards: Vec<f64> = words[..n].iter().map(|&word| kind(which, word)).collect();
            let negative = rewards.iter().any(|&reward| reward < 0.0);
            let refused = |column: &Column| {
                negative && *column == Column::Advantage(Estimator::MaxRl)
            };
            for column in columns().into_iter().filter(|column| !refused(column)) {
                let expected = filled(&rewards, &sizes, column, false);
                prop_assert_eq!(filled(&rewards, &sizes, column, true), expected, "{:?}", column);
            }
        }
    }
}
