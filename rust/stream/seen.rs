//! Every key that a stream has had.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Every key met so far, exactly, with the row at which its group began.
///
/// Takes the bytes of each key and about 26 more.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    table: HashTable<usize>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    rows: Vec<usize>,
}

impl Seen {
    /// Notes that the group of `key` began at `row`, or returns the row at which it did before.
    pub(super) fn insert(&mut self, key: &[u8], row: usize) -> Result<(), usize> {
        let Self {
            hasher,
            table,
            bytes,
            ends,
            rows,
        } = self;
        let hash = hasher.hash_one(key);
        if let Some(&group) = table.find(hash, |&group| nth(bytes, ends, group) == key) {
            return Err(rows[group]);
        }
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
        rows.push(row);
        table.insert_unique(hash, ends.len() - 1, |&group| {
            hasher.hash_one(nth(bytes, ends, group))
        });
        Ok(())
    }
}

/// The bytes of the key that was inserted as number `group`.
fn nth<'a>(bytes: &'a [u8], ends: &[usize], group: usize) -> &'a [u8] {
    let start = group.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start..ends[group]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_with_its_first_row_through_every_growth_of_the_table() {
        let mut seen = Seen::default();
        for row in 0..5_000_usize {
            // Lengths 0 to 4, so that one key is often the beginning of another.
            let key = row.to_string().trim_start_matches('0').as_bytes().to_vec();
            assert_eq!(seen.insert(&key, row), Ok(()));
        }
        for row in 0..5_000_usize {
            let key = row.to_string().trim_start_matches('0').as_bytes().to_vec();
            assert_eq!(seen.insert(&key, 9_999), Err(row));
        }
    }
}
