//! One group's rewards in ascending order: what every statistic is computed from.

use std::cell::Cell;

use super::group::Group;
use super::moments::Moments;
use super::radix::{Key, ascending, from_ascending, radix_sort};
use crate::error::Error;
use crate::groups::to_u32;
use crate::pool::{CHECK_EVERY, Cancel};

/// Up to this many, counting the smaller ones for each beats every sort; most groups are so small.
const COUNTED: usize = 32;
/// Members that are counted for at once.
const LANES: usize = 8;
/// Above this, a radix sort beats comparisons and stays linear.
const RADIX: usize = 2048;
/// Above this, scratch is given back before more is asked for.
const LARGE: usize = 1 << 20;

/// Sorted rewards of one group, with scratch that is kept from group to group.
#[derive(Debug, Default)]
pub struct Sorted<'a> {
    cancel: Option<&'a Cancel>,
    members: Vec<f64>,
    /// For each member, how many are below; anything for those without a score.
    below: Vec<u32>,
    /// For each class of equal rewards, at the number of those below, how many are in it.
    tied: Vec<u32>,
    values: Vec<f64>,
    places: Vec<u32>,
    keys: Vec<Key>,
    spare: Vec<Key>,
    moments: Cell<Option<Moments>>,
}

impl<'a> Sorted<'a> {
    /// Scratch for groups of any size, whose kernels end early once `cancel` asks for it.
    ///
    /// What they then leave is not to be used: whoever drives them looks at `cancel` last.
    #[must_use]
    pub fn until(cancel: &'a Cancel) -> Self {
        Self {
            cancel: Some(cancel),
            ..Self::default()
        }
    }

    /// Takes the rewards of the next group, leaving out NaN.
    ///
    /// # Errors
    /// [`Error::Infinite`] with the place in the group as its row, or [`Error::Interrupted`].
    #[inline]
    pub fn load(&mut self, rewards: &[f64]) -> Result<(), Error> {
        self.moments.set(None);
        // Without an early exit, so that several are looked at at once.
        let infinite = |bad, reward: &f64| bad | reward.is_infinite();
        if rewards.iter().fold(false, infinite)
            && let Some(row) = rewards.iter().position(|reward| reward.is_infinite())
        {
            let value = rewards[row];
            return Err(Error::Infinite { row, value });
        }
        self.arrange(rewards)
    }

    /// Members of the group, unscorable ones included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// The scorable rewards, ascending, with `-0.0` as `0.0`.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The place in the group of the `k`-th lowest reward; ties in row order.
    ///
    /// # Panics
    /// If fewer are scorable.
    #[must_use]
    pub fn place(&self, k: usize) -> usize {
        self.places[k] as usize
    }

    /// Blocks of the places of the members, ascending by reward, with the rewards.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (&[u32], &[f64])> {
        let blocks = self
            .places
            .chunks(CHECK_EVERY)
            .zip(self.values.chunks(CHECK_EVERY));
        blocks.take_while(|_| !self.stopped())
    }

    /// Classes of equal rewards, ascending: how many are below, and the places of the members.
    pub fn ties(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let mut below = 0;
        std::iter::from_fn(move || {
            let tied = *self.tied.get(below)? as usize;
            let before = below;
            below += tied;
            let looks = (before ^ below) >= CHECK_EVERY;
            (!looks || !self.stopped()).then(|| (before, &self.places[before..below]))
        })
    }

    /// The places of the members of each class, from the highest reward down.
    pub(crate) fn falling_ties(&self) -> impl Iterator<Item = &[u32]> {
        let mut end = self.places.len();
        std::iter::from_fn(move || {
            let last = *self.places[..end].last()?;
            let class = self.below[last as usize] as usize..end;
            end = class.start;
            let looks = (class.start ^ class.end) >= CHECK_EVERY;
            (!looks || !self.stopped()).then(|| &self.places[class])
        })
    }

    fn check(&self) -> Result<(), Error> {
        self.cancel.map_or(Ok(()), Cancel::check)
    }
}

impl Group for Sorted<'_> {
    fn stopped(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.check().is_err())
    }

    fn scored(&self) -> usize {
        self.values.len()
    }

    fn value(&self, k: usize) -> f64 {
        self.values[k]
    }

    fn best_two(&self) -> (f64, f64) {
        let n = self.values.len();
        (self.values[n - 1], self.values[n - 2])
    }

    fn below(&self, threshold: f64) -> usize {
        self.values.partition_point(|&value| value < threshold)
    }

    fn moments(&self) -> Moments {
        let moments = self
            .moments
            .get()
            .unwrap_or_else(|| Moments::new(&self.values));
        self.moments.set(Some(moments));
        moments
    }

    fn is_informative(&self) -> bool {
        self.values.first() < self.values.last()
    }

    fn by_value(&self, out: &mut [f64], of: impl Fn(f64) -> f64) {
        let blocks = out
            .chunks_mut(CHECK_EVERY)
            .zip(self.members.chunks(CHECK_EVERY));
        for (out, members) in blocks.take_while(|_| !self.stopped()) {
            for (out, &value) in out.iter_mut().zip(members) {
                if !value.is_nan() {
                    *out = of(value);
                }
            }
        }
    }

    fn by_standing(&self, out: &mut [f64], of: impl Fn(f64, f64) -> f64) {
        let members = self
            .members
            .chunks(CHECK_EVERY)
            .zip(self.below.chunks(CHECK_EVERY));
        let blocks = out.chunks_mut(CHECK_EVERY).zip(members);
        for (out, (members, below)) in blocks.take_while(|_| !self.stopped()) {
            for ((out, &value), &below) in out.iter_mut().zip(members).zip(below) {
                if !value.is_nan() {
                    *out = of(f64::from(below), f64::from(self.tied[below as usize]));
                }
            }
        }
    }
}

