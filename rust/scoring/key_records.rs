//! Keys and rewards on disk, partitioned by key: a partition holds whole groups, in row order.

use super::coder::{Coder, fixed};
use super::part::Part;
use super::settings::Settings;
use super::spill_file::Buckets;
use super::varint;
use crate::error::StreamError;
use crate::keys::rows::Keys;

/// Partitions of the keys.
pub(super) const PARTITIONS: usize = 128;
/// Rows after which full buckets are written.
pub(super) const OFTEN: u64 = 1 << 14;
/// Bytes that a row takes in memory beside its key, while its partition is scored.
const ROW: usize = 14;

/// The records of all rows, which may be read again and again.
#[derive(Debug)]
pub(super) struct KeyRecords {
    buckets: Buckets,
    last: Vec<Last>,
    rewards: Coder,
    checked: bool,
}

/// The last record of a bucket, which the next one begins with as much of as it shares, and the
/// bytes that all need in memory.
#[derive(Debug, Default, Clone)]
struct Last {
    row: u64,
    key: Vec<u8>,
    needed: usize,
}

impl KeyRecords {
    pub(super) fn new(settings: &Settings) -> Result<Self, StreamError> {
        Ok(Self {
            buckets: Buckets::new(&settings.directory, PARTITIONS)?,
            last: vec![Last::default(); PARTITIONS],
            rewards: Coder::default(),
            checked: settings.checked,
        })
    }

    /// Takes in a row; they come in their order.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        reward: f64,
        row: u64,
        check: u32,
    ) -> Result<(), StreamError> {
        let bucket = partition(key);
        let last = &mut self.last[bucket];
        let shared = shared(&last.key, key);
        let rest = &key[usize::from(shared)..];
        let record = self.buckets.bucket(bucket);
        record.push(shared);
        varint::write(rest.len() as u64, record);
        record.extend_from_slice(rest);
        varint::write(row - last.row, record);
        self.rewards.write(reward.to_bits(), record);
        if self.checked {
            record.extend_from_slice(&check.to_le_bytes());
        }
        last.row = row;
        last.key.truncate(usize::from(shared));
        last.key.extend_from_slice(rest);
        last.needed += ROW + key.len();
        if row.is_multiple_of(OFTEN) {
            self.buckets.write_full()?;
        }
        Ok(())
    }

    /// Bytes that the rows of a partition need in memory.
    pub(super) fn needed(&self, number: usize) -> usize {
        let needed = self.last[number].needed;
        needed + needed / 2
    }

    /// Reads a partition into `part`, and the rows that its rows are into `rows`.
    pub(super) fn read(
        &self,
        number: usize,
        part: &mut Part,
        rows: &mut Vec<u64>,
    ) -> Result<(), StreamError> {
        let (mut row, mut key) = (0, Vec::new());
        self.buckets.read(number, |mut piece| {
            let (mut keys, mut ends) = (Vec::new(), vec![0]);
            while let Some((&shared, rest)) = piece.split_first() {
                piece = rest;
                let len = varint::index(varint::take(&mut piece).expect("whole records"));
                let (rest, others) = piece.split_at(len);
                piece = others;
                key.truncate(usize::from(shared));
                key.extend_from_slice(rest);
                keys.extend_from_slice(&key);
                ends.push(i64::try_from(keys.len()).expect("was in memory"));
                row += varint::take(&mut piece).expect("whole records");
                rows.push(row);
                let reward = f64::from_bits(self.rewards.take(&mut piece));
                part.extend(std::iter::once(reward));
                if self.checked {
                    part.checks.push(u32::from_le_bytes(fixed(&mut piece)));
                }
            }
            let n = ends.len() - 1;
            let codes = part.interner.codes(&Keys::of_bytes(ends, keys), n);
            part.codes.extend(codes.ok_or(StreamError::TooManyGroups)?);
            Ok(())
        })
    }
}

/// How many bytes two keys begin with alike, as far as a byte can count.
fn shared(one: &[u8], other: &[u8]) -> u8 {
    let pairs = one.iter().zip(other).take(usize::from(u8::MAX));
    let alike = pairs.take_while(|(one, other)| one == other).count();
    u8::try_from(alike).expect("no more than were looked at")
}

/// Not the hash of the tables, which would then be full of collisions.
fn partition(key: &[u8]) -> usize {
    usize::try_from(xxhash_rust::xxh3::xxh3_64(key) % PARTITIONS as u64).unwrap_or(0)
}
