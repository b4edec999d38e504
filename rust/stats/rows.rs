//! What each row is told about its group: any number of columns in one pass over the groups.

use std::ops::Range;

use super::checks::{check_count, first_infinite};
use super::column::Column;
use super::scratch::{PartScratch, Scratch};
use crate::error::Error;
use crate::groups::{Groups, Partition, Partitions};
use crate::pool::{self, Cancel};

/// Rows per task: small enough to balance and to answer Ctrl-C, large enough to be worth it.
const TASK: usize = 1 << 14;
/// Partitions of more rows are computed one after the other: the scratch of several would take more
/// memory than a call may.
const ALONE: usize = 1 << 20;

/// Computes `columns` for every row, in the order of the rows; dropped rows get NaN.
///
/// `buffers`, one of all rows per column, are the caller's, who knows how to get large ones
/// cheaply. Where groups are scattered there is one more, and the columns end one buffer before
/// theirs, the first in the last: each is computed partition by partition, then brought to the
/// order of the rows in the buffer that has just become free.
///
/// # Errors
/// [`Error::RewardCount`], [`Error::BadFraction`], [`Error::Infinite`] or [`Error::Negative`] with
/// the first such row, or [`Error::Interrupted`].
///
/// # Panics
/// If a buffer has another length, or their number is wrong.
pub fn rows(
    input: Input<'_>,
    columns: &[Column],
    buffers: &mut [&mut [f64]],
    cancel: &Cancel,
) -> Result<(), Error> {
    check_count(input.rewards, input.groups)?;
    columns
        .iter()
        .try_for_each(|column| column.check(input.rewards))?;
    let located = |error| located(error, input, columns, cancel);
    let Some(partitions) = input.groups.partitions() else {
        return group_by_group(input, columns, buffers, cancel).map_err(located);
    };
    let (mut free, sorted) = buffers
        .split_last_mut()
        .expect("a buffer more than columns");
    let alone = partitions.alone();
    if let Some(part) = alone {
        part.sort(std::iter::once(input.rewards), free, cancel)?;
        let input = Input {
            rewards: free,
            groups: input.groups,
        };
        group_by_group(input, columns, sorted, cancel).map_err(located)?;
    } else {
        partitions.sort(input.rewards, free, cancel)?;
        part_by_part(partitions, free, columns, sorted, cancel).map_err(located)?;
    }
    for column in sorted {
        match alone {
            Some(part) => part.unsort(column, free, cancel)?,
            None => partitions.unsort(column, free, cancel)?,
        }
        free = column;
    }
    Ok(())
}

/// Rewards and the groups they fall into.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// One per row; NaN where there is none.
    pub rewards: &'a [f64],
    /// The cut of the rows.
    pub groups: &'a Groups,
}

/// The columns of clustered rows; every task writes its own block of them.
fn group_by_group(
    input: Input<'_>,
    columns: &[Column],
    outputs: &mut [&mut [f64]],
    cancel: &Cancel,
) -> Result<(), Error> {
    let Input { rewards, groups } = input;
    assert_eq!(columns.len(), outputs.len());
    let tasks = groups.tasks(TASK);
    let blocks = split(outputs, tasks.iter().map(|task| span(groups, task).len()));
    let done = pool::map_init(
        tasks.into_iter().zip(blocks),
        || Scratch::until(cancel),
        |scratch, (task, mut outs)| {
            cancel.check()?;
            let places = span(groups, &task);
            let ranges = task.map(|g| {
                let range = groups.range(g);
                range.start - places.start..range.end - places.start
            });
            scratch.fill(&rewards[places.clone()], ranges, columns, &mut outs)?;
            cancel.check()
        },
    );
    done.map(drop)
}

/// The columns of scattered rows, of which `rewards` are sorted in every block.
fn part_by_part(
    partitions: &Partitions,
    rewards: &[f64],
    columns: &[Column],
    outputs: &mut [&mut [f64]],
    cancel: &Cancel,
) -> Result<(), Error> {
    assert_eq!(columns.len(), outputs.len());
    let mut outs: Vec<Vec<&mut [f64]>> = partitions.parts().iter().map(|_| vec![]).collect();
    for output in outputs {
        for (outs, out) in outs.iter_mut().zip(partitions.of_parts(output)) {
            outs.push(out);
        }
    }
    let work = partitions.parts().iter().zip(outs).enumerate();
    let (large, small): (Vec<_>, Vec<_>) = work.partition(|(_, (part, _))| part.len() > ALONE);
    let scratch = || PartScratch::until(cancel);
    let fill = |scratch: &mut PartScratch, (p, (part, outs)): (usize, (&Partition, Vec<_>))| {
        cancel.check()?;
        let filled = scratch.fill(part, partitions.pieces(rewards, p), columns)?;
        for (column, out) in filled.iter().zip(outs) {
            part.unsort(column, out, cancel)?;
        }
        cancel.check()
    };
    large
        .into_iter()
        .try_for_each(|work| fill(&mut scratch(), work))?;
    pool::map_init(small.into_iter(), scratch, fill).map(drop)
}

