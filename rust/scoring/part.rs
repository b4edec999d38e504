//! Rows of whole groups in memory: keys as codes, rewards, and what becomes of them.

use std::iter::once;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rayon::prelude::*;

use super::counting_sort::by_code;
use super::dictionary::ByGroup;
use super::scored::Scored;
use crate::keys::interner::Interner;

/// What a caller has found for some groups, the rows in the order in which [`Part::take`] gave
/// them.
#[derive(Debug, Clone, Copy)]
pub struct Results<'a> {
    /// Mid-ranks, NaN for an unscorable row.
    pub rank: &'a [f64],
    /// Advantages.
    pub advantage: &'a [f64],
    /// Whether each row is chosen; `None` if all are.
    pub keep: Option<&'a [bool]>,
    /// The mean of the group of each row.
    pub mean: &'a [f64],
    /// Its sample deviation.
    pub std: &'a [f64],
    /// Whether each row is another sequence of a rollout that an earlier one counts; `None` if none
    /// is.
    pub again: Option<&'a [bool]>,
}

/// What all members of a group share; deviations and means by their bits.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) size: ByGroup,
    pub(super) scored: ByGroup,
    pub(super) mean: ByGroup,
    pub(super) std: ByGroup,
}

/// What all members of a group are told beside their own; floats by their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    pub(super) size: u32,
    pub(super) scored: u32,
    pub(super) mean: u64,
    pub(super) std: u64,
}

impl Shared {
    fn push(&mut self, facts: Facts) {
        self.size.extend(once(u64::from(facts.size)));
        self.scored.extend(once(u64::from(facts.scored)));
        self.mean.extend(once(facts.mean));
        self.std.extend(once(facts.std));
    }

    /// Keeps each different number once where they are few.
    pub(super) fn settle(&mut self) {
        let Self {
            size,
            scored,
            mean,
            std,
        } = self;
        let numbers = [size, scored, mean, std].into_par_iter();
        numbers.for_each(ByGroup::settle);
    }
}

/// Whole groups, 16 bytes a row, 4 more while they are grouped, and 4 with checks.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) interner: Interner,
    pub(super) codes: Vec<u32>,
    /// The bits of rewards, each overwritten by its advantage, by any thread.
    numbers: Vec<AtomicU64>,
    pub(super) checks: Vec<u32>,
    twice_ranks: Vec<AtomicU32>,
    dropped: Vec<AtomicU64>,
    order: Vec<u32>,
    /// Group `g` is `starts[g]..starts[g + 1]` of the order.
    starts: Vec<u32>,
    /// Of the groups whose results have come.
    pub(super) shared: Shared,
    /// Groups that rows are told to be in.
    added: usize,
}

impl Part {
    pub(super) fn len(&self) -> usize {
        self.codes.len()
    }

    /// Takes in the rewards of the next rows, whose codes are there.
    pub(super) fn extend(&mut self, rewards: impl Iterator<Item = f64>) {
        let bits = rewards.map(|reward| AtomicU64::new(reward.to_bits()));
        self.numbers.extend(bits);
    }

    /// The reward of a row, or its advantage once that has come.
    pub(super) fn number(&self, row: usize) -> f64 {
        f64::from_bits(self.numbers[row].load(Relaxed))
    }

    /// Twice the mid-rank of a row.
    pub(super) fn twice_rank(&self, row: usize) -> u32 {
        self.twice_ranks[row].load(Relaxed)
    }

    pub(super) fn n_groups(&self) -> usize {
        self.interner.len()
    }

    /// Bytes that `rows` rows take at their highest, of the groups that are here now.
    pub(super) fn memory(&self, rows: usize) -> usize {
        let row = if self.checks.is_empty() { 20 } else { 24 };
        row * rows + self.interner.memory() + 40 * self.n_groups()
    }

    /// Sorts the rows by group, in row order inside a group.
    pub(super) fn group(&mut self) {
        (self.order, self.starts) = by_code(&self.codes, self.n_groups());
        self.twice_ranks
            .resize_with(self.codes.len(), AtomicU32::default);
        self.shared = Shared::default();
    }

    /// The groups from `first` on that have about `rows` rows together, at least one.
    pub(super) fn some_groups(&self, first: usize, rows: usize) -> Range<usize> {
        let goal = (self.starts[first] as usize).saturating_add(rows);
        let end = self
            .starts
            .partition_point(|&start| (start as usize) < goal);
        first..end.clamp(first + 1, self.n_groups())
    }

    fn span(&self, groups: &Range<usize>) -> Range<usize> {
        self.starts[groups.start] as usize..self.starts[groups.end] as usize
    }

    /// The rewards of `groups`, group after group, and the offsets of the groups in them.
    pub(super) fn take(&self, groups: &Range<usize>) -> (Vec<f64>, Vec<i64>) {
        let order = &self.order[self.span(groups)];
        let rewards = order.par_iter().map(|&row| self.number(row as usize));
        let first = self.starts[groups.start];
        let offsets = self.starts[groups.start..=groups.end].iter();
        (
            rewards.collect(),
            offsets.map(|&start| i64::from(start - first)).collect(),
        )
    }

