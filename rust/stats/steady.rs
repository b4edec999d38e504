//! Sums of many numbers that are the same to the bit in any order.

/// How many sums run side by side.
const SIDES: usize = 4;

/// The sum of what `of` makes of `values`, none of it further from 0 than `reach`, which is normal,
/// at most 1e290 and not 0.
///
/// Every number is cut at a digit so high that the sum of the upper parts is exact, and so is the
/// rest; what is left then, a tiny part of `reach`, is dropped (J. Demmel and H. D. Nguyen, 2013,
/// "Fast reproducible floating-point summation").
pub(crate) fn sum(values: &[f64], reach: f64, of: impl Fn(f64) -> f64) -> f64 {
    // With `n` numbers of at most `top / n`, a sum has fewer digits than there are.
    let n = values.len() as f64;
    let top = power_above(2.0 * n * reach);
    let cuts = [1.5 * top, 1.5 * top * power_above(n) * f64::EPSILON];
    let (mut upper, mut lower) = ([0.0; SIDES], [0.0; SIDES]);
    let mut add = |side: usize, value: f64| {
        let part = (value + cuts[0]) - cuts[0];
        upper[side] += part;
        lower[side] += (value - part + cuts[1]) - cuts[1];
    };
    let (rows, rest) = values.as_chunks::<SIDES>();
    for row in rows {
        for (side, &value) in row.iter().enumerate() {
            add(side, of(value));
        }
    }
    for &value in rest {
        add(0, of(value));
    }
    upper.iter().sum::<f64>() + lower.iter().sum::<f64>()
}

/// The least power of two above a normal number.
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
            let found = sum(&values, reach, |value| value);
            let exact = crate::stats::mean::exact(values.iter().copied(), 1.0);
            prop_assert!((found - exact).abs() <= 1e-25 * reach + f64::EPSILON * exact.abs());
            let places = values.len();
            values.rotate_left(turn % places);
            values.swap(0, places / 2);
            prop_assert_eq!(sum(&values, reach, |value| value).to_bits(), found.to_bits());
        }
    }
}
