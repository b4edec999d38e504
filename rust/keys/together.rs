//! Several key columns as one id.

use foldhash::quality::FixedState;

use super::byte_key::{ByteKey, MOST_CARRIED};
use super::columns::Key;
use crate::groups::{self, Ids};

/// Rows whose ids are the values of several columns.
///
/// What is hashed and carried are these values one after the other, each in as many bytes as every
/// value of its column, or else behind the number of its bytes: so no two ids have the same.
pub(super) struct Together {
    columns: Vec<Key>,
    hasher: FixedState,
    seed: u64,
}

impl Together {
    /// Takes at least one column; all have as many rows.
    pub(super) fn new(columns: Vec<Key>) -> Self {
        let seed = groups::process_seed();
        Self {
            columns,
            hasher: FixedState::with_seed(seed),
            seed,
        }
    }

    fn width(&self, row: usize) -> usize {
        self.columns.iter().map(|column| column.width(row)).sum()
    }

    fn write(&self, row: usize, mut bytes: &mut [u8]) {
        for column in &self.columns {
            let own = bytes.split_off_mut(..column.width(row));
            column.write(row, own.expect("room for all columns"));
        }
    }
}

impl Key {
    /// How many bytes `write` writes.
    fn width(&self, row: usize) -> usize {
        match self {
            Self::Ints(_) => size_of::<i64>(),
            Self::Bytes(ids) => size_of::<u64>() + ids.row(row).len(),
        }
    }

    fn write(&self, row: usize, bytes: &mut [u8]) {
        match self {
            Self::Ints(keys) => bytes.copy_from_slice(&keys[row].to_le_bytes()),
            Self::Bytes(ids) => {
                let own = ids.row(row);
                let (length, rest) = bytes.split_at_mut(size_of::<u64>());
                length.copy_from_slice(&(own.len() as u64).to_le_bytes());
                rest.copy_from_slice(own);
            }
        }
    }

    fn same(&self, a: usize, b: usize) -> bool {
        match self {
            Self::Ints(keys) => keys[a] == keys[b],
            Self::Bytes(ids) => ids.same(a, b),
        }
    }

    fn rises(&self, a: usize, b: usize) -> bool {
        match self {
            Self::Ints(keys) => keys[a] < keys[b],
            Self::Bytes(ids) => ids.rises(a, b),
        }
    }
}

impl Ids for Together {
    type Key = ByteKey;

    fn len(&self) -> usize {
        self.columns[0].len()
    }

    fn key(&self, row: usize) -> ByteKey {
        let width = self.width(row);
        if width > MOST_CARRIED {
            let mut bytes = vec![0; width];
            self.write(row, &mut bytes);
            return ByteKey::new(&bytes, &self.hasher);
        }
        let mut bytes = [0; MOST_CARRIED];
        self.write(row, &mut bytes[..width]);
        ByteKey::new(&bytes[..width], &self.hasher)
    }

    fn carried(key: ByteKey) -> usize {
        key.carried()
    }

    fn carry(&self, row: usize, bytes: &mut [u8]) {
        self.write(row, bytes);
    }

    fn is_exact(key: ByteKey) -> bool {
        key.is_exact()
    }

    fn hash(&self, key: ByteKey) -> u64 {
        key.hash(self.seed)
    }

    fn same(&self, a: usize, b: usize) -> bool {
        self.columns.iter().all(|column| column.same(a, b))
    }

    fn rises(&self, a: usize, b: usize) -> bool {
        let differs = self.columns.iter().find(|column| !column.same(a, b));
        differs.is_some_and(|column| column.rises(a, b))
    }
}