    /// Takes in what was found for `groups`; their rewards are gone with that.
    ///
    /// Returns how many of them tell nothing: no two of their rows have different ranks.
    pub(super) fn put(&mut self, groups: &Range<usize>, results: Results<'_>) -> usize {
        if results.keep.is_some() && self.dropped.is_empty() {
            let words = self.codes.len().div_ceil(64);
            self.dropped.resize_with(words, AtomicU64::default);
        }
        let starts = &self.starts;
        let first = starts[groups.start] as usize;
        let found = groups.clone().into_par_iter().with_min_len(256);
        let found: Vec<(u64, bool)> = found.map(|g| self.put_group(g, first, results)).collect();
        let sizes = groups.clone().map(|g| {
            let rows = starts[g] as usize - first..starts[g + 1] as usize - first;
            let again = results.again.map_or(0, |again| {
                again[rows.clone()].iter().filter(|&&again| again).count()
            });
            (rows.len() - again) as u64
        });
        let of_group = |column: &[f64], g: usize| column[starts[g] as usize - first].to_bits();
        let shared = &mut self.shared;
        shared.size.extend(sizes);
        let scored = found.iter().map(|&(scored, _)| scored);
        shared.scored.extend(scored);
        let (mean, std) = (results.mean, results.std);
        shared
            .mean
            .extend(groups.clone().map(|g| of_group(mean, g)));
        shared.std.extend(groups.clone().map(|g| of_group(std, g)));
        found.iter().filter(|&&(_, differs)| !differs).count()
    }

    /// Writes the results of one group; returns its scorable rollouts and whether their ranks
    /// differ.
    fn put_group(&self, group: usize, first: usize, results: Results<'_>) -> (u64, bool) {
        let (mut scored, mut lowest, mut highest) = (0, u32::MAX, 0);
        for place in self.span(&(group..group + 1)) {
            let (at, row) = (place - first, self.order[place] as usize);
            let twice = twice(results.rank[at]);
            self.numbers[row].store(results.advantage[at].to_bits(), Relaxed);
            self.twice_ranks[row].store(twice, Relaxed);
            if twice > 0 {
                scored += u64::from(results.again.is_none_or(|again| !again[at]));
                (lowest, highest) = (lowest.min(twice), highest.max(twice));
            }
            if results.keep.is_some_and(|keep| !keep[at]) {
                self.dropped[row / 64].fetch_or(1 << (row % 64), Relaxed);
            }
        }
        (scored, highest > lowest)
    }

    /// Frees what only grouping needed, and makes ready for writing.
    pub(super) fn settle(&mut self) {
        self.order = Vec::new();
        self.interner = Interner::default();
        self.shared.settle();
    }

    /// Begins with `len` rows, each of which is to be told something, and the facts of groups.
    pub(super) fn begin(&mut self, len: usize, checked: bool, known: &[Facts]) {
        self.codes.resize(len, 0);
        self.numbers.resize_with(len, AtomicU64::default);
        self.twice_ranks.resize_with(len, AtomicU32::default);
        self.checks.resize(if checked { len } else { 0 }, 0);
        self.dropped.clear();
        self.shared = Shared::default();
        for &facts in known {
            self.shared.push(facts);
        }
        self.added = known.len();
    }

    /// Adds the facts of a group; returns its number.
    pub(super) fn add(&mut self, facts: Facts) -> usize {
        self.shared.push(facts);
        self.added += 1;
        self.added - 1
    }

    /// Tells a row its group, twice its rank and whether it is dropped, and its advantage's bits.
    #[inline]
    pub(super) fn tell(
        &mut self,
        row: usize,
        group: usize,
        (twice_rank, dropped): (u64, bool),
        advantage: u64,
    ) {
        self.codes[row] = u32::try_from(group).expect("no more than rows");
        *self.twice_ranks[row].get_mut() = u32::try_from(twice_rank).expect("was one of 32 bits");
        *self.numbers[row].get_mut() = advantage;
        if dropped {
            let words = self.codes.len().div_ceil(64);
            self.dropped.resize_with(words, AtomicU64::default);
            *self.dropped[row / 64].get_mut() |= 1 << (row % 64);
        }
    }

    /// Whether the row was not chosen.
    pub(super) fn dropped(&self, row: usize) -> bool {
        let word = self.dropped.get(row / 64);
        word.is_some_and(|word| word.load(Relaxed) >> (row % 64) & 1 == 1)
    }

    /// What the members of a group share.
    pub(super) fn facts(&self, group: u32) -> Facts {
        let shared = &self.shared;
        let count = |count: u64| u32::try_from(count).expect("no more than rows");
        Facts {
            size: count(shared.size.get(group)),
            scored: count(shared.scored.get(group)),
            mean: shared.mean.get(group),
            std: shared.std.get(group),
        }
    }

    /// What the row is told.
    pub(super) fn scored(&self, row: usize) -> Scored {
        let facts = self.facts(self.codes[row]);
        Scored {
            twice_rank: self.twice_rank(row),
            size: facts.size,
            scored: facts.scored,
            keep: !self.dropped(row),
            advantage: self.number(row),
            mean: f64::from_bits(facts.mean),
            std: f64::from_bits(facts.std),
        }
    }
}

/// Twice a mid-rank, which is whole; 0 for NaN.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks lie in 1..=2^32 and are multiples of a half; NaN becomes 0"
)]
fn twice(rank: f64) -> u32 {
    (2.0 * rank) as u32
}
