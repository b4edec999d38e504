//! Sums of many numbers that are the same to the bit in any order.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

/// How many sums run side by side.
const SIDES: usize = 8;

/// Of a lesser reach the digits that are cut off may not be numbers.
pub(super) const LEAST: f64 = 1e-200;

/// Two digits at which numbers are cut, so high that sums of upper parts are exact, and so are sums
/// of the middle ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut([f64; 2]);

impl Cut {
    /// For sums of up to `n` numbers no further from 0 than `reach`, which is normal, at most 1e290
    /// and not 0.
    #[inline(always)]
    pub(super) fn new(n: f64, reach: f64) -> Self {
        // With `n` numbers of at most `top / n`, a sum has fewer digits than there are.
        let top = power_above(2.0 * n * reach);
        Self([1.5 * top, 1.5 * top * power_above(n) * f64::EPSILON])
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

/// The sums of all that `of` makes of `values`, none of it further from 0 than its `reach`, which
/// is normal, at most 1e290 and not 0.
///
/// Every number is cut at a digit so high that the sum of the upper parts is exact, and so is the
/// rest; what is left then, a tiny part of `reach`, is dropped (J. Demmel and H. D. Nguyen, 2013,
/// "Fast reproducible floating-point summation").
#[inline(always)]
pub(crate) fn sums<const N: usize>(
    values: &[f64],
    reach: [f64; N],
    of: impl Fn(f64) -> [f64; N],
) -> [f64; N] {
    let cuts = reach.map(|reach| Cut::new(values.len() as f64, reach));
    let (mut upper, mut lower) = ([[0.0; SIDES]; N], [[0.0; SIDES]; N]);
    let mut add = |side: usize, value: f64| {
        for (k, value) in of(value).into_iter().enumerate() {
            let (part, middle, _) = cuts[k].three(value);
            upper[k][side] += part;
            lower[k][side] += middle;
        }
    };
    let (rows, rest) = values.as_chunks::<SIDES>();
    for row in rows {
        for (side, &value) in row.iter().enumerate() {
            add(side, value);
        }
    }
    for &value in rest {
        add(0, value);
    }
    std::array::from_fn(|k| upper[k].iter().sum::<f64>() + lower[k].iter().sum::<f64>())
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
            let [found] = sums(&values, [reach], |value| [value]);
            let exact = crate::stats::mean::exact(values.iter().copied(), 1.0);
            prop_assert!((found - exact).abs() <= 1e-25 * reach + f64::EPSILON * exact.abs());
            let places = values.len();
            values.rotate_left(turn % places);
            values.swap(0, places / 2);
            prop_assert_eq!(sums(&values, [reach], |value| [value])[0].to_bits(), found.to_bits());
        }
    }
}
