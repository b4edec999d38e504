//! Groups of which only the mean is asked: nothing is sorted, and every sum is exact.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use pulp::{Simd, WithSimd};

use super::advantage::Estimator;
use super::column::Column;
use super::ends::Ends;
use super::mean;
use super::moments::{LARGE, SMALL};
use super::network::greater;
use super::steady::{Cut, LEAST};
use super::widest::{Loops, simd, widest};

/// Members of the largest group that is for here.
const MOST: usize = 1 << 12;
/// Means below this may have fewer digits than others.
const TINY: f64 = 1e-280;
/// Sums that run side by side.
const SIDES: usize = 8;

/// Means of groups that lie one after the other.
#[derive(Debug, Default)]
pub(crate) struct Means {
    found: Vec<f64>,
}

impl Means {
    /// Whether a column is for here.
    pub(crate) fn suffice_for(column: Column) -> bool {
        matches!(
            column,
            Column::GroupMean
                | Column::Advantage(Estimator::Mean | Estimator::Rloo | Estimator::MaxRl)
        )
    }

    /// Finds the means of groups of these sizes. False if that is not for here: a group too large,
    /// or rewards that are unscorable, infinite or extreme.
    pub(crate) fn load(&mut self, rewards: &[f64], sizes: &[usize]) -> bool {
        let most = sizes.iter().fold(0, |most, &size| most.max(size));
        most <= MOST
            && simd(Load {
                means: self,
                rewards,
                sizes,
                most,
            })
    }

    /// Writes a column of the groups that were loaded.
    pub(crate) fn write(&self, column: Column, rewards: &[f64], sizes: &[usize], out: &mut [f64]) {
        write(&self.found, column, rewards, sizes, out);
    }
}

/// Writes a column of groups with these means.
pub(super) fn write(
    means: &[f64],
    column: Column,
    rewards: &[f64],
    sizes: &[usize],
    out: &mut [f64],
) {
    widest(Write {
        means,
        rewards,
        sizes,
        column,
        out,
    });
}

struct Load<'a> {
    means: &'a mut Means,
    rewards: &'a [f64],
    sizes: &'a [usize],
    most: usize,
}

/// In vectors by name: of a loop over several sums the compiler makes something slower.
impl WithSimd for Load<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self {
            means: own,
            rewards,
            sizes,
            most,
        } = self;
        let Some(reach) = reach(rewards) else {
            return false;
        };
        let cut = Cut::new(most as f64, greater(reach, LEAST));
        own.found.clear();
        let below = |some: &[f64]| {
            let digits = some.iter().map(|&reward| cut.below(reward).abs().to_bits());
            digits.fold(0, |all, some| all | some)
        };
        // If there is a digit too many, most often one is near.
        let whole = below(&rewards[..rewards.len().min(SIDES)]) == 0 && below(rewards) == 0;
        let exact = if whole {
            averages::<S, true>(simd, cut, (rewards, sizes), &mut own.found)
        } else {
            averages::<S, false>(simd, cut, (rewards, sizes), &mut own.found)
        };
        exact
            && own.found.iter().fold(true, |fine, &mean| {
                fine & ((mean == 0.0) | (mean.abs() > TINY))
            })
    }
}

/// Finds the means of groups; `WHOLE` is whether no reward has a digit below the first cut. False
/// if one has digits below both, or a sum may have lost some.
#[inline(always)]
fn averages<S: Simd, const WHOLE: bool>(
    simd: S,
    cut: Cut,
    (rewards, sizes): (&[f64], &[usize]),
    found: &mut Vec<f64>,
) -> bool {
    match sizes[0] {
        2 if equal(sizes, 2) => averages_of::<WHOLE, 2>(cut, rewards, found),
        4 if equal(sizes, 4) => averages_of::<WHOLE, 4>(cut, rewards, found),
        8 if equal(sizes, 8) => averages_of::<WHOLE, 8>(cut, rewards, found),
        16 if equal(sizes, 16) => averages_of::<WHOLE, 16>(cut, rewards, found),
        _ => {
            let (mut rest, mut exact) = (rewards, true);
            for &size in sizes {
                let (group, others) = rest.split_at(size);
                let (high, low, own) = sums::<S, WHOLE>(simd, cut, group);
                found.push(over((high, low), size, group));
                (rest, exact) = (others, exact & own);
            }
            exact
        }
    }
}

/// The same of groups of one size, a power of two: a division by it rounds nothing, but where
/// digits end.
#[inline(always)]
fn averages_of<const WHOLE: bool, const N: usize>(
    cut: Cut,
    rewards: &[f64],
    found: &mut Vec<f64>,
) -> bool {
    let groups = rewards.as_chunks::<N>().0;
    found.resize(groups.len(), 0.0);
    let (mut left, mut sure) = (0, true);
    for (mean, group) in found.iter_mut().zip(groups) {
        let (mut high, mut low) = (0.0, 0.0);
        for &reward in group {
            let (part, rest, less) = parted::<WHOLE>(cut, reward);
            high += part;
            low += rest;
            left |= less;
        }
        let sum = high + low;
        *mean = sum * (1.0 / N as f64);
        sure &= (sum == 0.0) | (sum.abs() > SMALL);
    }
    sure && left == 0
}

