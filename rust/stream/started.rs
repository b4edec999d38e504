//! Every key that a stream has had.

use crate::error::StreamError;
use crate::keys::interner::Interner;

/// Every key met so far, exactly, with the row at which its group began.
#[derive(Debug, Default)]
pub(super) struct StartedKeys {
    keys: Interner,
    rows: Vec<usize>,
}

impl StartedKeys {
    /// Notes that the group of `key` began at `row`.
    ///
    /// # Errors
    /// If one began before, with the row at which it did, or past 31 bits of groups.
    pub(super) fn insert(&mut self, key: &[u8], row: usize) -> Result<(), StreamError> {
        let code = self.keys.code(key).ok_or(StreamError::TooManyGroups)?;
        if let Some(&began) = self.rows.get(code as usize) {
            return Err(StreamError::KeyReturns { row, began });
        }
        self.rows.push(row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_with_the_row_at_which_its_group_began() {
        let mut seen = StartedKeys::default();
        for row in 0..5_000_usize {
            assert_eq!(seen.insert(row.to_string().as_bytes(), row), Ok(()));
        }
        for began in 0..5_000_usize {
            let error = StreamError::KeyReturns { row: 9_999, began };
            assert_eq!(seen.insert(began.to_string().as_bytes(), 9_999), Err(error));
        }
    }
}
