//! One group's rewards in ascending order: what every statistic is computed from.

use std::cell::Cell;

use crate::error::Error;
use crate::moments::Moments;

/// Up to this many, counting the smaller ones for each beats every sort; most groups are so small.
const COUNTED: usize = 32;
/// Members that are counted for at once.
const LANES: usize = 8;
/// Above this, a radix sort beats comparisons and stays linear.
const RADIX: usize = 2048;

/// A reward as a word that orders like it, and its place in the group.
type Key = (u64, u32);

/// Sorted rewards of one group, with scratch that is kept from group to group.
#[derive(Debug, Default)]
pub struct Sorted {
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

impl Sorted {
    /// Takes the rewards of the next group, leaving out NaN.
    ///
    /// # Errors
    /// [`Error::Infinite`] with the place in the group as its row.
    pub fn load(&mut self, rewards: &[f64]) -> Result<(), Error> {
        self.moments.set(None);
        self.members.clear();
        self.members
            .extend(rewards.iter().map(|reward| reward + 0.0));
        // Without an early exit, so that several are looked at at once.
        let infinite = |bad, reward: &f64| bad | reward.is_infinite();
        if rewards.iter().fold(false, infinite)
            && let Some(row) = rewards.iter().position(|reward| reward.is_infinite())
        {
            let value = rewards[row];
            return Err(Error::Infinite { row, value });
        }
        let scored = rewards.iter().map(|r| usize::from(!r.is_nan())).sum();
        self.below.resize(rewards.len(), 0);
        self.tied.clear();
        self.tied.resize(scored, 0);
        self.values.resize(scored, 0.0);
        self.places.resize(scored, 0);
        if rewards.len() <= COUNTED {
            self.count();
        } else {
            self.sort();
        }
        Ok(())
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

    /// Mean and spread, computed when first asked for.
    pub fn moments(&self) -> Moments {
        let moments = self
            .moments
            .get()
            .unwrap_or_else(|| Moments::new(&self.values));
        self.moments.set(Some(moments));
        moments
    }

    /// The place in the group of the `k`-th lowest reward; ties in row order.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.places.iter().map(|&place| place as usize)
    }

    /// Whether the group says anything: two scorable members that differ.
    #[must_use]
    pub fn is_informative(&self) -> bool {
        self.values.first() < self.values.last()
    }

    /// Classes of equal rewards, ascending: how many are below, and the places of the members.
    pub fn ties(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let mut below = 0;
        std::iter::from_fn(move || {
            let tied = *self.tied.get(below)? as usize;
            below += tied;
            Some((below - tied, &self.places[below - tied..below]))
        })
    }

    /// Writes what `of` makes of each scorable reward.
    pub fn by_value(&self, out: &mut [f64], of: impl Fn(f64) -> f64) {
        for (out, &value) in out.iter_mut().zip(&self.members) {
            if !value.is_nan() {
                *out = of(value);
            }
        }
    }

    /// Writes what `of` makes of each scorable reward's standing: how many are below, and how many
    /// are equal, itself included.
    pub fn by_standing(&self, out: &mut [f64], of: impl Fn(u32, u32) -> f64) {
        for ((out, &value), &below) in out.iter_mut().zip(&self.members).zip(&self.below) {
            if !value.is_nan() {
                *out = of(below, self.tied[below as usize]);
            }
        }
    }

    /// Sorts by counting for each member those that are below. Comparisons with NaN are false.
    fn count(&mut self) {
        let mut members = [f64::NAN; COUNTED];
        members[..self.members.len()].copy_from_slice(&self.members);
        let (lanes, _) = members.as_chunks::<LANES>();
        for (below, own) in self.below.chunks_mut(LANES).zip(lanes) {
            let mut counts = [0_u64; LANES];
            for &other in &self.members {
                for (count, &value) in counts.iter_mut().zip(own) {
                    *count += u64::from(other < value);
                }
            }
            for (below, count) in below.iter_mut().zip(counts) {
                *below = narrow(count);
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

    fn sort(&mut self) {
        let scored = (0..)
            .zip(&self.members)
            .filter(|(_, value)| !value.is_nan());
        self.keys.clear();
        self.keys
            .extend(scored.map(|(place, &value)| (ascending(value), place)));
        if self.keys.len() <= RADIX {
            self.keys.sort_unstable();
        } else {
            radix_sort(&mut self.keys, &mut self.spare);
        }
        let sorted = self.values.iter_mut().zip(&mut self.places);
        for (&(word, place), (value, kept)) in self.keys.iter().zip(sorted) {
            (*value, *kept) = (from_ascending(word), place);
        }
        let mut start = 0;
        for class in self.keys.chunk_by(|a, b| a.0 == b.0) {
            self.tied[start] = narrow(class.len() as u64);
            for &(_, place) in class {
                self.below[place as usize] = narrow(start as u64);
            }
            start += class.len();
        }
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).expect("row counts are checked to fit 32 bits")
}

/// Maps a number to a word of the same order.
fn ascending(value: f64) -> u64 {
    let bits = value.to_bits();
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    bits ^ flip
}

fn from_ascending(word: u64) -> f64 {
    let flip = if word >> 63 == 1 { 1 << 63 } else { u64::MAX };
    f64::from_bits(word ^ flip)
}

/// Byte by byte from the lowest; bytes that all keys share cost only the count.
fn radix_sort(keys: &mut Vec<Key>, spare: &mut Vec<Key>) {
    let mut counts = [[0_usize; 256]; 8];
    for &(word, _) in keys.iter() {
        for (count, byte) in counts.iter_mut().zip(word.to_le_bytes()) {
            count[byte as usize] += 1;
        }
    }
    spare.clear();
    spare.resize(keys.len(), (0, 0));
    for (byte, count) in counts.iter().enumerate() {
        if count.contains(&keys.len()) {
            continue;
        }
        let mut next = 0;
        let mut cursor = count.map(|n| {
            next += n;
            next - n
        });
        for &key in keys.iter() {
            let at = &mut cursor[key.0.to_le_bytes()[byte] as usize];
            spare[*at] = key;
            *at += 1;
        }
        std::mem::swap(keys, spare);
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
                sorted.values().iter().copied().zip(sorted.places()).collect();
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