impl Sorted<'_> {
    /// Sorts the rewards, none of which is infinite.
    #[inline]
    fn arrange(&mut self, rewards: &[f64]) -> Result<(), Error> {
        if rewards.len() <= COUNTED {
            self.count(rewards);
            Ok(())
        } else {
            self.sort(rewards)
        }
    }

    /// Makes room for what is known of the members, of which so many are scorable.
    #[inline]
    fn resize(&mut self, rewards: &[f64], scored: usize) {
        self.members.clear();
        self.members
            .extend(rewards.iter().map(|reward| reward + 0.0));
        self.below.resize(rewards.len(), 0);
        self.tied.clear();
        self.tied.resize(scored, 0);
    }

    /// Sorts by counting for each member those that are below. Comparisons with NaN are false.
    fn count(&mut self, rewards: &[f64]) {
        let scored = rewards.iter().map(|r| usize::from(!r.is_nan())).sum();
        self.resize(rewards, scored);
        self.values.resize(scored, 0.0);
        self.places.resize(scored, 0);
        let mut members = [f64::NAN; COUNTED];
        members[..self.members.len()].copy_from_slice(&self.members);
        let (lanes, _) = members.as_chunks::<LANES>();
        for (below, own) in self.below.chunks_mut(LANES).zip(lanes) {
            let mut counts = [0_usize; LANES];
            for &other in &self.members {
                for (count, &value) in counts.iter_mut().zip(own) {
                    *count += usize::from(other < value);
                }
            }
            for (below, count) in below.iter_mut().zip(counts) {
                *below = to_u32(count);
            }
        }
        for (place, (&value, &below)) in (0..).zip(self.members.iter().zip(&self.below)) {
            if !value.is_nan() {
                let tied = &mut self.tied[below as usize];
                self.values[(below + *tied) as usize] = value;
                self.places[(below + *tied) as usize] = place;
                *tied += 1;
            }
        }
    }

    /// Sorts a larger group. Of a very large one no more is held at a time than needed.
    fn sort(&mut self, rewards: &[f64]) -> Result<(), Error> {
        self.keys.clear();
        self.keys.reserve(rewards.len());
        for (part, rewards) in rewards.chunks(CHECK_EVERY).enumerate() {
            self.check()?;
            let members = (part * CHECK_EVERY..).zip(rewards);
            let scored = members.filter(|(_, reward)| !reward.is_nan());
            self.keys
                .extend(scored.map(|(place, reward)| (ascending(reward + 0.0), to_u32(place))));
        }
        if self.keys.len() <= RADIX {
            self.keys.sort_unstable();
        } else {
            radix_sort(&mut self.keys, &mut self.spare, |key| key.0, self.cancel)?;
            give_back(&mut self.spare);
        }
        self.values.clear();
        self.values.reserve(self.keys.len());
        self.places.clear();
        self.places.reserve(self.keys.len());
        for block in self.keys.chunks(CHECK_EVERY) {
            self.check()?;
            self.values
                .extend(block.iter().map(|&(word, _)| from_ascending(word)));
            self.places.extend(block.iter().map(|&(_, place)| place));
        }
        give_back(&mut self.keys);
        self.resize(rewards, self.values.len());
        self.check()?;
        self.stand()
    }

    /// Notes the classes of equal rewards, which are sorted.
    fn stand(&mut self) -> Result<(), Error> {
        let mut start = 0;
        for class in self.values.chunk_by(|a, b| a == b) {
            let end = start + class.len();
            if (start ^ end) >= CHECK_EVERY {
                self.check()?;
            }
            self.tied[start] = to_u32(class.len());
            for &place in &self.places[start..end] {
                self.below[place as usize] = to_u32(start);
            }
            start = end;
        }
        Ok(())
    }
}

/// Frees the scratch of a very large group, before more is asked for.
fn give_back<T>(scratch: &mut Vec<T>) {
    if scratch.len() > LARGE {
        *scratch = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_come_out_as_sort_by_total_cmp_gives_them(
            rewards in prop::collection::vec(-1e3_f64..1e3, 0..5000),
            coarse in any::<bool>(),
        ) {
            let rewards: Vec<f64> =
                rewards.into_iter().map(|r| if coarse { r.round() + 0.0 } else { r }).collect();
            let mut sorted = Sorted::default();
            sorted.load(&rewards).unwrap();
            let mut expected: Vec<(f64, usize)> =
                rewards.iter().copied().enumerate().map(|(i, r)| (r, i)).collect();
            expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let found: Vec<(f64, usize)> =
                sorted.values().iter().enumerate().map(|(k, &r)| (r, sorted.place(k))).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn zero_and_minus_zero_tie_and_nan_is_left_out() {
        let mut sorted = Sorted::default();
        sorted.load(&[0.0, f64::NAN, -0.0]).unwrap();
        assert_eq!((sorted.size(), sorted.values().len()), (3, 2));
        assert!(!sorted.is_informative());
        assert_eq!(sorted.ties().count(), 1);
    }

    #[test]
    fn subnormals_and_extremes_keep_their_order() {
        let rewards = [f64::MAX, -f64::MAX, 5e-324, -5e-324, 0.0];
        let mut sorted = Sorted::default();
        sorted.load(&rewards).unwrap();
        assert_eq!(sorted.values(), [-f64::MAX, -5e-324, 0.0, 5e-324, f64::MAX]);
    }
}
