//! A group of two: all that is asked of it is told without sorting or adding up.

#![expect(
    clippy::inline_always,
    reason = "a call would take as long as what it does"
)]

use super::group::Group;
use super::moments::{self, LARGE, Moments, SMALL};
use super::network::{greater, lesser};

/// Two scorable rewards, neither extreme.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Two {
    members: [f64; 2],
    low: f64,
    high: f64,
}

impl Two {
    /// None if that is not for here: rewards that are unscorable, infinite or extreme.
    #[inline(always)]
    pub(crate) fn of(rewards: &[f64]) -> Option<Self> {
        let &[a, b] = rewards else { return None };
        let (a, b) = (a + 0.0, b + 0.0);
        let (low, high, sum) = (lesser(a, b), greater(a, b), (a + b).abs());
        // NaN compares as false.
        let near = a.abs() < LARGE && b.abs() < LARGE;
        let plain = near && (a == b || high - low > SMALL) && (sum == 0.0 || sum > SMALL);
        plain.then_some(Self {
            members: [a, b],
            low,
            high,
        })
    }
}

impl Group for Two {
    #[inline(always)]
    fn scored(&self) -> usize {
        2
    }

    #[inline(always)]
    fn is_informative(&self) -> bool {
        self.low < self.high
    }

    #[inline(always)]
    fn value(&self, k: usize) -> f64 {
        if k == 0 { self.low } else { self.high }
    }

    #[inline(always)]
    fn best_two(&self) -> (f64, f64) {
        (self.high, self.low)
    }

    #[inline(always)]
    fn below(&self, threshold: f64) -> usize {
        usize::from(self.low < threshold) + usize::from(self.high < threshold)
    }

    /// The sum is rounded once, and halving rounds nothing. Both are as far from the mean, but for
    /// its rounding: no digit of their squares is below those that [`steady`] keeps.
    ///
    /// [`steady`]: super::steady
    #[inline(always)]
    fn moments(&self) -> Moments {
        let [a, b] = self.members;
        let mean = (a + b) * 0.5;
        let (a, b) = (a - mean, b - mean);
        let shows = moments::residue_shows(2.0, mean, (self.low, self.high));
        let residue = if shows { a + b } else { 0.0 };
        let norm = moments::root(a * a + b * b, residue, 2.0);
        Moments::of(mean, norm, 2)
    }

    #[inline(always)]
    fn by_value(&self, out: &mut [f64], of: impl Fn(f64) -> f64) {
        for (out, reward) in out.iter_mut().zip(self.members) {
            *out = of(reward);
        }
    }

    #[inline(always)]
    fn by_standing(&self, out: &mut [f64], of: impl Fn(f64, f64) -> f64) {
        let tied = if self.low == self.high { 2.0 } else { 1.0 };
        for (out, reward) in out.iter_mut().zip(self.members) {
            let below = if reward > self.low { 1.0 } else { 0.0 };
            *out = of(below, tied);
        }
    }
}
