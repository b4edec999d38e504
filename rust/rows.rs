//! What each row is told about its group: any number of columns in one pass over the groups.

use std::ops::Range;

use rayon::prelude::*;

use crate::column::Column;
use crate::error::Error;
use crate::groups::{Groups, NOWHERE};
use crate::normal::Tables;
use crate::pool::Cancel;
use crate::sorted::Sorted;

/// Rows per task: small enough to balance and to answer Ctrl-C, large enough to be worth it.
const TASK: usize = 1 << 14;
/// Columns that are brought to row order together.
const TOGETHER: usize = 8;

/// Computes `columns` for every row, in the order of the rows; dropped rows get NaN.
///
/// # Errors
/// [`Error::RewardCount`], [`Error::BadFraction`], [`Error::Infinite`] or [`Error::Negative`] with
/// the first such row, or [`Error::Interrupted`].
pub fn rows(
    rewards: &[f64],
    groups: &Groups,
    columns: &[Column],
    cancel: &Cancel,
) -> Result<Vec<Vec<f64>>, Error> {
    check_count(rewards, groups)?;
    columns
        .iter()
        .try_for_each(|column| column.check(rewards))?;
    let Some(places) = groups.places() else {
        return group_by_group(rewards, groups, columns, cancel);
    };
    let mut outputs = Vec::new();
    // A few columns at a time: they share the cache misses, at a bounded cost in memory.
    for columns in columns.chunks(TOGETHER) {
        let records = records(rewards, groups, columns, cancel)?;
        outputs.extend(unscatter(&records, columns.len(), places, cancel)?);
    }
    Ok(outputs)
}

/// # Errors
/// [`Error::RewardCount`] unless there is one reward per row.
pub(crate) fn check_count(rewards: &[f64], groups: &Groups) -> Result<(), Error> {
    let (found, expected) = (rewards.len(), groups.n_rows());
    if found == expected {
        Ok(())
    } else {
        Err(Error::RewardCount { found, expected })
    }
}

/// Groups lie in row order: every task writes its own stretch of the outputs.
fn group_by_group(
    rewards: &[f64],
    groups: &Groups,
    columns: &[Column],
    cancel: &Cancel,
) -> Result<Vec<Vec<f64>>, Error> {
    let tasks = groups.tasks(TASK);
    let mut outputs = blank(columns.len(), rewards.len());
    let stretches = split(
        &mut outputs,
        tasks.iter().map(|task| span(groups, task).len()),
    );
    let work = tasks.into_par_iter().zip(stretches);
    work.map_init(Scratch::default, |scratch, (task, mut outs)| {
        cancel.check()?;
        fill(rewards, groups, task, columns, scratch, &mut outs)
    })
    .collect::<Result<(), Error>>()?;
    Ok(outputs)
}

/// Groups are spread over the rows: first one record of all columns per place of the order.
fn records(
    rewards: &[f64],
    groups: &Groups,
    columns: &[Column],
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    let (tasks, k) = (groups.tasks(TASK), columns.len());
    let n = tasks.last().map_or(0, |task| span(groups, task).end);
    let mut records = blank(1, n * k);
    let stretches = split(
        &mut records,
        tasks.iter().map(|task| k * span(groups, task).len()),
    );
    let work = tasks.into_par_iter().zip(stretches);
    work.map_init(
        || (Scratch::default(), Vec::new()),
        |(scratch, buffer), (task, mut stretch)| {
            cancel.check()?;
            let n = span(groups, &task).len();
            buffer.resize(n * k, 0.0);
            let mut outs: Vec<&mut [f64]> = buffer.chunks_mut(n).collect();
            fill(rewards, groups, task, columns, scratch, &mut outs)?;
            for (i, record) in stretch[0].chunks_exact_mut(k).enumerate() {
                for (field, out) in record.iter_mut().zip(&outs) {
                    *field = out[i];
                }
            }
            Ok(())
        },
    )
    .collect::<Result<(), Error>>()?;
    Ok(records.swap_remove(0))
}

