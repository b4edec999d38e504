//! Which rollouts belong together: ids in, a cut into groups out.

mod block;
mod grouping;
mod hash;
mod ids;
mod index;
mod partition;
mod runs;
mod spread;
mod table;

use std::ops::Range;
use std::sync::OnceLock;

use crate::error::Error;
use crate::pool::{CHECK_EVERY, Cancel};
use runs::Runs;

pub(crate) use hash::{mix, process_seed};
pub use ids::{Ids, IntIds};
pub(crate) use index::{position, to_u32};
pub(crate) use partition::{Partition, Partitions};

/// Of so many rows the table stays in the cache, and partitions are not worth their while.
const FEW: usize = 1 << 17;

/// A checked cut of rollouts into groups, numbered by first appearance.
#[derive(Debug)]
pub struct Groups {
    n_rows: usize,
    cut: Cut,
    scattered: Option<Scattered>,
}

/// Where one group ends and the next begins.
#[derive(Debug)]
enum Cut {
    Offsets(Vec<i64>),
    /// All are of one size; their offsets are written down for those who ask.
    Size(usize, OnceLock<Vec<i64>>),
}

/// What rows that did not come group after group need.
#[derive(Debug)]
struct Scattered {
    partitions: Partitions,
    /// The number of each partition's groups.
    numbers: Vec<Vec<u32>>,
    order: OnceLock<Vec<u32>>,
}

impl Groups {
    /// Groups the rows of `ids`; rows in `null` are dropped.
    ///
    /// # Errors
    /// [`Error::TooManyRows`], or [`Error::Interrupted`].
    pub fn new<I: Ids>(ids: &I, null: Option<&[bool]>, cancel: &Cancel) -> Result<Self, Error> {
        let n_rows = ids.len();
        if u32::try_from(n_rows).is_err() {
            return Err(Error::TooManyRows { len: n_rows });
        }
        let items = match null {
            Some(null) => Runs::kept(null, cancel)?,
            None => runs::find(ids, cancel)?,
        };
        if items.all_differ() {
            return Ok(Self::clustered(n_rows, items.offsets(cancel)?));
        }
        let few = match items {
            Runs::Rows(n) if n <= FEW => table::group(ids, cancel)?,
            _ => None,
        };
        let partitions = match few {
            Some(part) => Partitions::single(part),
            None => grouping::group(ids, &items, cancel)?,
        };
        if partitions.n_groups() == items.len() && !matches!(items, Runs::Kept(_)) {
            return Ok(Self::clustered(n_rows, items.offsets(cancel)?));
        }
        let (numbers, offsets) = partitions.numbered(n_rows, cancel)?;
        let scattered = Scattered {
            partitions,
            numbers,
            order: OnceLock::new(),
        };
        Ok(Self {
            n_rows,
            cut: Cut::Offsets(offsets),
            scattered: Some(scattered),
        })
    }

    /// Takes a cut that the caller has made.
    ///
    /// # Errors
    /// [`Error::BadOffsets`] unless the offsets rise strictly from 0.
    pub fn from_offsets(offsets: Vec<i64>) -> Result<Self, Error> {
        let rises = offsets.first() == Some(&0) && offsets.is_sorted_by(|a, b| a < b);
        let n_rows = offsets.last().and_then(|&end| usize::try_from(end).ok());
        match n_rows {
            Some(n_rows) if rises => Ok(Self::clustered(n_rows, offsets)),
            _ => Err(Error::BadOffsets { len: None }),
        }
    }

    /// Consecutive groups of `size` rows, of which `n_rows` is a multiple.
    #[must_use]
    pub fn of_size(n_rows: usize, size: usize) -> Self {
        Self {
            n_rows,
            cut: Cut::Size(size, OnceLock::new()),
            scattered: None,
        }
    }

    fn clustered(n_rows: usize, offsets: Vec<i64>) -> Self {
        Self {
            n_rows,
            cut: Cut::Offsets(offsets),
            scattered: None,
        }
    }

    /// The size of all groups, where the caller has named it.
    pub(crate) fn size(&self) -> Option<usize> {
        match self.cut {
            Cut::Size(size, _) => Some(size),
            Cut::Offsets(_) => None,
        }
    }

