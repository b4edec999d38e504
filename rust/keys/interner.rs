//! Keys as small numbers: equal keys have equal codes, exactly.

use std::hash::BuildHasher;
use std::hint::black_box;

use foldhash::fast::RandomState;
use rayon::prelude::*;

use super::rows::Keys;

/// Keys whose cache misses overlap. One lookup is two misses, the second waiting for the first.
const BLOCK: usize = 64;
/// Rows that one thread looks up at a time.
const TASK: usize = 1 << 13;
/// Above every code.
const UNKNOWN: u32 = u32::MAX;
/// Records begin at multiples of that many bytes, so that 32 bits tell where.
const ALIGNED: usize = 8;

/// Where the search for a key begins.
#[derive(Debug, Clone, Copy, Default)]
struct Probe {
    hash: u32,
    at: usize,
}

/// Numbers keys by first appearance. Takes the bytes of each key and 23 to 41 more.
#[derive(Debug)]
pub(crate) struct Interner {
    hasher: RandomState,
    /// Open addressing, at most three quarters full: 32 bits of the hash above the place of the
    /// record + 1; 0 is free.
    slots: Vec<u64>,
    /// The code, the length and the bytes of each key side by side: one miss brings them all.
    records: Vec<u8>,
    /// The places of the records by code.
    places: Vec<u32>,
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            slots: vec![0; 4 * BLOCK],
            records: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl Interner {
    /// The code of the key of each row of `keys`; `None` past 31 bits of codes.
    ///
    /// Keys that were met in an earlier batch, most of them, are looked up on all cores; the others
    /// are numbered afterwards, one after the other.
    pub(crate) fn codes(&mut self, keys: &Keys, rows: usize) -> Option<Vec<u32>> {
        let mut codes = vec![UNKNOWN; rows];
        let tasks = codes.par_chunks_mut(TASK).enumerate();
        tasks.for_each(|(task, codes)| self.look_up(keys, task * TASK, codes));
        let unknown = codes
            .iter()
            .enumerate()
            .filter(|&(_, &code)| code == UNKNOWN);
        let unknown: Vec<usize> = unknown.map(|(row, _)| row).collect();
        let (mut scratch, mut probes) = (Vec::new(), [Probe::default(); BLOCK]);
        for block in unknown.chunks(BLOCK) {
            self.reserve();
            self.fetch(keys, block.iter().copied(), &mut probes, &mut scratch);
            for (&row, &probe) in block.iter().zip(&probes) {
                codes[row] = if row > 0 && keys.same(row - 1, row) {
                    codes[row - 1]
                } else {
                    self.find_or_add(keys.bytes(row, &mut scratch), probe)?
                };
            }
        }
        Some(codes)
    }

    /// Writes the codes of the keys from row `first` on that are known.
    fn look_up(&self, keys: &Keys, first: usize, codes: &mut [u32]) {
        let (mut scratch, mut probes) = (Vec::new(), [Probe::default(); BLOCK]);
        let (mut code, mut before) = (None, 0);
        for (block, codes) in codes.chunks_mut(BLOCK).enumerate() {
            let start = first + block * BLOCK;
            let rows = start..start + codes.len();
            self.fetch(keys, rows.clone(), &mut probes, &mut scratch);
            for ((row, &probe), found) in rows.zip(&probes).zip(codes) {
                if row == first || probe.hash != before || !keys.same(row - 1, row) {
                    code = self.find(keys.bytes(row, &mut scratch), probe).ok();
                    before = probe.hash;
                }
                *found = code.unwrap_or(UNKNOWN);
            }
        }
    }

    /// The code of `key`; a new one if the key was never met. `None` past 31 bits of codes.
    pub(crate) fn code(&mut self, key: &[u8]) -> Option<u32> {
        self.reserve();
        self.find_or_add(key, self.probe(high(self.hasher.hash_one(key))))
    }

    /// Hashes the keys of at most a block of rows, and brings into the cache what looking for them
    /// needs.
    fn fetch(
        &self,
        keys: &Keys,
        rows: impl Iterator<Item = usize>,
        probes: &mut [Probe; BLOCK],
        scratch: &mut Vec<u8>,
    ) {
        for (row, probe) in rows.zip(probes.iter_mut()) {
            probe.hash = high(self.hasher.hash_one(keys.bytes(row, scratch)));
        }
        for probe in probes.iter_mut() {
            *probe = self.probe(probe.hash);
        }
        let starts = probes.iter().map(|probe| self.slots[probe.at]);
        let starts = starts.map(|slot| at(low(slot).saturating_sub(1)));
        let touched = starts.filter_map(|start| self.records.get(start));
        black_box(touched.fold(0, |all, byte| all ^ byte));
    }

    /// The first slot that a key with `hash` may have, found without a look at any key.
    #[inline]
    fn probe(&self, hash: u32) -> Probe {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 && high(self.slots[at]) != hash {
            at = (at + 1) & mask;
        }
        Probe { hash, at }
    }

    /// The code of `key`, or the free slot that it would have.
    fn find(&self, key: &[u8], Probe { hash, mut at }: Probe) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return Err(at);
            }
            if high(slot) == hash {
                let (code, known) = self.record(low(slot) - 1);
                if known == key {
                    return Ok(code);
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn find_or_add(&mut self, key: &[u8], probe: Probe) -> Option<u32> {
        let free = match self.find(key, probe) {
            Ok(code) => return Some(code),
            Err(free) => free,
        };
        let code = u32::try_from(self.len())
            .ok()
            .filter(|&code| code < UNKNOWN / 2)?;
        let len = u32::try_from(key.len()).ok()?;
        let place = u32::try_from(self.records.len() / ALIGNED).ok()?;
        self.slots[free] = u64::from(probe.hash) << 32 | u64::from(place.checked_add(1)?);
        self.places.push(place);
        self.records.extend_from_slice(&code.to_le_bytes());
        self.records.extend_from_slice(&len.to_le_bytes());
        self.records.extend_from_slice(key);
        let end = self.records.len().next_multiple_of(ALIGNED);
        self.records.resize(end, 0);
        Some(code)
    }

    /// The code and the key of the record at `place`.
    #[inline]
    fn record(&self, place: u32) -> (u32, &[u8]) {
        let (head, rest) = self.records[at(place)..].split_at(8);
        let word = u64::from_le_bytes(head.try_into().expect("8 bytes"));
        (low(word), &rest[..high(word) as usize])
    }

    /// Makes room for one block of new keys.
    fn reserve(&mut self) {
        if 4 * (self.len() + BLOCK) <= 3 * self.slots.len() {
            return;
        }
        let mut slots = vec![0; 2 * self.slots.len()];
        let mask = slots.len() - 1;
        for &slot in self.slots.iter().filter(|&&slot| slot != 0) {
            let mut at = high(slot) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = slot;
        }
        self.slots = slots;
    }

    /// The key that has `code`.
    pub(crate) fn key(&self, code: u32) -> &[u8] {
        self.record(self.places[code as usize]).1
    }

    /// The keys after the first `known`, by code.
    pub(crate) fn keys_after(&self, known: usize) -> impl Iterator<Item = &[u8]> {
        let places = self.places[known..].iter();
        places.map(|&place| self.record(place).1)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of memory taken.
    pub(crate) fn memory(&self) -> usize {
        self.records.len() + 4 * self.places.len() + 8 * self.slots.len()
    }
}

/// The byte at which the record at `place` begins.
fn at(place: u32) -> usize {
    place as usize * ALIGNED
}

#[allow(clippy::cast_possible_truncation, reason = "the upper half")]
fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_by_first_appearance_through_every_growth_of_the_table() {
        let mut interner = Interner::default();
        // Lengths 0 to 4, so that one key is often the beginning of another.
        let key = |row: u32| row.to_string().trim_start_matches('0').as_bytes().to_vec();
        for round in 0..2 {
            for row in 0..5_000 {
                assert_eq!(interner.code(&key(row)), Some(row), "round {round}");
            }
        }
        assert_eq!(interner.len(), 5_000);
        assert_eq!(interner.key(4_321), b"4321");
    }

    #[test]
    fn keys_whose_hashes_agree_keep_apart() {
        let mut interner = Interner::default();
        for _ in 0..2 {
            for (code, key) in [(0, b"one"), (1, b"two")] {
                let probe = interner.probe(7);
                assert_eq!(interner.find_or_add(key, probe), Some(code));
            }
        }
    }
}
