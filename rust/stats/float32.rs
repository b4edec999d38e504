//! Advantages of float32 rewards, in groups of one size, for which a mean suffices.
//!
//! Such rewards have so few digits that their sums in float64 are exact, unless some are far
//! smaller than others: one pass adds, another writes. The results are those of float64, rounded.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use super::widest::{Loops, widest};
use crate::error::Error;
use crate::pool::{self, Cancel};

/// Rows, or some more, that are looked at at once: they stay in the first-level cache.
const BLOCK: usize = 1 << 10;
/// Rows per task.
const TASK: usize = 1 << 14;
/// Sums that run side by side.
const SIDES: usize = 8;
/// Bits of a float64 beyond those of a float32.
const SPARE: u32 = 29;
/// Biased exponent from which on a difference, doubled, may leave float32.
const LARGE: u32 = 250;
/// Whole numbers from here on have no digits behind the point.
const WHOLE: f64 = (1_u64 << 52) as f64;

/// Whose mean is taken off, and what is done with the rest.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// Reward minus group mean.
    Mean,
    /// Reward minus the mean of the others.
    Rloo,
    /// Reward over mean, minus 1.
    MaxRl,
    /// Reward minus the mean weighted by these lengths, as many as there are rewards.
    Opo(&'a [i64]),
}

/// Computes the advantages of consecutive groups of `size`.
///
/// None if that is not for here: rewards that are unscorable, infinite, of too many digits or, for
/// [`Kind::MaxRl`], negative; a negative length, or a group without tokens.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn advantages(
    rewards: &[f32],
    kind: Kind<'_>,
    size: usize,
    cancel: &Cancel,
) -> Result<Option<Vec<f32>>, Error> {
    let mut out = vec![0.0; rewards.len()];
    let rows = size * (TASK / size).max(1);
    let tasks = rewards.chunks(rows).zip(out.chunks_mut(rows));
    let done = pool::map_init(
        tasks.enumerate(),
        Scratch::default,
        |scratch, (task, (rewards, out))| {
            cancel.check()?;
            let kind = kind.of(task * rows, rewards.len());
            Ok(scratch.fill(rewards, kind, size, out))
        },
    )?;
    Ok(done.into_iter().all(|fine| fine).then_some(out))
}

impl Kind<'_> {
    /// The same for some of the rows.
    fn of(self, start: usize, rows: usize) -> Self {
        match self {
            Self::Opo(lengths) => Self::Opo(&lengths[start..start + rows]),
            _ => self,
        }
    }
}

/// What a worker keeps from task to task.
#[derive(Default)]
struct Scratch {
    means: Vec<f64>,
    products: Vec<f64>,
    lengths: Vec<f64>,
    tokens: Vec<f64>,
}

impl Scratch {
    fn fill(&mut self, rewards: &[f32], kind: Kind<'_>, size: usize, out: &mut [f32]) -> bool {
        let rows = size * (BLOCK / size).max(1);
        let blocks = rewards.chunks(rows).zip(out.chunks_mut(rows));
        blocks.enumerate().all(|(block, (rewards, out))| {
            widest(Block {
                scratch: self,
                rewards,
                kind: kind.of(block * rows, rewards.len()),
                size,
                out,
            })
        })
    }

    /// Finds the weighted means of groups.
    #[inline(always)]
    fn weigh(&mut self, rewards: &[f32], lengths: &[i64], size: usize) -> bool {
        let bits = lengths.iter().fold(0, |bits, length| bits | length);
        let times = (size as u64).saturating_mul(bits.cast_unsigned());
        if bits < 0 || !sums_exactly(rewards, times, false) {
            return false;
        }
        // These digits behind 2^52 are a number already: conversions go one by one.
        let number = |&length: &i64| f64::from_bits(length.cast_unsigned() | WHOLE.to_bits());
        self.lengths.clear();
        self.lengths
            .extend(lengths.iter().map(|length| number(length) - WHOLE));
        self.products.clear();
        let products = rewards.iter().zip(&self.lengths);
        self.products
            .extend(products.map(|(&reward, length)| f64::from(reward) * length));
        sums(&self.products, size, &mut self.means);
        sums(&self.lengths, size, &mut self.tokens);
        for (mean, tokens) in self.means.iter_mut().zip(&self.tokens) {
            *mean /= tokens;
        }
        self.tokens.iter().all(|&sum| sum > 0.0)
    }
}

struct Block<'a> {
    scratch: &'a mut Scratch,
    rewards: &'a [f32],
    kind: Kind<'a>,
    size: usize,
    out: &'a mut [f32],
}

