//! The group at the border of two files that are scored one by one: each is given the rows of the
//! other.

use arrow_array::RecordBatch;

use super::input::InputBatch;
use super::scores::{Scores, State};
use crate::error::StreamError;

impl Scores {
    /// The key of the last row; `None` without rows, and of rows that have gone to the disk.
    #[must_use]
    pub fn last_key(&self) -> Option<Vec<u8>> {
        let State::Memory(part) = &self.state else {
            return None;
        };
        let last = part.codes.last()?;
        Some(part.interner.key(*last).to_vec())
    }

    /// The rewards of all rows of the group of `key`, in row order; none of rows on the disk.
    #[must_use]
    pub fn rewards_of(&mut self, key: &[u8]) -> Vec<f64> {
        let State::Memory(part) = &mut self.state else {
            return Vec::new();
        };
        let code = part.interner.code(key);
        let members = (0..part.len()).filter(|&row| Some(part.codes[row]) == code);
        members.map(|row| part.number(row)).collect()
    }

    /// Takes in rows of the group of `key` that are in another file; no digest tells of them.
    ///
    /// # Errors
    /// If there are too many groups, or the disk is full.
    pub fn carry(&mut self, key: &[u8], rewards: &[f64]) -> Result<(), StreamError> {
        for &reward in rewards {
            match &mut self.state {
                State::Memory(part) => {
                    let code = part.interner.code(key).ok_or(StreamError::TooManyGroups)?;
                    part.codes.push(code);
                    part.extend([reward].into_iter());
                    if self.settings.checked {
                        part.checks.push(0);
                    }
                }
                State::Spilled(spilled) => spilled.push(key, reward, self.rows, 0)?,
            }
            self.rows += 1;
        }
        Ok(())
    }

    /// The rewards of the first rows of `batch`, as long as their key is `key`.
    ///
    /// # Errors
    /// As [`Scores::push`].
    pub fn leading(&self, batch: &RecordBatch, key: &[u8]) -> Result<Vec<f64>, StreamError> {
        let rows = InputBatch::of(batch, &self.settings, 0)?;
        let mut scratch = Vec::new();
        let other = (0..batch.num_rows()).find(|&row| rows.keys.bytes(row, &mut scratch) != key);
        let end = other.unwrap_or(batch.num_rows());
        Ok(rows.rewards.values()[..end].to_vec())
    }
}