/// Cuts every column into blocks of the given lengths; first all columns of block 0.
fn split<'a>(
    columns: &'a mut [&mut [f64]],
    lengths: impl Iterator<Item = usize>,
) -> Vec<Vec<&'a mut [f64]>> {
    let mut rest: Vec<&mut [f64]> = columns.iter_mut().map(|column| &mut **column).collect();
    let mut blocks = Vec::new();
    for length in lengths {
        let mut block = Vec::with_capacity(rest.len());
        for column in &mut rest {
            block.push(
                column
                    .split_off_mut(..length)
                    .expect("buffers hold all rows"),
            );
        }
        blocks.push(block);
    }
    blocks
}

/// What is wrong, with the row that has it: always the same one, whichever task met it first.
fn located(error: Error, input: Input<'_>, columns: &[Column], cancel: &Cancel) -> Error {
    let Input { rewards, groups } = input;
    let known = first_infinite(rewards).or_else(|| {
        matches!(error, Error::Overflow { .. }).then_some(())?;
        if let Err(interrupted) = groups.order(cancel) {
            return Some(interrupted);
        }
        let mut scratch = Scratch::until(cancel);
        (0..groups.n_groups()).find_map(|g| {
            if let Err(interrupted) = cancel.check() {
                return Some(interrupted);
            }
            let range = groups.range(g);
            let own: Vec<f64> = range.clone().map(|at| rewards[groups.row(at)]).collect();
            let mut columns_of_group = vec![vec![0.0; own.len()]; columns.len()];
            let mut outs: Vec<&mut [f64]> =
                columns_of_group.iter_mut().map(Vec::as_mut_slice).collect();
            let filled = scratch.fill(&own, std::iter::once(0..own.len()), columns, &mut outs);
            let error = filled.err()?;
            Some(error.of(|place| groups.row(range.start + place)))
        })
    });
    known.unwrap_or(error)
}

fn span(groups: &Groups, task: &Range<usize>) -> Range<usize> {
    groups.range(task.start).start..groups.range(task.end - 1).end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::groups::IntIds;
    use crate::stats::advantage::Estimator;
    use crate::stats::rank::Ties;

    const COLUMNS: [Column; 4] = [
        Column::Rank(Ties::Average),
        Column::GroupMean,
        Column::GroupStd,
        Column::Advantage(Estimator::Percentile {
            unit: true,
            ties: Ties::Average,
        }),
    ];

    fn computed(rewards: &[f64], groups: &Groups, cancel: &Cancel) -> Result<Vec<Vec<f64>>, Error> {
        let more = usize::from(!groups.is_clustered());
        let mut outputs = vec![vec![0.0; rewards.len()]; COLUMNS.len() + more];
        let mut buffers: Vec<&mut [f64]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        rows(Input { rewards, groups }, &COLUMNS, &mut buffers, cancel)?;
        outputs.rotate_right(more);
        outputs.truncate(COLUMNS.len());
        Ok(outputs)
    }

    fn bits(ids: &[i64], rewards: &[f64]) -> Vec<Vec<u64>> {
        let groups = Groups::new(&IntIds::new(ids), None, &Cancel::default()).unwrap();
        let found = computed(rewards, &groups, &Cancel::default()).unwrap();
        found
            .iter()
            .map(|column| column.iter().map(|v| v.to_bits()).collect())
            .collect()
    }

    proptest! {
        #[test]
        fn shuffling_the_rows_shuffles_the_same_bits(
            rows in prop::collection::vec((0_i64..6, -1.0_f64..1.0), 1..80),
            seed in any::<u64>(),
        ) {
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_by_key(|&i| crate::groups::mix(i as u64 ^ seed));
            let (ids, rewards): (Vec<i64>, Vec<f64>) = rows.iter().copied().unzip();
            let shuffled: (Vec<i64>, Vec<f64>) = order.iter().map(|&i| rows[i]).unzip();
            let expected = bits(&ids, &rewards);
            for (found, expected) in bits(&shuffled.0, &shuffled.1).iter().zip(&expected) {
                let expected: Vec<u64> = order.iter().map(|&i| expected[i]).collect();
                prop_assert_eq!(found, &expected);
            }
        }
    }

    #[test]
    fn the_first_infinite_row_is_named_whatever_its_group() {
        let groups = Groups::new(&IntIds::new(&[1, 2, 1, 2]), None, &Cancel::default()).unwrap();
        let rewards = [0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0];
        let found = computed(&rewards, &groups, &Cancel::default());
        assert_eq!(
            found,
            Err(Error::Infinite {
                row: 1,
                value: f64::INFINITY
            })
        );
    }

    #[test]
    fn a_cancelled_pass_stops() {
        let groups = Groups::from_offsets(vec![0, 2]).unwrap();
        let cancel = Cancel::default();
        cancel.cancel();
        assert_eq!(
            computed(&[0.0, 1.0], &groups, &cancel),
            Err(Error::Interrupted)
        );
    }
}