impl Loops for Block<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let (rewards, n) = (self.rewards, self.size as f64);
        if let Kind::Opo(lengths) = self.kind {
            if !self.scratch.weigh(rewards, lengths, self.size) {
                return false;
            }
        } else {
            let signed = !matches!(self.kind, Kind::MaxRl);
            if !sums_exactly(rewards, self.size as u64, !signed) {
                return false;
            }
            sums(rewards, self.size, &mut self.scratch.means);
            self.scratch.means.iter_mut().for_each(|mean| *mean /= n);
        }
        match self.kind {
            Kind::Mean | Kind::Opo(_) => self.write(|value, mean| value - mean),
            Kind::Rloo => {
                let scale = if n > 1.0 { n / (n - 1.0) } else { 0.0 };
                self.write(|value, mean| (value - mean) * scale);
            }
            Kind::MaxRl => self.write(|value, mean| {
                if mean > 0.0 {
                    (value - mean) / mean
                } else {
                    0.0
                }
            }),
        }
        true
    }
}

impl Block<'_> {
    /// Writes what `of` makes of each reward and the mean of its group.
    #[inline(always)]
    fn write(self, of: impl Fn(f64, f64) -> f64) {
        match self.size {
            2 => self.write_groups::<2>(of),
            4 => self.write_groups::<4>(of),
            8 => self.write_groups::<8>(of),
            16 => self.write_groups::<16>(of),
            32 => self.write_groups::<32>(of),
            64 => self.write_groups::<64>(of),
            size => {
                let groups = self.rewards.chunks_exact(size);
                let groups = groups.zip(self.out.chunks_exact_mut(size));
                for ((group, out), &mean) in groups.zip(&self.scratch.means) {
                    write(group, out, mean, &of);
                }
            }
        }
    }

    #[inline(always)]
    fn write_groups<const N: usize>(self, of: impl Fn(f64, f64) -> f64) {
        let groups = self.rewards.as_chunks::<N>().0.iter();
        let groups = groups.zip(self.out.as_chunks_mut::<N>().0);
        for ((group, out), &mean) in groups.zip(&self.scratch.means) {
            write(group, out, mean, &of);
        }
    }
}

#[inline(always)]
fn write(group: &[f32], out: &mut [f32], mean: f64, of: impl Fn(f64, f64) -> f64) {
    for (out, &reward) in out.iter_mut().zip(group) {
        // The sum makes -0.0 what it is equal to.
        let found = of(f64::from(reward) + 0.0, mean);
        #[expect(clippy::cast_possible_truncation, reason = "rounded as asked for")]
        let rounded = found as f32;
        *out = rounded;
    }
}

/// Whether `times` sums of `rewards` cannot but be exact, and nothing made of them leaves float32;
/// with `unsigned`, whether none is negative, too.
#[inline(always)]
fn sums_exactly(rewards: &[f32], times: u64, unsigned: bool) -> bool {
    let (mut most, mut least, mut signs) = (0, u32::MAX, 0);
    for reward in rewards {
        let bits = reward.to_bits() & !(1 << 31);
        most = most.max(bits);
        // Of 0, no digit counts: less 1, it is the largest.
        least = least.min(bits.wrapping_sub(1));
        signs |= reward.to_bits();
    }
    let exponent = |bits: u32| (bits >> 23).max(1);
    let (top, bottom) = (exponent(most), exponent(least.wrapping_add(1)));
    let counted = u64::BITS - times.saturating_sub(1).leading_zeros();
    top < LARGE && top.saturating_sub(bottom) + counted <= SPARE && !(unsigned && signs >> 31 == 1)
}

/// Sums of consecutive groups, which are exact in whatever order.
#[inline(always)]
fn sums<T: Copy + Into<f64>>(values: &[T], size: usize, found: &mut Vec<f64>) {
    found.clear();
    match size {
        2 => found.extend(values.as_chunks::<2>().0.iter().map(tree)),
        4 => found.extend(values.as_chunks::<4>().0.iter().map(tree)),
        8 => found.extend(values.as_chunks::<8>().0.iter().map(tree)),
        16 => found.extend(values.as_chunks::<16>().0.iter().map(tree)),
        32 => found.extend(values.as_chunks::<32>().0.iter().map(tree)),
        64 => found.extend(values.as_chunks::<64>().0.iter().map(tree)),
        _ => found.extend(values.chunks_exact(size).map(total)),
    }
}

