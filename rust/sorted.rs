//! One group's rewards in ascending order: what every statistic is computed from.

use std::cell::Cell;

use crate::error::Error;
use crate::moments::Moments;

/// Below this, insertion beats every other sort; groups are mostly this small.
const INSERTION: usize = 24;
/// Above this, a radix sort beats comparisons and stays linear.
const RADIX: usize = 2048;

/// A reward as a word that orders like it, and its place in the group.
type Key = (u64, u32);

/// Sorted rewards of one group, with scratch that is kept from group to group.
#[derive(Debug, Default)]
pub struct Sorted {
    keys: Vec<Key>,
    spare: Vec<Key>,
    values: Vec<f64>,
    size: usize,
    moments: Cell<Option<Moments>>,
}

impl Sorted {
    /// Takes the rewards of the next group, leaving out NaN.
    ///
    /// # Errors
    /// [`Error::Infinite`] with the place in the group as its row.
    pub fn load(&mut self, rewards: &[f64]) -> Result<(), Error> {
        self.keys.clear();
        self.moments.set(None);
        self.size = rewards.len();
        for (place, &reward) in rewards.iter().enumerate() {
            if reward.is_infinite() {
                return Err(Error::Infinite {
                    row: place,
                    value: reward,
                });
            }
            if !reward.is_nan() {
                self.keys
                    .push((ascending(reward), u32::try_from(place).unwrap_or(u32::MAX)));
            }
        }
        sort(&mut self.keys, &mut self.spare);
        self.values.clear();
        self.values
            .extend(self.keys.iter().map(|&(word, _)| from_ascending(word)));
        Ok(())
    }

    /// Members of the group, unscorable ones included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
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
        self.keys.iter().map(|&(_, place)| place as usize)
    }

    /// Whether the group says anything: two scorable members that differ.
    #[must_use]
    pub fn is_informative(&self) -> bool {
        self.values.first() < self.values.last()
    }

    /// Classes of equal rewards, ascending: how many are below, and the places of the members.
    pub fn ties(&self) -> impl Iterator<Item = (usize, &[Key])> {
        let mut below = 0;
        self.keys.chunk_by(|a, b| a.0 == b.0).map(move |tied| {
            let before = below;
            below += tied.len();
            (before, tied)
        })
    }
}

/// Maps a number to a word of the same order; `-0.0` and `0.0` to the same word.
fn ascending(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    let flip = if bits >> 63 == 1 { u64::MAX } else { 1 << 63 };
    bits ^ flip
}

fn from_ascending(word: u64) -> f64 {
    let flip = if word >> 63 == 1 { 1 << 63 } else { u64::MAX };
    f64::from_bits(word ^ flip)
}

fn sort(keys: &mut Vec<Key>, spare: &mut Vec<Key>) {
    match keys.len() {
        0..=INSERTION => insertion_sort(keys),
        n if n <= RADIX => keys.sort_unstable(),
        _ => radix_sort(keys, spare),
    }
}

fn insertion_sort(keys: &mut [Key]) {
    for i in 1..keys.len() {
        let key = keys[i];
        let mut hole = i;
        while hole > 0 && keys[hole - 1].0 > key.0 {
            keys[hole] = keys[hole - 1];
            hole -= 1;
        }
        keys[hole] = key;
    }
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
