//! Reward minus the mean of the group weighted by completion lengths.
//!
//! The mean is the sum of length times reward, each product rounded and their sum rounded once,
//! over the sum of lengths: no order of the rows shows in it.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use std::ops::Range;

use super::advantage::Estimator;
use super::checks::{check_count, first_infinite};
use super::column::Column;
use super::ends::Ends;
use super::mean;
use super::means::{self, equal, reach, total};
use super::moments::LARGE;
use super::network::greater;
use super::steady::{Cut, LEAST};
use super::widest::{Loops, widest};
use crate::error::Error;
use crate::groups::Groups;
use crate::pool::{self, CHECK_EVERY, Cancel};

/// Rows, or some more, that are looked at at once: they stay in the first-level cache.
const BLOCK: usize = 1 << 10;
/// Rows per task.
const TASK: usize = 1 << 14;
/// Sums of lengths below this are exact.
const MANY: f64 = WHOLE;
/// Whole numbers from here on have no digits behind the point.
const WHOLE: f64 = (1_u64 << 52) as f64;
/// What brings extreme rewards where no product overflows.
const DOWN: f64 = 1.0 / (1_u128 << 127) as f64;

/// Computes `reward - sum(length * reward) / sum(length)` for every row; dropped rows get NaN.
///
/// # Errors
/// [`Error::LengthCount`], [`Error::NegativeLength`], [`Error::NoTokens`] for a group whose
/// rewards differ and whose completions are all empty, else as [`crate::stats::rows::rows`].
pub fn advantages(
    rewards: &[f64],
    lengths: &[i64],
    groups: &Groups,
    cancel: &Cancel,
) -> Result<Vec<f64>, Error> {
    check(rewards, lengths)?;
    check_count(rewards, groups)?;
    let order = groups.order(cancel)?;
    let row_at = |at: usize| order.map_or(at, |order| order[at] as usize);
    let found = pool::map_init(
        groups.tasks(TASK).into_iter(),
        Scratch::default,
        |scratch, task| {
            cancel.check()?;
            let span = groups.range(task.start).start..groups.range(task.end - 1).end;
            let mut taken = std::mem::take(&mut scratch.rewards);
            let own = scratch.take((rewards, lengths), order, span.clone(), &mut taken);
            let mut out = vec![0.0; span.len()];
            let done = scratch.fill(own, task.map(|g| groups.range(g).len()), &mut out);
            scratch.rewards = taken;
            done.map_err(|wrong| wrong.named(row_at(span.start + wrong.place()), rewards))?;
            Ok(out)
        },
    )?;
    if order.is_none() && found.len() == 1 {
        return Ok(found.into_iter().next().unwrap_or_default());
    }
    let mut out = Vec::new();
    cancel.resize(&mut out, rewards.len(), &f64::NAN)?;
    for (at, advantage) in found.into_iter().flatten().enumerate() {
        if at.is_multiple_of(CHECK_EVERY) {
            cancel.check()?;
        }
        out[row_at(at)] = advantage;
    }
    Ok(out)
}

/// What is wrong, with its place among the rows of a task.
enum Wrong {
    Infinite(usize),
    NoTokens(usize),
    Overflow(usize),
}

impl Wrong {
    fn place(&self) -> usize {
        let (Self::Infinite(place) | Self::NoTokens(place) | Self::Overflow(place)) = self;
        *place
    }

    fn after(self, start: usize) -> Self {
        match self {
            Self::Infinite(place) => Self::Infinite(start + place),
            Self::NoTokens(place) => Self::NoTokens(start + place),
            Self::Overflow(place) => Self::Overflow(start + place),
        }
    }

    fn named(&self, row: usize, rewards: &[f64]) -> Error {
        first_infinite(rewards).unwrap_or(match self {
            Self::NoTokens(_) => Error::NoTokens { row },
            _ => Error::Overflow {
                row,
                what: "advantage",
            },
        })
    }
}

