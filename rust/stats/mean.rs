//! The mean of numbers, rounded once: the float64 nearest to their exact sum over their count.

/// Sums of that many numbers below this stay far from the end of the range of float64.
const HUGE: f64 = f64::MAX / 1e40;
/// What brings larger ones there: a power of two, so that no digit is lost but of tiny ones.
const DOWN: f64 = 1.0 / (1_u128 << 127) as f64;
/// Sums that run side by side.
const SIDES: usize = 4;
/// Means below this may leave a remainder with fewer digits.
const TINY: f64 = 1e-270;
/// Below this, a count times half the digits of a float64 is exact.
const MANY: f64 = (1 << 26) as f64;

/// The float64 nearest to the mean of finite `values`, ties to even; NaN for none.
///
/// So it depends on the values alone and not on their order. Values beyond 1e268 beside others
/// that are 600 orders smaller may decide a tie otherwise.
///
/// # Examples
/// ```
/// use gspo_rs::mean;
///
/// assert_eq!(mean(&[1e16, 1.0, -1e16]), 1.0 / 3.0);
/// assert_eq!(mean(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), 1.0 / 6.0);
/// ```
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.abs() >= HUGE) {
        scaled(values, DOWN) / DOWN
    } else {
        scaled(values, 1.0)
    }
}

/// The same of `scale * value`, where `scale` is a power of two and no sum overflows.
#[must_use]
pub(crate) fn scaled(values: &[f64], scale: f64) -> f64 {
    let n = values.len() as f64;
    let mut sums = Sums::default();
    let (rows, rest) = values.as_chunks::<SIDES>();
    for row in rows {
        for (side, value) in row.iter().enumerate() {
            sums.add(side, value * scale);
        }
    }
    for value in rest {
        sums.add(0, value * scale);
    }
    for side in 1..SIDES {
        sums.add(0, sums.high[side]);
        sums.add(0, sums.low[side]);
    }
    over(sums.high[0], sums.low[0], sums.lost.iter().sum(), n)
        .unwrap_or_else(|| exact(values.iter().map(|value| value * scale), n))
}

/// Sums side by side, none of which waits for another.
#[derive(Default)]
struct Sums {
    high: [f64; SIDES],
    /// What rounding has taken from them, and what it has taken from that at most.
    low: [f64; SIDES],
    lost: [f64; SIDES],
}

impl Sums {
    #[inline]
    fn add(&mut self, side: usize, value: f64) {
        let (sum, error) = two_sum(self.high[side], value);
        self.high[side] = sum;
        let (sum, error) = two_sum(self.low[side], error);
        self.low[side] = sum;
        self.lost[side] += error.abs();
    }
}

/// The same whatever the values are, with some patience.
pub(crate) fn exact(values: impl Iterator<Item = f64>, n: f64) -> f64 {
    values.collect::<Exact>().over(n)
}

/// The float64 nearest to `(high + low) / n` for a count `n`, where the sum is wrong by up to about
/// `lost`; None where that does not decide it.
#[inline]
pub(crate) fn over(high: f64, low: f64, lost: f64, n: f64) -> Option<f64> {
    let (high, low) = two_sum(high, low);
    let near = high / n;
    if low == 0.0 && lost == 0.0 {
        return Some(near);
    }
    if near.abs() < TINY || n >= MANY {
        return None;
    }
    // Both halves of `near`, times `n`, are exact, and so is what they leave of `high`.
    let upper = f64::from_bits(near.to_bits() & !((1 << 27) - 1));
    let left = (high - upper * n) - (near - upper) * n;
    let (left, rest) = two_sum(left, low);
    let next = neighbour(near, left);
    let half = (next - near).abs() * 0.5 * n;
    let beyond = left.abs() - half;
    let doubt = (lost + rest.abs()) * 1.01;
    if doubt == 0.0 && beyond == 0.0 {
        let even = near.to_bits() & 1 == 0;
        return Some(if even { near } else { next });
    }
    let sure = beyond.abs() > doubt && beyond < half;
    sure.then_some(if beyond < 0.0 { near } else { next })
}

/// The sum and, exactly, what rounding took from it.
#[expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]
#[inline(always)]
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let other = sum - a;
    (sum, (a - (sum - other)) + (b - other))
}

fn neighbour(value: f64, towards: f64) -> f64 {
    if towards > 0.0 {
        value.next_up()
    } else {
        value.next_down()
    }
}

/// An exact sum: parts that do not overlap, rising in size (J. R. Shewchuk, 1997, "Adaptive
/// precision floating-point arithmetic").
#[derive(Clone, Default)]
struct Exact {
    parts: Vec<f64>,
}

impl FromIterator<f64> for Exact {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut sum = Self::default();
        for value in values {
            sum.add(value);
        }
        sum
    }
}