    /// Whether the rows came group after group, none dropped.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.scattered.is_none()
    }

    /// How the rows are brought together; `None` when they came so.
    pub(crate) fn partitions(&self) -> Option<&Partitions> {
        Some(&self.scattered.as_ref()?.partitions)
    }

    /// Rows that were given, dropped ones included.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Rows that are in some group.
    pub(crate) fn n_kept(&self) -> usize {
        match &self.cut {
            Cut::Size(..) => self.n_rows,
            Cut::Offsets(offsets) => offsets.last().map_or(0, |&end| position(end)),
        }
    }

    /// Number of groups.
    #[must_use]
    pub fn n_groups(&self) -> usize {
        match &self.cut {
            Cut::Size(size, _) => self.n_rows / size,
            Cut::Offsets(offsets) => offsets.len() - 1,
        }
    }

    /// Group `g` is `offsets[g]..offsets[g + 1]` of the order.
    #[must_use]
    pub fn offsets(&self) -> &[i64] {
        match &self.cut {
            Cut::Size(size, offsets) => offsets.get_or_init(|| {
                let end = |group: usize| i64::try_from(group * size).unwrap_or(i64::MAX);
                (0..=self.n_rows / size).map(end).collect()
            }),
            Cut::Offsets(offsets) => offsets,
        }
    }

    /// Members of the largest group.
    #[must_use]
    pub fn largest(&self) -> usize {
        if let Some(size) = self.size() {
            return size;
        }
        let sizes = self
            .offsets()
            .windows(2)
            .map(|ends| position(ends[1] - ends[0]));
        sizes.max().unwrap_or(0)
    }

    /// Rows group after group; `None` when that is the order in which they came. Computed once,
    /// in the pool of the caller.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn order(&self, cancel: &Cancel) -> Result<Option<&[u32]>, Error> {
        let Some(scattered) = self.scattered.as_ref() else {
            return Ok(None);
        };
        if let Some(order) = scattered.order.get() {
            return Ok(Some(order));
        }
        // Outside of the lock: a thread of the pool that waits in it may be given another's call.
        let (partitions, numbers) = (&scattered.partitions, &scattered.numbers);
        let order = partitions.order(numbers, self.offsets(), cancel)?;
        Ok(Some(scattered.order.get_or_init(|| order)))
    }

    /// Where group `g` lies in the order.
    #[must_use]
    pub fn range(&self, g: usize) -> Range<usize> {
        match &self.cut {
            Cut::Size(size, _) => g * size..(g + 1) * size,
            Cut::Offsets(offsets) => position(offsets[g])..position(offsets[g + 1]),
        }
    }

    /// The row at place `at` of the order.
    ///
    /// # Panics
    /// If there is no such place.
    #[must_use]
    pub fn row(&self, at: usize) -> usize {
        let order = self.order(&Cancel::default()).expect("nobody interrupts");
        order.map_or(at, |order| order[at] as usize)
    }

    /// The group of each row; -1 for a dropped one.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn codes(&self, cancel: &Cancel) -> Result<Vec<i64>, Error> {
        let mut codes = Vec::new();
        cancel.resize(&mut codes, self.n_rows, &-1)?;
        let order = self.order(cancel)?;
        for (code, g) in (0..).zip(0..self.n_groups()) {
            cancel.check()?;
            match order {
                None => codes[self.range(g)].fill(code),
                Some(order) => {
                    for rows in order[self.range(g)].chunks(CHECK_EVERY) {
                        cancel.check()?;
                        for &row in rows {
                            codes[row as usize] = code;
                        }
                    }
                }
            }
        }
        Ok(codes)
    }

    /// Cuts the groups into ranges of about `rows` rows each.
    #[must_use]
    pub fn tasks(&self, rows: usize) -> Vec<Range<usize>> {
        let mut tasks = Vec::new();
        let mut start = 0;
        while start < self.n_groups() {
            let end = match &self.cut {
                Cut::Size(size, _) => start + rows.div_ceil(*size),
                Cut::Offsets(offsets) => {
                    let goal = offsets[start].saturating_add_unsigned(rows as u64);
                    offsets.partition_point(|&offset| offset < goal)
                }
            };
            let end = end.clamp(start + 1, self.n_groups());
            tasks.push(start..end);
            start = end;
        }
        tasks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn group(keys: &[i64]) -> Groups {
        Groups::new(&IntIds::new(keys), None, &Cancel::default()).unwrap()
    }

    /// The same cut by a dictionary of row lists.
    fn naive(keys: &[i64]) -> Vec<Vec<usize>> {
        let mut place = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            let g = *place.entry(key).or_insert(groups.len());
            if g == groups.len() {
                groups.push(Vec::new());
            }
            groups[g].push(row);
        }
        groups
    }

    fn members(groups: &Groups) -> Vec<Vec<usize>> {
        (0..groups.n_groups())
            .map(|g| groups.range(g).map(|at| groups.row(at)).collect())
            .collect()
    }

    proptest! {
        #[test]
        fn groups_are_those_of_a_dictionary(keys in prop::collection::vec(-4_i64..4, 0..200)) {
            prop_assert_eq!(members(&group(&keys)), naive(&keys));
        }

        #[test]
        fn runs_of_ids_are_grouped_like_rows(
            runs in prop::collection::vec((any::<i8>(), 1_usize..9), 0..60)
        ) {
            let keys: Vec<i64> =
                runs.iter().flat_map(|&(key, n)| std::iter::repeat_n(i64::from(key), n)).collect();
            prop_assert_eq!(members(&group(&keys)), naive(&keys));
        }
    }

    #[test]
    fn half_a_million_scattered_rows_are_grouped_exactly() {
        // Enough rows for many partitions, with a stride that scatters every group.
        let keys: Vec<i64> = (0..500_000_i64)
            .map(|row| (row * 7919) % 31_250 - 15_000)
            .collect();
        assert_eq!(members(&group(&keys)), naive(&keys));
    }

    #[test]
    fn integers_with_few_gaps_are_grouped_like_others() {
        for (step, shift) in [(1, -3), (1, i64::MAX - 4), (2, i64::MIN), (9, 0)] {
            let keys = [2, 0, 4, 4, 1, 0, 2, 3, 0].map(|key| key * step + shift);
            assert_eq!(members(&group(&keys)), naive(&keys));
        }
        let ends = [i64::MIN, i64::MAX, 0, i64::MIN, i64::MAX];
        assert_eq!(members(&group(&ends)), naive(&ends));
    }

    #[test]
    fn a_table_that_grows_keeps_its_groups() {
        for n_groups in [1, 511, 513, 2_049, 4_999] {
            let keys: Vec<i64> = (0..10_000_i64)
                .map(|row| (row * 7919) % n_groups - 300)
                .collect();
            assert_eq!(members(&group(&keys)), naive(&keys));
        }
    }

    #[test]
    fn clustered_rows_need_no_order() {
        let cancel = Cancel::default();
        assert_eq!(group(&[5, 5, 1, 1, 1, 9]).order(&cancel), Ok(None));
        let scattered = group(&[5, 5, 1, 5]);
        assert_eq!(scattered.order(&cancel), Ok(Some(&[0, 1, 3, 2][..])));
    }

    #[test]
    fn dropped_rows_are_in_no_group() {
        let ids = IntIds::new(&[1, 2, 1, 2]);
        let null = [false, true, false, false];
        let groups = Groups::new(&ids, Some(&null), &Cancel::default()).unwrap();
        assert_eq!(members(&groups), [vec![0, 2], vec![3]]);
    }

    #[test]
    fn offsets_that_do_not_rise_from_zero_are_refused() {
        for offsets in [
            vec![],
            vec![1, 2],
            vec![0, 2, 2],
            vec![0, 3, 2],
            vec![-1, 2],
        ] {
            let refused = Groups::from_offsets(offsets).unwrap_err();
            assert_eq!(refused, Error::BadOffsets { len: None });
        }
        assert_eq!(Groups::from_offsets(vec![0]).unwrap().n_groups(), 0);
    }

    #[test]
    fn groups_of_one_size_are_those_of_their_offsets() {
        for (size, n_groups) in [(1, 9), (3, 5), (7, 1), (4, 0)] {
            let ends = (0..=n_groups).map(|g| i64::try_from(g * size).unwrap());
            let (named, cut) = (
                Groups::of_size(size * n_groups, size),
                Groups::from_offsets(ends.collect()).unwrap(),
            );
            assert_eq!(named.offsets(), cut.offsets());
            assert_eq!(members(&named), members(&cut));
            assert_eq!(named.n_kept(), cut.n_kept());
            for rows in [1, 2, 4, 100] {
                assert_eq!(named.tasks(rows), cut.tasks(rows));
            }
        }
    }

    #[test]
    fn tasks_cover_every_group_once() {
        let groups = Groups::from_offsets(vec![0, 1, 2, 50, 51, 52, 53]).unwrap();
        let tasks = groups.tasks(4);
        assert_eq!(
            tasks.iter().flat_map(Clone::clone).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5]
        );
        assert!(tasks.len() > 1);
    }
}
