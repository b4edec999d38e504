//! Keys as small numbers: equal keys have equal codes, exactly.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Numbers keys by first appearance. Takes the bytes of each key and about 16 more.
#[derive(Debug, Default)]
pub(super) struct Interner {
    hasher: RandomState,
    table: HashTable<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Interner {
    /// The code of `key`; a new one if the key was never met. `None` past 32 bits of codes.
    pub(super) fn code(&mut self, key: &[u8]) -> Option<u32> {
        let Self {
            hasher,
            table,
            bytes,
            ends,
        } = self;
        let hash = hasher.hash_one(key);
        if let Some(&code) = table.find(hash, |&code| nth(bytes, ends, code) == key) {
            return Some(code);
        }
        let code = u32::try_from(ends.len()).ok()?;
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
        table.insert_unique(hash, code, |&code| {
            hasher.hash_one(nth(bytes, ends, code))
        });
        Some(code)
    }

    /// The key that has `code`.
    pub(super) fn key(&self, code: u32) -> &[u8] {
        nth(&self.bytes, &self.ends, code)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of memory taken.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + 8 * self.ends.len() + 5 * self.table.capacity()
    }
}

fn nth<'a>(bytes: &'a [u8], ends: &[usize], code: u32) -> &'a [u8] {
    let code = code as usize;
    let start = code.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start..ends[code]]
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
}
