//! Numbers that come again and again, each kept once.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Different numbers, or what else can be compared, in the order of their first appearance.
#[derive(Debug)]
pub(super) struct Dictionary<T = u64> {
    hasher: RandomState,
    places: HashTable<(T, u32)>,
    values: Vec<T>,
}

impl<T> Default for Dictionary<T> {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            places: HashTable::new(),
            values: Vec::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Dictionary<T> {
    /// The place of `value`, which is new at the end if it was never met.
    #[inline]
    pub(super) fn place(&mut self, value: T) -> u32 {
        let Self {
            hasher,
            places,
            values,
        } = self;
        let hash = hasher.hash_one(value);
        let same = |known: &(T, u32)| known.0 == value;
        match places.entry(hash, same, |known| hasher.hash_one(known.0)) {
            Entry::Occupied(known) => known.get().1,
            Entry::Vacant(free) => {
                let place = u32::try_from(values.len()).expect("fewer than 2^32 numbers");
                values.push(value);
                free.insert((value, place));
                place
            }
        }
    }

    /// The place of `value` among `most`; `None` once there are so many, whatever the value.
    #[inline]
    pub(super) fn place_among(&mut self, value: T, most: usize) -> Option<u32> {
        (self.values.len() < most).then(|| self.place(value))
    }

    /// The numbers by their places.
    pub(super) fn values(&self) -> &[T] {
        &self.values
    }

    /// The numbers alone.
    pub(super) fn into_values(self) -> Vec<T> {
        self.values
    }
}

/// One number for each group, group after group.
#[derive(Debug)]
pub(super) enum ByGroup {
    Each(Vec<u64>),
    /// By their places among the different ones, of which there are few.
    Few {
        numbers: Vec<u64>,
        places: Vec<u16>,
    },
}

impl Default for ByGroup {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

impl ByGroup {
    /// Takes in the numbers of the next groups.
    ///
    /// # Panics
    /// After [`Self::settle`].
    pub(super) fn extend(&mut self, values: impl Iterator<Item = u64>) {
        match self {
            Self::Each(known) => known.extend(values),
            Self::Few { .. } => unreachable!("all numbers come before they are settled"),
        }
    }

    /// Keeps each different number once if they are few.
    pub(super) fn settle(&mut self) {
        let Self::Each(values) = self else { return };
        let mut numbers = Dictionary::default();
        let places = values
            .iter()
            .map(|&value| u16::try_from(numbers.place(value)));
        if let Ok(places) = places.collect() {
            let numbers = numbers.into_values();
            *self = Self::Few { numbers, places };
        }
    }

    /// The number of `group`.
    pub(super) fn get(&self, group: u32) -> u64 {
        match self {
            Self::Each(values) => values[group as usize],
            Self::Few { numbers, places } => numbers[usize::from(places[group as usize])],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_gets_its_own_number_back_however_many_different_ones_there_are() {
        for different in [1, 3, 1 << 16, (1 << 16) + 1, 100_000] {
            let mut numbers = ByGroup::default();
            let number = |group: u32| u64::from(group % different) << 40;
            numbers.extend((0..70_000).map(number));
            numbers.extend((70_000..150_000).map(number));
            for _ in 0..2 {
                assert!((0..150_000).all(|group| numbers.get(group) == number(group)));
                numbers.settle();
            }
            assert_eq!(matches!(numbers, ByGroup::Few { .. }), different <= 1 << 16);
        }
    }
}
