//! One batch of ids and rewards, checked at the door.

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use arrow_schema::DataType;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::rewards::floats;
use super::settings::Settings;
use crate::error::StreamError;
use crate::keys::rows::{Keys, check_types};

/// Keys, none of them null, and rewards, finite or NaN.
pub(super) struct InputBatch {
    pub(super) keys: Keys,
    pub(super) rewards: Float64Array,
}

impl InputBatch {
    /// One word per row that tells its key and its reward.
    pub(super) fn digests(&self) -> Vec<u64> {
        let mut scratch = Vec::new();
        let rewards = self.rewards.values().iter().enumerate();
        rewards
            .map(|(row, reward)| {
                xxh3_64_with_seed(self.keys.bytes(row, &mut scratch), reward.to_bits())
            })
            .collect()
    }

    pub(super) fn of(
        batch: &RecordBatch,
        settings: &Settings,
        first_row: usize,
    ) -> Result<Self, StreamError> {
        let n_keys = settings.by.len();
        check_types(&batch.schema(), n_keys)?;
        let source = |error: arrow_schema::ArrowError| StreamError::Source(error.to_string());
        let keys = Keys::of(batch, n_keys).map_err(source)?;
        if let Some((row, place)) = keys.first_null {
            return Err(StreamError::NullKey {
                name: settings.by[place].clone(),
                row: first_row + row,
            });
        }
        let column = batch.column(n_keys);
        let rewards = floats(column, settings, first_row)?;
        refuse(&rewards, column, settings, first_row)?;
        Ok(Self { keys, rewards })
    }
}

fn refuse(
    rewards: &Float64Array,
    column: &ArrayRef,
    settings: &Settings,
    first_row: usize,
) -> Result<(), StreamError> {
    let whole = matches!(column.data_type(), DataType::Int64 | DataType::UInt64);
    let wrong = |value: f64| {
        value.is_infinite()
            || (whole && value.abs() >= 2.0_f64.powi(53))
            || (settings.refuse_negative && value < 0.0)
    };
    let Some(row) = rewards.values().iter().position(|&value| wrong(value)) else {
        return Ok(());
    };
    let (name, value) = (settings.reward.clone(), rewards.value(row));
    Err(StreamError::BadReward {
        name,
        row: first_row + row,
        value,
    })
}