/// What a worker keeps from task to task: rows of whole groups, group after group.
#[derive(Default)]
struct Scratch {
    rewards: Vec<f64>,
    lengths: Vec<f64>,
    sizes: Vec<usize>,
    parts: Vec<f64>,
    rests: Vec<f64>,
    baselines: Vec<f64>,
}

impl Scratch {
    /// Takes the rows at the places `span` of the order; returns their rewards, which are copied
    /// to `taken` only where they do not lie together.
    fn take<'a>(
        &mut self,
        (rewards, lengths): (&'a [f64], &[i64]),
        order: Option<&[u32]>,
        span: Range<usize>,
        taken: &'a mut Vec<f64>,
    ) -> &'a [f64] {
        self.lengths.clear();
        if let Some(order) = order {
            let rows = order[span].iter().map(|&row| row as usize);
            taken.clear();
            taken.extend(rows.clone().map(|row| rewards[row]));
            self.lengths.extend(rows.map(|row| lengths[row] as f64));
            taken
        } else {
            let (rewards, lengths) = (&rewards[span.clone()], &lengths[span]);
            if bits_of(lengths) < 1 << 52 {
                // These digits behind 2^52 are a number already: conversions go one by one.
                let number =
                    |&length: &i64| f64::from_bits(length.cast_unsigned() | WHOLE.to_bits());
                self.lengths
                    .extend(lengths.iter().map(|length| number(length) - WHOLE));
            } else {
                self.lengths
                    .extend(lengths.iter().map(|&length| length as f64));
            }
            rewards
        }
    }

    /// Writes the advantages of groups of these sizes.
    fn fill(
        &mut self,
        rewards: &[f64],
        sizes: impl Iterator<Item = usize>,
        out: &mut [f64],
    ) -> Result<(), Wrong> {
        let (mut sizes, mut start) = (sizes.peekable(), 0);
        while sizes.peek().is_some() {
            let mut end = start;
            self.sizes.clear();
            while end - start < BLOCK
                && let Some(size) = sizes.next()
            {
                self.sizes.push(size);
                end += size;
            }
            self.fill_block(rewards, start..end, &mut out[start..end])?;
            start = end;
        }
        Ok(())
    }

    fn fill_block(
        &mut self,
        rewards: &[f64],
        own: Range<usize>,
        out: &mut [f64],
    ) -> Result<(), Wrong> {
        let start = own.start;
        if widest(Baselines(self, &rewards[own.clone()], own.clone())) {
            let tokens = |&baseline: &f64| baseline.is_nan();
            if let Some(group) = self.baselines.iter().position(tokens) {
                return Err(Wrong::NoTokens(
                    start + self.sizes[..group].iter().sum::<usize>(),
                ));
            }
            let column = Column::Advantage(Estimator::Mean);
            means::write(&self.baselines, column, &rewards[own], &self.sizes, out);
            return Ok(());
        }
        let mut from = 0;
        for &size in &self.sizes {
            let group = start + from..start + from + size;
            let (rewards, lengths) = (&rewards[group.clone()], &self.lengths[group]);
            fill_one(rewards, lengths, &mut out[from..from + size])
                .map_err(|wrong| wrong.after(start + from))?;
            from += size;
        }
        Ok(())
    }
}

/// The baselines of a block of groups, NaN for one without tokens. False if that is not for here:
/// rewards that are unscorable, infinite or extreme.
struct Baselines<'a>(&'a mut Scratch, &'a [f64], Range<usize>);

