//! Sums of many numbers that are the same to the bit in any order.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use pulp::{Simd, WithSimd};

use super::widest::simd;

/// Of a lesser reach the digits that are cut off may not be numbers.
pub(super) const LEAST: f64 = 1e-200;

/// Two digits at which numbers are cut, so high that sums of upper parts are exact, and so are sums
/// of the middle ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut(pub(super) [f64; 2]);

impl Cut {
    /// For sums of up to `n` numbers no further from 0 than `reach`, which is normal, at most 1e290
    /// and not 0.
    #[inline(always)]
    pub(super) fn new(n: f64, reach: f64) -> Self {
        // With `n` numbers of at most `top / n`, a sum has fewer digits than there are.
        let top = power_above(2.0 * n * reach);
        Self([1.5 * top, 1.5 * top * power_above(n) * f64::EPSILON])
    }

    /// What is below the upper part of a number.
    #[inline(always)]
    pub(super) fn below(self, value: f64) -> f64 {
        value - ((value + self.0[0]) - self.0[0])
    }

    /// The upper part of a number, the middle one and what is below both.
    #[inline(always)]
    pub(super) fn three(self, value: f64) -> (f64, f64, f64) {
        let Self(at) = self;
        let part = (value + at[0]) - at[0];
        let rest = value - part;
        let middle = (rest + at[1]) - at[1];
        (part, middle, rest - middle)
    }
}

/// The sum of `values`, none of it further from 0 than `reach`, which is normal, at most 1e290 and
/// not 0.
///
/// Every number is cut at a digit so high that the sum of the upper parts is exact, and so is the
/// rest; what is left then, a tiny part of `reach`, is dropped (J. Demmel and H. D. Nguyen, 2013,
/// "Fast reproducible floating-point summation").
pub(super) fn sum(values: &[f64], reach: f64) -> f64 {
    around(values, reach, (1.0, 0.0))
}

/// The same of values times the scale less the centre, which are no further from 0 than `reach`.
pub(super) fn around(values: &[f64], reach: f64, (scale, centre): (f64, f64)) -> f64 {
    simd(Sum::<false> {
        values,
        reach,
        scale,
        centre,
    })
}

/// The same of their squares, the root of the furthest of which is `reach`.
pub(super) fn squares(values: &[f64], reach: f64, (scale, centre): (f64, f64)) -> f64 {
    simd(Sum::<true> {
        values,
        reach: reach * reach,
        scale,
        centre,
    })
}

struct Sum<'a, const SQUARED: bool> {
    values: &'a [f64],
    reach: f64,
    scale: f64,
    centre: f64,
}

/// In vectors by name: of a loop over several sums the compiler makes something slower.
impl<const SQUARED: bool> WithSimd for Sum<'_, SQUARED> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let cut = Cut::new(self.values.len() as f64, self.reach);
        let [high, low] = cut.0.map(|at| simd.splat_f64s(at));
        let [scale, centre] = [self.scale, self.centre].map(|one| simd.splat_f64s(one));
        let (mut upper, mut lower) = (simd.splat_f64s(0.0), simd.splat_f64s(0.0));
        let (rows, rest) = S::as_simd_f64s(self.values);
        for &row in rows {
            let mut term = simd.sub_f64s(simd.mul_f64s(row, scale), centre);
            if SQUARED {
                term = simd.mul_f64s(term, term);
            }
            let part = simd.sub_f64s(simd.add_f64s(term, high), high);
            let below = simd.sub_f64s(term, part);
            upper = simd.add_f64s(upper, part);
            lower = simd.add_f64s(lower, simd.sub_f64s(simd.add_f64s(below, low), low));
        }
        let (mut upper, mut lower) = (simd.reduce_sum_f64s(upper), simd.reduce_sum_f64s(lower));
        for value in rest {
            let term = value * self.scale - self.centre;
            let (part, middle, _) = cut.three(if SQUARED { term * term } else { term });
            upper += part;
            lower += middle;
        }
        upper + lower
    }
}

/// The least power of two above a normal number.
#[inline(always)]
fn power_above(value: f64) -> f64 {
    2.0 * f64::from_bits(value.to_bits() & !((1 << 52) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_order_changes_a_bit_and_hardly_any_digit_is_lost(
            words in prop::collection::vec((any::<i32>(), -60_i32..3), 1..300), turn in 0_usize..300
        ) {
            let mut values: Vec<f64> =
                words.iter().map(|&(word, power)| f64::from(word) * 2_f64.powi(power)).collect();
            let reach = values.iter().fold(1.0, |reach: f64, value| reach.max(value.abs()));
            let found = sum(&values, reach);
            let exact = crate::stats::mean::exact(values.iter().copied(), 1.0);
            prop_assert!((found - exact).abs() <= 1e-25 * reach + f64::EPSILON * exact.abs());
            let places = values.len();
            values.rotate_left(turn % places);
            values.swap(0, places / 2);
            prop_assert_eq!(sum(&values, reach).to_bits(), found.to_bits());
        }
    }
}
