//! One group's rewards in ascending order: what every statistic is computed from.

use std::cell::Cell;

use crate::error::Error;
use crate::moments::Moments;
use crate::pool::Cancel;

/// Below this, insertion beats every other sort; groups are mostly this small.
const INSERTION: usize = 24;
/// Above this, a radix sort beats comparisons and stays linear.
const RADIX: usize = 2048;
/// Members of a large group between two looks at whether to stop; a power of two.
pub(crate) const STRETCH: usize = 1 << 16;
/// Above this, scratch is given back before more is asked for.
const LARGE: usize = 1 << 20;

/// A reward as a word that orders like it, and its place in the group.
type Key = (u64, u32);

/// Sorted rewards of one group, with scratch that is kept from group to group.
#[derive(Debug, Default)]
pub struct Sorted<'a> {
    cancel: Option<&'a Cancel>,
    keys: Vec<Key>,
    spare: Vec<Key>,
    values: Vec<f64>,
    size: usize,
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

    /// Whether to stop.
    pub(crate) fn stopped(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.check().is_err())
    }

    /// Takes the rewards of the next group, leaving out NaN.
    ///
    /// # Errors
    /// [`Error::Infinite`] with the place in the group as its row, or [`Error::Interrupted`].
    pub fn load(&mut self, rewards: &[f64]) -> Result<(), Error> {
        self.keys.clear();
        self.moments.set(None);
        self.size = rewards.len();
        for (part, rewards) in rewards.chunks(STRETCH).enumerate() {
            self.cancel.map_or(Ok(()), Cancel::check)?;
            self.take(part * STRETCH, rewards)?;
        }
        sort(&mut self.keys, &mut self.spare, self.cancel)?;
        if self.spare.len() > LARGE {
            self.spare = Vec::new();
        }
        self.values.clear();
        for stretch in self.keys.chunks(STRETCH) {
            self.cancel.map_or(Ok(()), Cancel::check)?;
            self.values
                .extend(stretch.iter().map(|&(word, _)| from_ascending(word)));
        }
        Ok(())
    }

    fn take(&mut self, from: usize, rewards: &[f64]) -> Result<(), Error> {
        for (place, &reward) in (from..).zip(rewards) {
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
    ///
    /// # Panics
    /// If fewer are scorable.
    #[must_use]
    pub fn place(&self, k: usize) -> usize {
        self.keys[k].1 as usize
    }

    /// Stretches of ascending rewards with the places of the members.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = (&[Key], &[f64])> {
        let stretches = self.keys.chunks(STRETCH).zip(self.values.chunks(STRETCH));
        stretches.take_while(|_| !self.stopped())
    }

    /// Whether the group says anything: two scorable members that differ.
    #[must_use]
    pub fn is_informative(&self) -> bool {
        self.values.first() < self.values.last()
    }

    /// Classes of equal rewards, ascending: how many are below, and the places of the members.
    pub fn ties(&self) -> impl Iterator<Item = (usize, &[Key])> {
        let mut below = 0;
        self.keys.chunk_by(same).map_while(move |tied| {
            let before = below;
            below += tied.len();
            let looks = (before ^ below) >= STRETCH;
            (!looks || !self.stopped()).then_some((before, tied))
        })
    }

    /// The places of the members of each class, from the highest reward down.
    pub(crate) fn falling_ties(&self) -> impl Iterator<Item = &[Key]> {
        let mut seen = 0;
        self.keys.chunk_by(same).rev().map_while(move |tied| {
            let before = seen;
            seen += tied.len();
            let looks = (before ^ seen) >= STRETCH;
            (!looks || !self.stopped()).then_some(tied)
        })
    }
}

/// All values but NaN, ascending.
pub(crate) fn values(values: &[f64], cancel: &Cancel) -> Result<Vec<f64>, Error> {
    let mut words = Vec::new();
    for stretch in values.chunks(STRETCH) {
        cancel.check()?;
        let scored = stretch.iter().filter(|value| !value.is_nan());
        words.extend(scored.map(|&value| ascending(value)));
    }
    radix_sort(&mut words, &mut Vec::new(), |&word| word, Some(cancel))?;
    Ok(words.into_iter().map(from_ascending).collect())
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

fn same(a: &Key, b: &Key) -> bool {
    a.0 == b.0
}

fn sort(keys: &mut Vec<Key>, spare: &mut Vec<Key>, cancel: Option<&Cancel>) -> Result<(), Error> {
    match keys.len() {
        0..=INSERTION => insertion_sort(keys),
        n if n <= RADIX => keys.sort_unstable(),
        _ => radix_sort(keys, spare, |key| key.0, cancel)?,
    }
    Ok(())
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
fn radix_sort<K: Copy + Default>(
    keys: &mut Vec<K>,
    spare: &mut Vec<K>,
    word: impl Fn(&K) -> u64,
    cancel: Option<&Cancel>,
) -> Result<(), Error> {
    let check = || cancel.map_or(Ok(()), Cancel::check);
    let counts = count_bytes(keys, &word, cancel)?;
    spare.clear();
    spare.reserve_exact(keys.len());
    while spare.len() < keys.len() {
        // New pages take their time.
        check()?;
        spare.resize(keys.len().min(spare.len() + STRETCH), K::default());
    }
    for (byte, count) in counts.iter().enumerate() {
        if count.contains(&keys.len()) {
            continue;
        }
        let mut next = 0;
        let mut cursor = count.map(|n| {
            next += n;
            next - n
        });
        for stretch in keys.chunks(STRETCH) {
            check()?;
            for key in stretch {
                let at = &mut cursor[word(key).to_le_bytes()[byte] as usize];
                spare[*at] = *key;
                *at += 1;
            }
        }
        std::mem::swap(keys, spare);
    }
    Ok(())
}

/// How often each byte occurs at each of the eight places of the words.
fn count_bytes<K>(
    keys: &[K],
    word: impl Fn(&K) -> u64,
    cancel: Option<&Cancel>,
) -> Result<[[usize; 256]; 8], Error> {
    let mut counts = [[0; 256]; 8];
    for stretch in keys.chunks(STRETCH) {
        cancel.map_or(Ok(()), Cancel::check)?;
        for key in stretch {
            for (count, byte) in counts.iter_mut().zip(word(key).to_le_bytes()) {
                count[byte as usize] += 1;
            }
        }
    }
    Ok(counts)
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
