//! The least and the highest of numbers in any order.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use pulp::{Simd, WithSimd};

use super::network::{LANES, greater, lesser};
use super::widest::simd;

/// Vectors that take turns: each waits for what it was before.
const SIDES: usize = 4;

/// The ends of some numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether all numbers are finite; NaN is left out of the ends.
    pub(super) finite: bool,
}

impl Ends {
    #[inline(always)]
    pub(super) fn of(values: &[f64]) -> Self {
        let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let mut beyond = [0; LANES];
        let (rows, rest) = values.as_chunks::<LANES>();
        for row in rows {
            for side in 0..LANES {
                let value = row[side];
                // In this order, so that what is unknown is left out.
                low[side] = lesser(value, low[side]);
                high[side] = greater(value, high[side]);
                // Not 0 for what is not finite.
                beyond[side] |= (value.abs() * 0.0).to_bits();
            }
        }
        for (side, &value) in rest.iter().enumerate() {
            low[side] = lesser(value, low[side]);
            high[side] = greater(value, high[side]);
            beyond[side] |= (value.abs() * 0.0).to_bits();
        }
        Self {
            low: low.into_iter().fold(f64::INFINITY, lesser),
            high: high.into_iter().fold(f64::NEG_INFINITY, greater),
            finite: beyond.into_iter().fold(0, |all, some| all | some) == 0,
        }
    }

    /// The same, found in the widest instructions.
    pub(super) fn widest(values: &[f64]) -> Self {
        simd(OfAll(values))
    }

    /// The largest distance from 0.
    #[inline(always)]
    pub(super) fn reach(self) -> f64 {
        greater(-self.low, self.high)
    }
}

struct OfAll<'a>(&'a [f64]);

impl WithSimd for OfAll<'_> {
    type Output = Ends;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Ends {
        let (rows, rest) = S::as_simd_f64s(self.0);
        let zero = simd.splat_f64s(0.0);
        let mut low = [simd.splat_f64s(f64::INFINITY); SIDES];
        let mut high = [simd.splat_f64s(f64::NEG_INFINITY); SIDES];
        // Not 0 once there is a number that is not finite.
        let mut beyond = [zero; SIDES];
        let (whole, last) = rows.as_chunks::<SIDES>();
        for rows in whole.iter().map(|rows| &rows[..]).chain([last]) {
            for (side, &row) in rows.iter().enumerate() {
                low[side] = simd.select_f64s(simd.less_than_f64s(row, low[side]), row, low[side]);
                let over = simd.greater_than_f64s(row, high[side]);
                high[side] = simd.select_f64s(over, row, high[side]);
                beyond[side] = simd.add_f64s(beyond[side], simd.mul_f64s(row, zero));
            }
        }
        let low = low.map(|side| simd.reduce_min_f64s(side));
        let high = high.map(|side| simd.reduce_max_f64s(side));
        let beyond = beyond.map(|side| simd.reduce_sum_f64s(side));
        let rest = Self::Output::of(rest);
        Ends {
            low: low.into_iter().fold(rest.low, lesser),
            high: high.into_iter().fold(rest.high, greater),
            finite: beyond == [0.0; SIDES] && rest.finite,
        }
    }
}
