//! The scores of a data set: fed batch by batch, computed group by group, given row by row.

use std::ops::Range;

use arrow_array::RecordBatch;
use rayon::prelude::*;
use xxhash_rust::xxh3::Xxh3;

use super::input::InputBatch;
use super::part::{Part, Results};
use super::scored::Scored;
use super::settings::Settings;
use super::spilled::Spilled;
use crate::error::StreamError;

/// Some whole groups: rewards group after group, and where the groups begin.
pub type Chunk = (Vec<f64>, Vec<i64>);

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of them")]
pub(super) enum State {
    Memory(Part),
    Spilled(Spilled),
}

/// See the module.
pub struct Scores {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) rows: u64,
    digest: Box<Xxh3>,
    /// The groups that were taken and not yet put.
    taken: Range<usize>,
    grouped: bool,
}

impl Scores {
    /// Scores that nothing has been fed to.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Memory(Part::default()),
            rows: 0,
            digest: Box::new(Xxh3::new()),
            taken: 0..0,
            grouped: false,
        }
    }

    /// Rows fed so far.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.rows
    }

    /// The keys met after the first `known`, each once; `None` when they have gone to the disk.
    pub(super) fn keys_after(&self, known: usize) -> Option<impl Iterator<Item = &[u8]>> {
        match &self.state {
            State::Memory(part) => Some(part.interner.keys_after(known)),
            State::Spilled(_) => None,
        }
    }

    /// Whether the rows have gone through the disk.
    #[must_use]
    pub fn spilled(&self) -> bool {
        matches!(self.state, State::Spilled(_))
    }

    /// Takes in the next batch; `first_row` is what errors call its first row.
    ///
    /// # Errors
    /// A null key, an infinite, negative or rounded reward, a type that cannot be a key or a
    /// reward, or a full disk.
    pub fn push(&mut self, batch: &RecordBatch, first_row: usize) -> Result<(), StreamError> {
        let rows = InputBatch::of(batch, &self.settings, first_row)?;
        let digest = &mut self.digest;
        let mut digested = || {
            let digests = rows.digests();
            let bytes: Vec<[u8; 8]> = digests.iter().map(|word| word.to_le_bytes()).collect();
            digest.update(bytes.as_flattened());
            digests
        };
        match &mut self.state {
            State::Memory(part) => {
                let keys = &mut part.interner;
                let numbered = || keys.codes(&rows.keys, batch.num_rows());
                let (digests, codes) = rayon::join(digested, numbered);
                part.codes.extend(codes.ok_or(StreamError::TooManyGroups)?);
                part.extend(rows.rewards.values().iter().copied());
                if self.settings.checked {
                    let checks = digests.iter().map(|&digest| short(digest));
                    part.checks.extend(checks);
                }
            }
            State::Spilled(spilled) => {
                let mut scratch = Vec::new();
                for (at, digest) in digested().into_iter().enumerate() {
                    let key = rows.keys.bytes(at, &mut scratch);
                    let row = self.rows + at as u64;
                    spilled.push(key, rows.rewards.value(at), row, short(digest))?;
                }
            }
        }
        self.rows += batch.num_rows() as u64;
        self.spill_if_large()
    }

    /// The digest of the ids and rewards since the last call, of one file for instance.
    pub fn end_file(&mut self) -> u64 {
        std::mem::replace(&mut self.digest, Box::new(Xxh3::new())).digest()
    }

    fn spill_if_large(&mut self) -> Result<(), StreamError> {
        let State::Memory(part) = &mut self.state else {
            return Ok(());
        };
        // Rows that cannot stay are not numbered before they go.
        let rows = part.len().max(self.settings.rows);
        if part.memory(rows) <= self.settings.budget && part.len() < u32::MAX as usize {
            return Ok(());
        }
        let part = std::mem::take(part);
        let spilled = Spilled::new(&part, &self.settings)?;
        self.state = State::Spilled(spilled);
        Ok(())
    }

    /// The next whole groups, of about `rows` rows; `None` after the last.
    ///
    /// # Errors
    /// If the disk fails, or one partition does not fit the memory.
    pub fn take(&mut self, rows: usize) -> Result<Option<Chunk>, StreamError> {
        if !self.grouped {
            self.grouped = true;
            match &mut self.state {
                State::Memory(part) => part.group(),
                State::Spilled(spilled) => spilled.start(self.rows)?,
            }
        }
        let end = self.taken.end;
        let (part, first) = match &mut self.state {
            State::Memory(part) => (part, end),
            State::Spilled(spilled) => match spilled.part_after(end)? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        if first == part.n_groups() {
            return Ok(None);
        }
        self.taken = part.some_groups(first, rows);
        Ok(Some(part.take(&self.taken)))
    }

    /// Takes in what was found for the groups that [`Scores::take`] gave.
    ///
    /// Returns how many of them tell nothing: no two of their rows have different ranks.
    pub fn put(&mut self, results: Results<'_>) -> usize {
        match &mut self.state {
            State::Memory(part) => part.put(&self.taken, results),
            State::Spilled(spilled) => spilled.part().put(&self.taken, results),
        }
    }

    /// Frees what only computing needed.
    pub fn settle(&mut self) {
        if let State::Memory(part) = &mut self.state {
            part.settle();
        }
    }

    /// What the rows `start..stop` are told.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn scored(&mut self, start: u64, stop: u64) -> Result<Vec<Scored>, StreamError> {
        match &mut self.state {
            State::Memory(part) => {
                let rows = index(start)..index(stop);
                let rows = rows.into_par_iter();
                Ok(rows.map(|row| part.scored(row)).collect())
            }
            State::Spilled(spilled) => spilled.scored(start, stop),
        }
    }

    /// What was kept of the digests of the rows `start..stop`.
    pub(super) fn checks(&mut self, start: u64, stop: u64) -> Result<Vec<u32>, StreamError> {
        match &mut self.state {
            State::Memory(part) => Ok(part.checks[index(start)..index(stop)].to_vec()),
            State::Spilled(spilled) => {
                let mut found = Vec::new();
                let take = |part: &Part, rows| found.extend_from_slice(&part.checks[rows]);
                spilled.windows().each(start, stop, take)?;
                Ok(found)
            }
        }
    }

    /// The first row of `batch` that is not what row `start` and those after it were.
    ///
    /// # Errors
    /// As [`Scores::push`].
    pub fn changed(
        &mut self,
        batch: &RecordBatch,
        start: u64,
        first_row: usize,
    ) -> Result<Option<usize>, StreamError> {
        let rows = InputBatch::of(batch, &self.settings, first_row)?;
        let known = self.checks(start, start + batch.num_rows() as u64)?;
        let mut pairs = known.into_iter().zip(rows.digests());
        let wrong = pairs.position(|(known, digest)| known != short(digest));
        Ok(wrong.map(|row| first_row + row))
    }
}

/// A row number as an index: as many rows are in memory.
pub(super) fn index(row: u64) -> usize {
    usize::try_from(row).expect("rows in memory fit the address space")
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "32 bits of the digest are kept"
)]
fn short(digest: u64) -> u32 {
    digest as u32
}