impl Exact {
    fn add(&mut self, value: f64) {
        let (mut carried, mut kept) = (value, 0);
        for at in 0..self.parts.len() {
            let (sum, error) = two_sum(carried, self.parts[at]);
            if error != 0.0 {
                self.parts[kept] = error;
                kept += 1;
            }
            carried = sum;
        }
        self.parts.truncate(kept);
        self.parts.push(carried);
    }

    /// To within a rounding or two; its sign is that of the sum.
    fn rough(&self) -> f64 {
        self.parts.iter().sum()
    }

    fn minus_product(&self, a: f64, n: f64) -> Self {
        let mut left = self.clone();
        let product = a * n;
        left.add(-product);
        left.add(-a.mul_add(n, -product));
        left
    }

    /// The float64 nearest to the sum over `n`, a count.
    fn over(&self, n: f64) -> f64 {
        let rough = self.rough() / n;
        let near = rough + self.minus_product(rough, n).rough() / n;
        let left = self.minus_product(near, n);
        let sign = left.rough();
        if sign == 0.0 {
            return near;
        }
        // Beyond the middle between `near` and the next number? Twice of both, which is exact.
        let next = neighbour(near, sign);
        let mut beyond: Self = left.parts.iter().map(|part| 2.0 * part).collect();
        beyond.add(-(next - near) * n);
        let beyond = beyond.rough() * sign.signum();
        let odd = near.to_bits() & 1 == 1;
        if beyond > 0.0 || (beyond == 0.0 && odd) {
            next
        } else {
            near
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_share_is_the_number_nearest_to_it() {
        for n in 1_u32..=300 {
            for k in 0..=n {
                let mut values = vec![0.0; n as usize];
                values[(n - k) as usize..].fill(1.0);
                assert_eq!(mean(&values), f64::from(k) / f64::from(n), "{k} of {n}");
            }
        }
    }

    #[test]
    fn a_sum_beside_a_middle_is_rounded_by_its_last_digit() {
        let (step, tiny) = (f64::EPSILON / 2.0, 5e-324);
        assert_eq!(
            mean(&[1.0 + 2.0 * step, 1.0, tiny, -tiny]),
            0.5 + step / 2.0
        );
        for (more, expected) in [(0.0, 1.0), (tiny, 1.0 + 2.0 * step), (-tiny, 1.0)] {
            let values = [1.0, step, more];
            let found = [values[0], values[1], values[2]]
                .into_iter()
                .collect::<Exact>();
            assert_eq!(found.over(1.0), expected);
        }
    }

    #[test]
    fn what_a_large_number_hides_is_there_when_it_goes() {
        assert_eq!(mean(&[-1e300, 1.0, 1e-300, 1e300]), 0.25);
        assert_eq!(mean(&[-1e200, 3e-200, 1e-30, 1e200]), 2.5e-31);
        assert_eq!(mean(&[f64::MAX, f64::MAX]), f64::MAX);
        assert!(mean(&[]).is_nan());
        // One bit of every size: more parts than there are sizes 53 bits apart.
        let bits: Vec<f64> = (-1000..800)
            .step_by(2)
            .map(|power| 2_f64.powi(power))
            .collect();
        let sum: f64 = bits.iter().rev().sum();
        assert_eq!(mean(&bits), sum / bits.len() as f64);
    }

    /// Of whole numbers times a power of two: the quotient in integers, rounded to even.
    fn by_integers(values: &[i64], shift: i32) -> f64 {
        let sum: i128 = values.iter().map(|&value| i128::from(value)).sum();
        let n = values.len() as i128;
        let (sign, sum) = (sum.signum(), sum.abs());
        let mut up = 0;
        while sum != 0 && (sum << up) / n < 1 << 53 {
            up += 1;
        }
        let mut down = 0;
        while (sum << up) / (n << down) >= 1 << 53 {
            down += 1;
        }
        let (whole, rest) = ((sum << up) / (n << down), (sum << up) % (n << down));
        let more = 2 * rest > (n << down) || (2 * rest == (n << down) && whole % 2 == 1);
        let digits = (whole + i128::from(more)) as f64;
        sign as f64 * digits * 2_f64.powi(shift - up + down)
    }

    proptest! {
        #[test]
        fn the_mean_is_the_nearest_number_to_the_exact_one_in_any_order(
            values in prop::collection::vec(-(1_i64 << 53)..1 << 53, 1..40),
            spread in prop::collection::vec(0_u32..6, 40),
            shift in -60_i32..60,
        ) {
            let values: Vec<i64> =
                values.iter().zip(&spread).map(|(&v, &s)| v >> (s * 10)).collect();
            let floats: Vec<f64> =
                values.iter().map(|&value| value as f64 * 2_f64.powi(shift)).collect();
            let expected = by_integers(&values, shift);
            prop_assert_eq!(mean(&floats), expected);
            let turned: Vec<f64> = floats.iter().rev().copied().collect();
            prop_assert_eq!(mean(&turned), expected);
            let exact = floats.iter().copied().collect::<Exact>();
            prop_assert_eq!(exact.over(floats.len() as f64), expected);
        }
    }
}