/// The sum of a power of two of values.
#[inline(always)]
fn tree<T: Copy + Into<f64>, const N: usize>(values: &[T; N]) -> f64 {
    let mut sums = values.map(Into::into);
    let mut half = N / 2;
    while half > 0 {
        for side in 0..half {
            sums[side] += sums[side + half];
        }
        half /= 2;
    }
    sums[0]
}

#[inline(always)]
fn total<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let mut sums = [0.0; SIDES];
    let (rows, rest) = values.as_chunks::<SIDES>();
    for row in rows {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += value.into();
        }
    }
    rest.iter()
        .fold(tree(&sums), |sum, &value| sum + value.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::groups::Groups;
    use crate::stats::advantage::Estimator;
    use crate::stats::column::Column;
    use crate::stats::rows::{Input, rows};
    use crate::stats::short::short;

    /// The same by float64.
    fn rounded(rewards: &[f32], kind: Kind<'_>, size: usize) -> Vec<f32> {
        let (groups, cancel) = (Groups::of_size(rewards.len(), size), Cancel::default());
        let rewards: Vec<f64> = rewards.iter().copied().map(f64::from).collect();
        let mut out = vec![0.0; rewards.len()];
        let estimator = match kind {
            Kind::Mean => Estimator::Mean,
            Kind::Rloo => Estimator::Rloo,
            Kind::MaxRl => Estimator::MaxRl,
            Kind::Opo(lengths) => {
                let found = crate::stats::opo::advantages(&rewards, lengths, &groups, &cancel);
                return short(&found.unwrap()).0;
            }
        };
        let (rewards, groups) = (rewards.as_slice(), &groups);
        let column = Column::Advantage(estimator);
        rows(
            Input { rewards, groups },
            &[column],
            &mut [&mut out],
            &cancel,
        )
        .unwrap();
        short(&out).0
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    fn reward(kind: u8, word: u32) -> f32 {
        let share = f32::from_bits(0x3f80_0000 | word >> 9) - 1.0;
        match kind {
            0 => f32::from(u8::try_from(word % 11).unwrap()) / 10.0,
            1 => f32::from(u8::try_from(word % 2).unwrap()) - 0.0,
            2 => share,
            3 => share * f32::MIN_POSITIVE,
            _ => -0.0,
        }
    }

    proptest! {
        #[test]
        fn every_bit_is_that_of_float64_rounded(
            size in 1_usize..70, n_groups in 0_usize..40, which in 0_u8..5,
            words in prop::collection::vec(any::<u32>(), 70 * 40),
            negative in any::<bool>(),
        ) {
            let words = &words[..size * n_groups];
            let sign = if negative { -1.0 } else { 1.0 };
            let rewards: Vec<f32> = words.iter().map(|&word| reward(which, word)).collect();
            let lengths: Vec<i64> = words.iter().map(|word| i64::from(word % 3000 + 1)).collect();
            for kind in [Kind::Mean, Kind::Rloo, Kind::MaxRl, Kind::Opo(&lengths)] {
                let sign = if matches!(kind, Kind::MaxRl) { 1.0 } else { sign };
                let rewards: Vec<f32> = rewards.iter().map(|reward| reward * sign).collect();
                let found = advantages(&rewards, kind, size, &Cancel::default()).unwrap();
                let expected = rounded(&rewards, kind, size);
                if let Some(found) = found {
                    prop_assert_eq!(bits(&found), bits(&expected), "{:?}", kind);
                } else {
                    prop_assert!((2..4).contains(&which) || matches!(kind, Kind::MaxRl));
                }
            }
        }
    }

    #[test]
    fn what_a_sum_could_round_is_left_to_others() {
        let cancel = Cancel::default();
        let found = |rewards: &[f32], kind| advantages(rewards, kind, 2, &cancel).unwrap();
        assert_eq!(found(&[1.0, 3.0], Kind::Mean), Some(vec![-1.0, 1.0]));
        for rewards in [
            [1.0, f32::NAN],
            [1.0, f32::INFINITY],
            [1.0, 1e-9],
            [f32::MAX, 0.0],
        ] {
            assert_eq!(found(&rewards, Kind::Mean), None);
        }
        assert_eq!(found(&[1.0, -1.0], Kind::MaxRl), None);
        assert_eq!(found(&[1.0, 3.0], Kind::Opo(&[0, 0])), None);
        assert_eq!(found(&[1.0, 3.0], Kind::Opo(&[-1, 2])), None);
        assert_eq!(found(&[1.0, 3.0], Kind::Opo(&[1 << 30, 1])), None);
        assert_eq!(
            found(&[1.0, 3.0], Kind::Opo(&[3, 1])),
            Some(vec![-0.5, 1.5])
        );
    }
}
