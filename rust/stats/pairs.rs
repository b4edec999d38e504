//! Preference pairs: which member of a group is preferred to which.

use std::ops::Range;

use super::decimal::exceeds;
use super::group::Group;
use super::sorted::Sorted;
use super::summary::per_group;
use crate::error::Error;
use crate::groups::{Groups, mix};
use crate::pool::Cancel;

/// Which pairs a group gives; the chosen reward always exceeds the other by more than the margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// One pair: the highest and the lowest reward, the first row of each.
    BestWorst,
    /// Every pair.
    All,
    /// One pair: the highest reward and one drawn from those it exceeds.
    BestRandom {
        /// Of the draws; they depend on it and on the number of the group.
        seed: u64,
    },
}

/// Pairs of rows, chosen and rejected, group after group.
///
/// # Errors
/// [`Error::RewardCount`], [`Error::Infinite`] or [`Error::Interrupted`].
pub fn pairs(
    rewards: &[f64],
    groups: &Groups,
    strategy: Strategy,
    margin: f64,
    cancel: &Cancel,
) -> Result<Vec<[i64; 2]>, Error> {
    per_group(rewards, groups, cancel, |g, group, out| {
        let start = groups.range(g).start;
        let row = |k| i64::try_from(groups.row(start + group.place(k))).unwrap_or(i64::MAX);
        match strategy {
            Strategy::All => all(group, margin, row, out),
            Strategy::BestWorst => one(group, margin, |_| 0, row, out),
            Strategy::BestRandom { seed } => {
                let word = mix(seed.wrapping_add(mix(g as u64 + 1)));
                one(group, margin, |n| draw(word, n), row, out);
            }
        }
    })
}

/// How many of the lowest members `value` exceeds by more than `margin`.
fn beaten(group: &Sorted, value: f64, margin: f64) -> usize {
    let far = |other: &f64| exceeds(value, *other, margin);
    group.values().partition_point(far)
}

/// The best member against one of those it beats.
fn one(
    group: &Sorted,
    margin: f64,
    pick: impl Fn(usize) -> usize,
    row: impl Fn(usize) -> i64,
    out: &mut Vec<[i64; 2]>,
) {
    let Some((best, _)) = group.ties().last() else {
        return;
    };
    let n = beaten(group, group.values()[best], margin);
    if n > 0 {
        out.push([row(best), row(pick(n))]);
    }
}

/// The best class first, each member against the worst first.
fn all(group: &Sorted, margin: f64, row: impl Fn(usize) -> i64, out: &mut Vec<[i64; 2]>) {
    let classes: Vec<Range<usize>> = group
        .ties()
        .map(|(below, tied)| below..below + tied.len())
        .collect();
    for class in classes.into_iter().rev() {
        let n = beaten(group, group.values()[class.start], margin);
        for chosen in class.take_while(|_| !group.stopped()) {
            out.extend((0..n).map(|rejected| [row(chosen), row(rejected)]));
        }
    }
}

/// A number below `n` from a random word.
fn draw(word: u64, n: usize) -> usize {
    let product = u128::from(word) * n as u128;
    usize::try_from(product >> 64).expect("less than n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rewards: &[f64], strategy: Strategy, margin: f64) -> Vec<[i64; 2]> {
        let end = i64::try_from(rewards.len()).unwrap();
        let groups = Groups::from_offsets(vec![0, end]).unwrap();
        pairs(rewards, &groups, strategy, margin, &Cancel::default()).unwrap()
    }

    #[test]
    fn ties_never_make_a_pair() {
        let rewards = [1.0, 0.0, -0.0, 1.0];
        assert_eq!(found(&rewards, Strategy::BestWorst, 0.0), [[0, 1]]);
        let all = found(&rewards, Strategy::All, 0.0);
        assert_eq!(all, [[0, 1], [0, 2], [3, 1], [3, 2]]);
        assert!(found(&[2.0; 5], Strategy::All, 0.0).is_empty());
    }

    #[test]
    fn a_pair_differs_by_more_than_the_margin_even_at_the_ends_of_the_range() {
        assert!(found(&[0.0, 1.0], Strategy::All, 1.0).is_empty());
        let extreme = [f64::MAX, -f64::MAX];
        assert_eq!(found(&extreme, Strategy::BestWorst, 1e308), [[0, 1]]);
    }

    #[test]
    fn a_drawn_opponent_is_one_that_was_beaten() {
        let rewards = [0.5, 3.0, f64::NAN, 1.0, 2.9];
        let drawn: Vec<i64> = (0..64)
            .flat_map(|seed| found(&rewards, Strategy::BestRandom { seed }, 1.0))
            .map(|[_, rejected]| rejected)
            .collect();
        assert_eq!(drawn.len(), 64);
        assert!(drawn.contains(&0) && drawn.contains(&3));
        assert!(drawn.iter().all(|&row| row == 0 || row == 3));
    }
}
