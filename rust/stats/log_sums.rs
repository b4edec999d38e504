//! Sums over the log-ratios of a sequence's tokens.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use super::widest::{Loops, widest};

/// Log-ratios are clamped to plus or minus this before `exp`.
pub(crate) const BOUND: f32 = 20.0;
/// Up to here `e^d` is a polynomial without a power of two before it; just below `ln(2) / 2`.
const NEAR: f32 = 0.34;
/// Tokens that are summed in float32 before their sum goes into a float64.
const BLOCK: usize = 256;
/// Sums that run side by side, of which the compiler makes vectors.
const LANES: usize = 16;

/// What is summed over tokens, with `d` a log-ratio and `b` the same within the bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSums {
    /// Of `d`.
    pub(crate) log: f64,
    /// Of `d^2`.
    pub(crate) square: f64,
    /// Of `b`.
    pub(crate) bounded: f64,
    /// Of `e^b - 1 - b`; NaN if and only if a `d` is.
    pub(crate) excess: f64,
    /// The least and the largest `d`, NaN left out.
    pub(crate) least: f32,
    pub(crate) most: f32,
}

impl LogSums {
    /// Of no token.
    pub(crate) const NONE: Self = Self {
        log: 0.0,
        square: 0.0,
        bounded: 0.0,
        excess: 0.0,
        least: f32::INFINITY,
        most: f32::NEG_INFINITY,
    };

    pub(crate) fn of(log_ratios: &[f32]) -> Self {
        widest(OfTokens(log_ratios))
    }

    /// Of the tokens of both.
    #[inline(always)]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            log: self.log + other.log,
            square: self.square + other.square,
            bounded: self.bounded + other.bounded,
            excess: self.excess + other.excess,
            least: self.least.min(other.least),
            most: self.most.max(other.most),
        }
    }

    #[inline(always)]
    fn of_block(block: &[f32]) -> Self {
        let near = Lanes::of(block);
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        for lane in 0..LANES {
            least = least.min(near.least[lane]);
            most = most.max(near.most[lane]);
        }
        let log = whole(near.log);
        let (bounded, excess) = if least >= -NEAR && most <= NEAR {
            (log, whole(near.excess))
        } else {
            (sum(block, bound), sum(block, |d| far_excess(bound(d))))
        };
        Self {
            log,
            square: whole(near.square),
            bounded,
            excess,
            least,
            most,
        }
    }
}

/// What every `LANES`-th token of a block adds up to, as if all were near.
struct Lanes {
    log: [f32; LANES],
    square: [f32; LANES],
    excess: [f32; LANES],
    least: [f32; LANES],
    most: [f32; LANES],
}

impl Lanes {
    /// In one loop, in which no sum waits for itself.
    #[inline(always)]
    fn of(block: &[f32]) -> Self {
        let mut all = Self {
            log: [0.0; LANES],
            square: [0.0; LANES],
            excess: [0.0; LANES],
            least: [f32::INFINITY; LANES],
            most: [f32::NEG_INFINITY; LANES],
        };
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            all.add(chunk);
        }
        all.add(rest);
        all
    }

    #[inline(always)]
    fn add(&mut self, tokens: &[f32]) {
        for (lane, &d) in tokens.iter().enumerate() {
            self.log[lane] += d;
            self.square[lane] += d * d;
            self.excess[lane] += near_excess(d);
            // In this order, so that NaN is left out.
            self.least[lane] = if d < self.least[lane] {
                d
            } else {
                self.least[lane]
            };
            self.most[lane] = if d > self.most[lane] {
                d
            } else {
                self.most[lane]
            };
        }
    }
}

struct OfTokens<'a>(&'a [f32]);

impl Loops for OfTokens<'_> {
    type Output = LogSums;

    #[inline(always)]
    fn call(self) -> LogSums {
        let mut all = LogSums::NONE;
        // No `fold`: the compiler leaves it outside, for the oldest processors.
        for block in self.0.chunks(BLOCK) {
            all = all.and(LogSums::of_block(block));
        }
        all
    }
}

#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0.0; LANES];
    for chunk in values.chunks(LANES) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += term(value);
        }
    }
    whole(lanes)
}

#[inline(always)]
fn whole(lanes: [f32; LANES]) -> f64 {
    let mut sum = 0.0;
    for lane in lanes {
        sum += f64::from(lane);
    }
    sum
}

#[inline(always)]
fn bound(d: f32) -> f32 {
    d.clamp(-BOUND, BOUND)
}

/// `e^d - 1 - d` for `|d|` up to `ln(2) / 2`: its Taylor series, which loses no digit near 0.
#[inline(always)]
fn near_excess(d: f32) -> f32 {
    let series = [5040.0, 720.0, 120.0, 24.0, 6.0, 2.0];
    let factor = series
        .iter()
        .fold(0.0, |sum, &factorial: &f32| sum * d + 1.0 / factorial);
    d * d * factor
}

/// `e^d - 1 - d` for any bounded `d`: with `d = n ln 2 + r` it is `2^n e^r - 1 - d`.
#[inline(always)]
fn far_excess(d: f32) -> f32 {
    /// Added and taken away, it rounds to a whole number, and leaves it in the last bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, the first with few bits: a product with `n` is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let rounded = d * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = d - n * LN_2[0] - n * LN_2[1];
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    power * near_excess(r) + ((power - 1.0) + (power * r - d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excess_is_right_to_the_digits_of_float32_near_and_far() {
        for step in -40_000..=40_000 {
            let d = step as f32 / 2000.0;
            let expected = f64::from(d).exp_m1() - f64::from(d);
            let found = LogSums::of(&[d]).excess;
            let error = (found - expected).abs();
            assert!(error <= 2e-6 * expected, "{d}: {found}, {expected}");
        }
    }

    #[test]
    fn what_is_beyond_the_bound_counts_as_the_bound_and_nan_as_nan() {
        let sums = LogSums::of(&[f32::NEG_INFINITY, 25.0]);
        assert_eq!(
            (sums.bounded, sums.least, sums.most),
            (0.0, f32::NEG_INFINITY, 25.0)
        );
        assert!((sums.excess / (20f64.exp_m1() - 20.0) - 1.0).abs() < 1e-6);
        assert!(LogSums::of(&[f32::NAN; 40]).excess.is_nan());
    }
}
