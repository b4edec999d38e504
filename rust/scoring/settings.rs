//! What a run of scoring is set to.

use std::path::PathBuf;

/// What a run of scoring is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The names of the key columns, which come first in every batch.
    pub by: Vec<String>,
    /// The name of the reward column, which comes last.
    pub reward: String,
    /// Whether rows are to be compared with a second reading: 4 bytes more a row.
    pub checked: bool,
    /// Whether negative rewards are refused.
    pub refuse_negative: bool,
    /// Rows that will come, where it is known; 0 else.
    pub rows: usize,
    /// Bytes that ids and scores may take in memory.
    pub budget: usize,
    /// Where they go beyond that.
    pub directory: PathBuf,
}
