//! Rows of whole groups in memory: keys as codes, rewards, and what becomes of them.

use std::ops::Range;

use rayon::prelude::*;

use super::Scored;
use crate::stream::interner::Interner;

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
    /// Scorable members, one per group like the two below.
    pub scored: &'a [i64],
    /// Means.
    pub mean: &'a [f64],
    /// Sample deviations.
    pub std: &'a [f64],
}

/// What all members of a group share.
#[derive(Debug, Clone, Copy, Default)]
struct Shared {
    size: u32,
    scored: u32,
    mean: f64,
    std: f64,
}

/// Whole groups, 16 bytes a row, 4 more while they are grouped, and 4 with checks.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) interner: Interner,
    pub(super) codes: Vec<u32>,
    /// Rewards, each overwritten by its advantage.
    pub(super) rewards: Vec<f64>,
    pub(super) checks: Vec<u32>,
    twice_ranks: Vec<u32>,
    dropped: Vec<u64>,
    order: Vec<u32>,
    /// Group `g` is `starts[g]..starts[g + 1]` of the order.
    starts: Vec<u32>,
    shared: Vec<Shared>,
}

impl Part {
    pub(super) fn len(&self) -> usize {
        self.codes.len()
    }

    pub(super) fn n_groups(&self) -> usize {
        self.interner.len()
    }

    /// Bytes that this takes at its highest, given the rows that it has now.
    pub(super) fn memory(&self) -> usize {
        let row = if self.checks.is_empty() { 20 } else { 24 };
        row * self.len() + self.interner.memory() + 32 * self.n_groups()
    }

    /// Sorts the rows by group, in row order inside a group.
    pub(super) fn group(&mut self) {
        self.starts = vec![0; self.n_groups() + 1];
        for &code in &self.codes {
            self.starts[code as usize + 1] += 1;
        }
        for g in 0..self.n_groups() {
            self.starts[g + 1] += self.starts[g];
        }
        let mut cursor = self.starts.clone();
        self.order = vec![0; self.len()];
        for (row, &code) in (0..).zip(&self.codes) {
            let at = &mut cursor[code as usize];
            self.order[*at as usize] = row;
            *at += 1;
        }
        self.twice_ranks = vec![0; self.len()];
        self.shared = vec![Shared::default(); self.n_groups()];
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
        let rewards = order.par_iter().map(|&row| self.rewards[row as usize]);
        let first = self.starts[groups.start];
        let offsets = self.starts[groups.start..=groups.end].iter();
        (
            rewards.collect(),
            offsets.map(|&start| i64::from(start - first)).collect(),
        )
    }

    /// Takes in what was found for `groups`; their rewards are gone with that.
    pub(super) fn put(&mut self, groups: &Range<usize>, results: Results<'_>) {
        let span = self.span(groups);
        for (at, &row) in self.order[span].iter().enumerate() {
            let row = row as usize;
            self.rewards[row] = results.advantage[at];
            self.twice_ranks[row] = twice(results.rank[at]);
            if results.keep.is_some_and(|keep| !keep[at]) {
                if self.dropped.is_empty() {
                    self.dropped = vec![0; self.codes.len().div_ceil(64)];
                }
                self.dropped[row / 64] |= 1 << (row % 64);
            }
        }
        for (at, shared) in self.shared[groups.clone()].iter_mut().enumerate() {
            let g = groups.start + at;
            *shared = Shared {
                size: self.starts[g + 1] - self.starts[g],
                scored: u32::try_from(results.scored[at]).expect("no more than rows"),
                mean: results.mean[at],
                std: results.std[at],
            };
        }
    }

    /// Frees what only grouping needed.
    pub(super) fn settle(&mut self) {
        self.order = Vec::new();
        self.interner = Interner::default();
    }

    /// What the row is told.
    pub(super) fn scored(&self, row: usize) -> Scored {
        let shared = self.shared[self.codes[row] as usize];
        let dropped = self.dropped.get(row / 64).copied().unwrap_or(0);
        Scored {
            twice_rank: self.twice_ranks[row],
            size: shared.size,
            scored: shared.scored,
            check: self.checks.get(row).copied().unwrap_or(0),
            keep: dropped >> (row % 64) & 1 == 0,
            advantage: self.rewards[row],
            mean: shared.mean,
            std: shared.std,
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