/// Then every row fetches its record, which costs one cache miss and not one per column.
fn unscatter(
    records: &[f64],
    k: usize,
    places: &[u32],
    cancel: &Cancel,
) -> Result<Vec<Vec<f64>>, Error> {
    let mut outputs = blank(k, places.len());
    let stretches = split(&mut outputs, places.chunks(TASK).map(<[u32]>::len));
    let work = places.par_chunks(TASK).zip(stretches);
    work.map(|(places, mut outs)| {
        cancel.check()?;
        for (i, &place) in places.iter().enumerate() {
            let record = (place != NOWHERE).then(|| &records[place as usize * k..][..k]);
            for (c, out) in outs.iter_mut().enumerate() {
                out[i] = record.map_or(f64::NAN, |record| record[c]);
            }
        }
        Ok(())
    })
    .collect::<Result<(), Error>>()?;
    Ok(outputs)
}

/// `k` columns of `n` zeros, whose pages the threads that write them will touch first.
fn blank(k: usize, n: usize) -> Vec<Vec<f64>> {
    (0..k).map(|_| vec![0.0; n]).collect()
}

/// Cuts every column into stretches of the given lengths; first all columns of stretch 0.
fn split<'a>(
    columns: &'a mut [Vec<f64>],
    lengths: impl Iterator<Item = usize>,
) -> Vec<Vec<&'a mut [f64]>> {
    let mut rest: Vec<&'a mut [f64]> = columns.iter_mut().map(Vec::as_mut_slice).collect();
    let mut stretches = Vec::new();
    for length in lengths {
        let mut stretch = Vec::with_capacity(rest.len());
        for column in &mut rest {
            stretch.push(column.split_off_mut(..length).unwrap_or_default());
        }
        stretches.push(stretch);
    }
    stretches
}

/// What a worker keeps from group to group.
#[derive(Default)]
struct Scratch {
    sorted: Sorted,
    tables: Tables,
    /// The rewards of a task, group after group.
    rewards: Vec<f64>,
}

/// Computes the columns of the groups of one task into `outs`, group after group.
fn fill(
    rewards: &[f64],
    groups: &Groups,
    task: Range<usize>,
    columns: &[Column],
    scratch: &mut Scratch,
    outs: &mut [&mut [f64]],
) -> Result<(), Error> {
    let places = span(groups, &task);
    let start = places.start;
    let ordered = match groups.order() {
        None => &rewards[places],
        Some(order) => {
            // In one go, so that the cache misses overlap.
            scratch.rewards.clear();
            scratch
                .rewards
                .extend(order[places].iter().map(|&row| rewards[row as usize]));
            &scratch.rewards
        }
    };
    for g in task {
        let range = groups.range(g);
        let range = range.start - start..range.end - start;
        let loaded = scratch.sorted.load(&ordered[range.clone()]);
        loaded.map_err(|error| first_infinite(rewards).unwrap_or(error))?;
        for (column, out) in columns.iter().zip(outs.iter_mut()) {
            let out = &mut out[range.clone()];
            column.write(&scratch.sorted, &mut scratch.tables, out);
        }
    }
    Ok(())
}

/// An infinite reward is named by the first row that has one, whatever its group.
pub(crate) fn first_infinite(rewards: &[f64]) -> Option<Error> {
    let row = rewards.iter().position(|reward| reward.is_infinite())?;
    Some(Error::Infinite {
        row,
        value: rewards[row],
    })
}

fn span(groups: &Groups, task: &Range<usize>) -> Range<usize> {
    groups.range(task.start).start..groups.range(task.end - 1).end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::advantage::Estimator;
    use crate::groups::IntIds;
    use crate::rank::Ties;

    const COLUMNS: [Column; 4] = [
        Column::Rank(Ties::Average),
        Column::GroupMean,
        Column::GroupStd,
        Column::Advantage(Estimator::Percentile {
            unit: true,
            ties: Ties::Average,
        }),
    ];

    fn bits(ids: &[i64], rewards: &[f64]) -> Vec<Vec<u64>> {
        let groups = Groups::new(&IntIds::new(ids), None, &Cancel::default()).unwrap();
        let found = rows(rewards, &groups, &COLUMNS, &Cancel::default()).unwrap();
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
            order.sort_by_key(|&i| crate::hashing::mix(i as u64 ^ seed));
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
        let found = rows(&rewards, &groups, &COLUMNS, &Cancel::default());
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
            rows(&[0.0, 1.0], &groups, &COLUMNS, &cancel),
            Err(Error::Interrupted)
        );
    }
}