impl Loops for Baselines<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let Self(own, rewards, block) = self;
        let lengths = &own.lengths[block];
        let most = own.sizes.iter().fold(0, |most, &size| most.max(size));
        let (Some(high), Some(longest)) = (reach(rewards), reach(lengths)) else {
            return false;
        };
        if longest * most as f64 >= MANY {
            return false;
        }
        let cut = Cut::new(most as f64, greater(high * longest, LEAST));
        own.parts.resize(rewards.len(), 0.0);
        own.rests.resize(rewards.len(), 0.0);
        let mut left = 0;
        let halves = own.parts.iter_mut().zip(&mut own.rests);
        for ((reward, length), (part, rest)) in rewards.iter().zip(lengths).zip(halves) {
            let less;
            (*part, *rest, less) = cut.three(reward * length);
            left |= less.to_bits();
        }
        own.baselines.clear();
        let columns = [rewards, lengths, &own.parts, &own.rests];
        match equal(&own.sizes, most) {
            true if most == 2 => of_equal::<2>(columns, &mut own.baselines),
            true if most == 4 => of_equal::<4>(columns, &mut own.baselines),
            true if most == 8 => of_equal::<8>(columns, &mut own.baselines),
            _ => {
                let mut start = 0;
                for &size in &own.sizes {
                    let group = columns.map(|column| &column[start..start + size]);
                    own.baselines.push(baseline(group));
                    start += size;
                }
            }
        }
        left == 0
    }
}

#[inline(always)]
fn of_equal<const N: usize>(columns: [&[f64]; 4], baselines: &mut Vec<f64>) {
    let [rewards, lengths, parts, rests] = columns.map(|column| column.as_chunks::<N>().0);
    let halves = parts.iter().zip(rests);
    for ((rewards, lengths), (parts, rests)) in rewards.iter().zip(lengths).zip(halves) {
        baselines.push(baseline([rewards, lengths, parts, rests]));
    }
}

/// That of one group, of which the products have these parts and rests.
#[inline(always)]
fn baseline([rewards, lengths, parts, rests]: [&[f64]; 4]) -> f64 {
    let Ends { low, high, .. } = Ends::of(rewards);
    let mean = (total(parts) + total(rests)) / total(lengths);
    // Of no tokens at all NaN, unless all rewards are the same.
    if low == high || mean < low {
        low
    } else if mean > high {
        high
    } else {
        mean
    }
}

/// Writes the advantages of one group, whatever its rewards are.
fn fill_one(rewards: &[f64], lengths: &[f64], out: &mut [f64]) -> Result<(), Wrong> {
    if let Some(place) = rewards.iter().position(|reward| reward.is_infinite()) {
        return Err(Wrong::Infinite(place));
    }
    let scored = || {
        rewards
            .iter()
            .zip(lengths)
            .filter(|(reward, _)| !reward.is_nan())
    };
    let ends = Ends::of(rewards);
    out.fill(0.0);
    if ends.low >= ends.high {
        return Ok(());
    }
    let scale = if ends.reach() < LARGE { 1.0 } else { DOWN };
    let tokens = mean::exact(scored().map(|(_, &length)| length), 1.0);
    if tokens == 0.0 {
        return Err(Wrong::NoTokens(0));
    }
    let products = scored().map(|(reward, length)| reward * scale * length);
    let baseline = (mean::exact(products, 1.0) / tokens / scale).clamp(ends.low, ends.high);
    for (place, (out, reward)) in out.iter_mut().zip(rewards).enumerate() {
        if !reward.is_nan() {
            // The sum makes -0.0 what it is equal to.
            *out = reward + 0.0 - baseline;
        }
        if out.is_infinite() {
            return Err(Wrong::Overflow(place));
        }
    }
    Ok(())
}

fn check(rewards: &[f64], lengths: &[i64]) -> Result<(), Error> {
    let (found, expected) = (lengths.len(), rewards.len());
    if found != expected {
        return Err(Error::LengthCount { found, expected });
    }
    if bits_of(lengths) >= 0 {
        return Ok(());
    }
    match lengths.iter().position(|&length| length < 0) {
        Some(index) => Err(Error::NegativeLength {
            index,
            length: lengths[index],
        }),
        None => Ok(()),
    }
}

