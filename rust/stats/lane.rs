//! One of several groups that lie side by side, as an estimator asks for it.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processors"
)]

use super::group::Group;
use super::lanes::Lanes;
use super::moments::Moments;
use super::network::LANES;
use super::widest::{Loops, widest};

/// One of the groups.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    lanes: &'a Lanes,
    at: usize,
    rewards: &'a [f64],
}

impl<'a> Lane<'a> {
    /// Group `at`, of these rewards, of which what was needed is known.
    pub(crate) fn of(lanes: &'a Lanes, at: usize, rewards: &'a [f64]) -> Self {
        Self { lanes, at, rewards }
    }
}

impl Group for Lane<'_> {
    #[inline]
    fn scored(&self) -> usize {
        self.lanes.sizes[self.at]
    }

    #[inline]
    fn is_informative(&self) -> bool {
        self.lanes.low[self.at] < self.lanes.high[self.at]
    }

    #[inline]
    fn value(&self, k: usize) -> f64 {
        self.lanes.rising[k][self.at]
    }

    #[inline]
    fn best_two(&self) -> (f64, f64) {
        (self.lanes.high[self.at], self.lanes.second[self.at])
    }

    fn below(&self, threshold: f64) -> usize {
        widest(Below(self.rewards, threshold))
    }

    #[inline]
    fn moments(&self) -> Moments {
        let (mean, norm) = (self.lanes.mean[self.at], self.lanes.norm[self.at]);
        Moments::of(mean, norm, self.scored())
    }

    fn by_value(&self, out: &mut [f64], of: impl Fn(f64) -> f64) {
        let rewards = self.rewards;
        if rewards.len() < LANES {
            ByValue { rewards, out, of }.call();
        } else {
            widest(ByValue { rewards, out, of });
        }
    }

    fn by_standing(&self, out: &mut [f64], of: impl Fn(f64, f64) -> f64) {
        // Those that are not there count as above.
        let size = self.lanes.members.len() as f64;
        let standings = self.lanes.below.iter().zip(&self.lanes.above);
        for (out, (below, above)) in out.iter_mut().zip(standings) {
            let (below, above) = (below[self.at], above[self.at]);
            *out = of(below, size - below - above);
        }
    }
}

struct Below<'a>(&'a [f64], f64);

impl Loops for Below<'_> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        self.0.iter().filter(|&&reward| reward < self.1).count()
    }
}

struct ByValue<'a, F> {
    rewards: &'a [f64],
    out: &'a mut [f64],
    of: F,
}

impl<F: Fn(f64) -> f64> Loops for ByValue<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (out, reward) in self.out.iter_mut().zip(self.rewards) {
            *out = (self.of)(reward + 0.0);
        }
    }
}
