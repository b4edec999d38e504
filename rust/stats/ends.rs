//! The least and the highest of numbers in any order.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use super::network::{LANES, greater, lesser};
use super::widest::{Loops, widest};

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
            for (side, &value) in row.iter().enumerate() {
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
        widest(OfAll(values))
    }

    /// The largest distance from 0.
    #[inline(always)]
    pub(super) fn reach(self) -> f64 {
        greater(-self.low, self.high)
    }
}

struct OfAll<'a>(&'a [f64]);

impl Loops for OfAll<'_> {
    type Output = Ends;

    #[inline(always)]
    fn call(self) -> Ends {
        Ends::of(self.0)
    }
}
