//! Several lists of one length, sorted side by side by exchanges that do not depend on the numbers.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use std::ops::{Deref, DerefMut};

/// How many lists.
pub(crate) const LANES: usize = 8;

/// One number of each list. What lies across two lines of the cache takes twice as long.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub(super) struct Row(pub(super) [f64; LANES]);

impl Deref for Row {
    type Target = [f64; LANES];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Row {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Sorts every lane: the merge exchange of K. E. Batcher (D. E. Knuth, The Art of Computer
/// Programming 3, algorithm 5.2.2M).
#[inline(always)]
pub(super) fn sort(rows: &mut [Row]) {
    // For no rows, `next_power_of_two` is 1.
    let top = rows.len().next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            // All places with the bits of `r` among those of `p`: stretches of `p`.
            let end = rows.len() - d;
            let mut start = r;
            while start < end {
                let (lower, upper) = rows.split_at_mut(start + d);
                for (mine, other) in lower[start..end.min(start + p)].iter_mut().zip(upper) {
                    exchange(mine, other);
                }
                start += 2 * p;
            }
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
}

#[inline(always)]
fn exchange(mine: &mut Row, other: &mut Row) {
    for lane in 0..LANES {
        // No number changes by the sum, but else only what is less is written to `mine`, and a
        // store that depends on a comparison takes longer than all of this.
        let (a, b) = (mine[lane] + 0.0, other[lane]);
        mine[lane] = lesser(a, b);
        other[lane] = greater(a, b);
    }
}

/// One instruction, which `f64::min` with its rule for NaN is not.
#[inline(always)]
pub(super) fn lesser(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[inline(always)]
pub(super) fn greater(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_of_any_length_rises() {
        for n in 0..70_usize {
            let number = |k: usize, lane: usize| ((k * 7919 + lane * 104_729) % 31) as f64;
            let mut rows: Vec<Row> = (0..n)
                .map(|k| Row(std::array::from_fn(|lane| number(k, lane))))
                .collect();
            sort(&mut rows);
            for lane in 0..LANES {
                let mut expected: Vec<f64> = (0..n).map(|k| number(k, lane)).collect();
                expected.sort_by(f64::total_cmp);
                let found: Vec<f64> = rows.iter().map(|row| row[lane]).collect();
                assert_eq!(found, expected);
            }
        }
    }
}