/// The bits that some number has: below 0 if one is, and no less than the largest else.
fn bits_of(numbers: &[i64]) -> i64 {
    numbers.iter().fold(0, |bits, number| bits | number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(rewards: &[f64], lengths: &[i64]) -> Result<Vec<f64>, Error> {
        let end = i64::try_from(rewards.len()).unwrap();
        let groups = Groups::from_offsets(vec![0, end]).unwrap();
        advantages(rewards, lengths, &groups, &Cancel::default())
    }

    #[test]
    fn long_completions_weigh_more_and_unscorable_ones_nothing() {
        let rewards = [1.0, 0.0, f64::NAN];
        assert_eq!(found(&rewards, &[3, 1, 50]), Ok(vec![0.25, -0.75, 0.0]));
        assert_eq!(found(&[2.5, 2.5], &[0, 0]), Ok(vec![0.0, 0.0]));
    }

    #[test]
    fn a_group_without_tokens_is_named_by_its_first_row() {
        assert_eq!(found(&[1.0, 0.0], &[0, 0]), Err(Error::NoTokens { row: 0 }));
        let groups = Groups::from_offsets(vec![0, 2, 4]).unwrap();
        for rewards in [[1.0, 0.0, 1.0, 0.0], [1.0, f64::NAN, 1.0, 0.0]] {
            let found = advantages(&rewards, &[1, 1, 0, 0], &groups, &Cancel::default());
            assert_eq!(found, Err(Error::NoTokens { row: 2 }));
        }
    }

    #[test]
    fn lengths_of_any_number_of_digits_weigh_what_they_are() {
        let most = (1_i64 << 52) - 1;
        let baseline = most as f64 / (1_u64 << 52) as f64;
        assert_eq!(
            found(&[1.0, 0.0], &[most, 1]),
            Ok(vec![1.0 - baseline, -baseline])
        );
        assert_eq!(
            found(&[1.0, 0.0], &[3 << 52, 1 << 52]),
            Ok(vec![0.25, -0.75])
        );
    }

    #[test]
    fn the_largest_rewards_do_not_overflow() {
        let half = f64::MAX / 2.0;
        assert_eq!(found(&[half, -half], &[7, 7]), Ok(vec![half, -half]));
        assert_eq!(
            found(&[f64::MAX, -f64::MAX], &[1, 7]),
            Err(Error::Overflow {
                row: 0,
                what: "advantage"
            })
        );
    }

    proptest! {
        #[test]
        fn a_block_has_the_bits_of_its_groups_one_after_the_other(
            words in prop::collection::vec((0_u32..300, 0_i64..5000), 1..400),
            sizes in prop::collection::vec(1_usize..20, 1..30),
            power in -30_i32..30,
        ) {
            let mut scratch = Scratch::default();
            let unit = 2_f64.powi(power) / 10.0;
            let rewards: Vec<f64> = words.iter().map(|&(k, _)| f64::from(k) * unit).collect();
            let lengths: Vec<i64> = words.iter().map(|&(_, length)| length + 1).collect();
            scratch.take((&rewards, &lengths), None, 0..rewards.len(), &mut Vec::new());
            let mut left = rewards.len();
            let own = sizes.iter().map(|&size| { let own = size.min(left); left -= own; own });
            let mut sizes: Vec<usize> = own.filter(|&size| size > 0).collect();
            sizes.extend((left > 0).then_some(left));
            let mut out = vec![0.0; rewards.len()];
            prop_assert!(scratch.fill(&rewards, sizes.iter().copied(), &mut out).is_ok());
            let mut start = 0;
            for size in sizes {
                let group = start..start + size;
                let mut alone = vec![0.0; size];
                let done = fill_one(
                    &rewards[group.clone()], &scratch.lengths[group.clone()], &mut alone
                );
                prop_assert!(done.is_ok());
                prop_assert_eq!(&out[group], alone);
                start += size;
            }
        }
    }
}