/// The exact sums of the parts and of the rests of a group, and whether nothing is below both.
#[inline(always)]
fn sums<S: Simd, const WHOLE: bool>(simd: S, cut: Cut, group: &[f64]) -> (f64, f64, bool) {
    if WHOLE {
        return (total(group), 0.0, true);
    }
    let [high, low] = cut.0.map(|at| simd.splat_f64s(at));
    let [mut upper, mut lower, mut left] = [simd.splat_f64s(0.0); 3];
    let (rows, rest) = S::as_simd_f64s(group);
    for &row in rows {
        let part = simd.sub_f64s(simd.add_f64s(row, high), high);
        let below = simd.sub_f64s(row, part);
        let middle = simd.sub_f64s(simd.add_f64s(below, low), low);
        upper = simd.add_f64s(upper, part);
        lower = simd.add_f64s(lower, middle);
        left = simd.add_f64s(left, simd.abs_f64s(simd.sub_f64s(below, middle)));
    }
    let [mut upper, mut lower, mut left] = [upper, lower, left].map(|s| simd.reduce_sum_f64s(s));
    for &reward in rest {
        let (part, middle, less) = cut.three(reward);
        upper += part;
        lower += middle;
        left += less.abs();
    }
    (upper, lower, left == 0.0)
}

#[inline(always)]
fn parted<const WHOLE: bool>(cut: Cut, reward: f64) -> (f64, f64, u64) {
    if WHOLE {
        return (reward, 0.0, 0);
    }
    let (part, rest, less) = cut.three(reward);
    (part, rest, less.to_bits())
}

struct Write<'a> {
    means: &'a [f64],
    rewards: &'a [f64],
    sizes: &'a [usize],
    column: Column,
    out: &'a mut [f64],
}

impl Loops for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.column {
            Column::GroupMean => self.each(|_| move |_, mean| mean),
            Column::Advantage(Estimator::MaxRl) => self.each(|_| {
                move |value, mean| {
                    if mean > 0.0 {
                        (value - mean) / mean
                    } else {
                        0.0
                    }
                }
            }),
            Column::Advantage(Estimator::Rloo) => self.each(|size| {
                let n = size as f64;
                let scale = if size > 1 { n / (n - 1.0) } else { 0.0 };
                move |value, mean| (value - mean) * scale
            }),
            _ => self.each(|_| move |value, mean| value - mean),
        }
    }
}

impl Write<'_> {
    /// Writes what `of` a group's size makes of each reward and the mean of its group.
    #[inline(always)]
    fn each<F: Fn(f64, f64) -> f64>(self, of: impl Fn(usize) -> F) {
        let most = self.sizes.first().copied().unwrap_or(0);
        match equal(self.sizes, most) {
            true if most == 2 => self.each_equal::<2, F>(of),
            true if most == 4 => self.each_equal::<4, F>(of),
            true if most == 8 => self.each_equal::<8, F>(of),
            _ => self.each_group(of),
        }
    }

    #[inline(always)]
    fn each_equal<const N: usize, F: Fn(f64, f64) -> f64>(self, of: impl Fn(usize) -> F) {
        let of = of(N);
        let groups = self.rewards.as_chunks::<N>().0.iter().zip(self.means);
        for ((group, &mean), out) in groups.zip(self.out.as_chunks_mut::<N>().0) {
            for (out, reward) in out.iter_mut().zip(group) {
                *out = of(reward + 0.0, mean);
            }
        }
    }

    #[inline(always)]
    fn each_group<F: Fn(f64, f64) -> f64>(self, of: impl Fn(usize) -> F) {
        let (mut rewards, mut outs) = (self.rewards, self.out);
        for (&size, &mean) in self.sizes.iter().zip(self.means) {
            let of = of(size);
            let (group, rest) = rewards.split_at(size);
            let (out, others) = outs.split_at_mut(size);
            for (out, reward) in out.iter_mut().zip(group) {
                *out = of(reward + 0.0, mean);
            }
            (rewards, outs) = (rest, others);
        }
    }
}

/// The largest distance from 0; None if some number is unknown, infinite or extreme.
pub(super) fn reach(values: &[f64]) -> Option<f64> {
    let ends = Ends::widest(values);
    (ends.finite && ends.reach() < LARGE).then(|| ends.reach())
}

/// A sum that is exact, in whatever order.
#[inline(always)]
pub(super) fn total(values: &[f64]) -> f64 {
    let mut sums = [0.0; SIDES];
    let (rows, rest) = values.as_chunks::<SIDES>();
    for row in rows {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
    sums.iter().chain(rest).sum()
}

/// The mean of a `group` of `size`, from the exact sums of its parts and rests.
#[inline(always)]
fn over((high, low): (f64, f64), size: usize, group: &[f64]) -> f64 {
    let n = size as f64;
    let sum = high + low;
    // A division by a power of two rounds nothing, but where digits end.
    if size.is_power_of_two() && (sum == 0.0 || sum.abs() > SMALL) {
        return sum * (1.0 / n);
    }
    rounded(high, low, n, group)
}

#[inline(never)]
fn rounded(high: f64, low: f64, n: f64, group: &[f64]) -> f64 {
    mean::over(high, low, 0.0, n).unwrap_or_else(|| mean::exact(group.iter().copied(), n))
}

#[inline(always)]
pub(super) fn equal(sizes: &[usize], size: usize) -> bool {
    sizes.iter().all(|&other| other == size)
}
