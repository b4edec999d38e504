//! Keys as small numbers: equal keys have equal codes, exactly.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::stream::keys::Keys;

/// Keys whose cache misses overlap. One lookup is three misses, each waiting for the one before.
const BLOCK: usize = 64;

/// Numbers keys by first appearance. Takes the bytes of each key and 24 to 40 more.
#[derive(Debug)]
pub(super) struct Interner {
    hasher: RandomState,
    /// Open addressing, at most half full: 32 bits of the hash above the code + 1; 0 is free.
    slots: Vec<u64>,
    bytes: Vec<u8>,
    /// The key of `code` is `bytes[starts[code]..starts[code + 1]]`.
    starts: Vec<usize>,
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            slots: vec![0; 4 * BLOCK],
            bytes: Vec::new(),
            starts: vec![0],
        }
    }
}

impl Interner {
    /// Gives the code of the key of each row of `keys` to `each`; false past 31 bits of codes.
    pub(super) fn codes(&mut self, keys: &Keys, rows: usize, mut each: impl FnMut(u32)) -> bool {
        let mut scratch = Vec::new();
        let mut hashes = [0; BLOCK];
        let (mut code, mut before) = (None, 0);
        for start in (0..rows).step_by(BLOCK) {
            let block = start..rows.min(start + BLOCK);
            self.fetch(keys, block.clone(), &mut hashes, &mut scratch);
            for row in block {
                let hash = hashes[row - start];
                if code.is_none() || hash != before || !keys.same(row - 1, row) {
                    code = self.find(keys.bytes(row, &mut scratch), hash);
                    before = hash;
                }
                match code {
                    Some(code) => each(code),
                    None => return false,
                }
            }
        }
        true
    }

    /// The code of `key`; a new one if the key was never met. `None` past 31 bits of codes.
    pub(super) fn code(&mut self, key: &[u8]) -> Option<u32> {
        self.reserve();
        self.find(key, high(self.hasher.hash_one(key)))
    }

    /// Hashes the keys of some rows, and brings into the cache what looking for them needs.
    fn fetch(
        &mut self,
        keys: &Keys,
        rows: Range<usize>,
        hashes: &mut [u32; BLOCK],
        scratch: &mut Vec<u8>,
    ) {
        self.reserve();
        let mut found = [0_usize; BLOCK];
        for (row, hash) in rows.clone().zip(hashes.iter_mut()) {
            *hash = high(self.hasher.hash_one(keys.bytes(row, scratch)));
        }
        for (hash, found) in hashes.iter().zip(&mut found) {
            let slot = self.slots[*hash as usize & (self.slots.len() - 1)];
            *found = low(slot) as usize;
        }
        for found in &mut found {
            *found = self.starts[found.saturating_sub(1)];
        }
        let touched = found.iter().filter_map(|&start| self.bytes.get(start));
        black_box(touched.fold(0, |all, byte| all ^ byte));
    }

    fn find(&mut self, key: &[u8], hash: u32) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            if high(slot) == hash && self.key(low(slot) - 1) == key {
                return Some(low(slot) - 1);
            }
            at = (at + 1) & mask;
        }
        let code = u32::try_from(self.len())
            .ok()
            .filter(|&code| code < u32::MAX / 2)?;
        self.bytes.extend_from_slice(key);
        self.starts.push(self.bytes.len());
        self.slots[at] = u64::from(hash) << 32 | u64::from(code + 1);
        Some(code)
    }

    /// Makes room for one block of new keys.
    fn reserve(&mut self) {
        if 2 * (self.len() + BLOCK) <= self.slots.len() {
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
    pub(super) fn key(&self, code: u32) -> &[u8] {
        let code = code as usize;
        &self.bytes[self.starts[code]..self.starts[code + 1]]
    }

    /// The keys after the first `known`, by code.
    pub(super) fn keys_after(&self, known: usize) -> impl Iterator<Item = &[u8]> {
        let ends = self.starts[known..].windows(2);
        ends.map(|ends| &self.bytes[ends[0]..ends[1]])
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Bytes of memory taken.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + 8 * (self.starts.len() + self.slots.len())
    }
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
        assert_eq!(interner.find(b"one", 7), Some(0));
        assert_eq!(interner.find(b"two", 7), Some(1));
        assert_eq!(interner.find(b"one", 7), Some(0));
        assert_eq!(interner.find(b"two", 7), Some(1));
    }
}
