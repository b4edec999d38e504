//! Scores of data sets: ids and rewards in, one record a row out, in memory or through the disk.
//!
//! The texts beside them are never decoded: [`parquet`] copies their bytes as they are.

mod batch;
mod border;
mod cells;
mod chunk;
mod decimals;
mod dictionary;
mod disk;
mod footer;
mod hybrid;
mod order;
pub mod pages;
pub mod parquet;
mod part;
mod pieces;
mod scores;
mod seen;
mod spilled;
mod thrift;
mod told;

pub use part::Results;
pub use scores::{Chunk, Scores, Settings};
pub use seen::Seen;

/// What one row is told.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scored {
    /// Twice the mid-rank; 0 for an unscorable row.
    pub twice_rank: u32,
    /// Members of its group.
    pub size: u32,
    /// Scorable members.
    pub scored: u32,
    /// A digest of the row's key and reward.
    pub check: u32,
    /// Whether the row was chosen.
    pub keep: bool,
    /// The advantage.
    pub advantage: f64,
    /// The mean of the group; NaN if nothing in it is scorable.
    pub mean: f64,
    /// Its sample deviation; NaN for fewer than two.
    pub std: f64,
}

impl Scored {
    /// The rank in the group, 1 for the lowest; ties share.
    #[must_use]
    pub fn rank(&self) -> Option<f64> {
        rank(self.twice_rank)
    }

    /// The share of the others that the row beats, to the bit as [`crate::stats::rank::percentiles`].
    #[must_use]
    pub fn percentile(&self) -> Option<f64> {
        percentile(self.twice_rank, self.scored)
    }
}

fn rank(twice: u32) -> Option<f64> {
    (twice > 0).then(|| f64::from(twice) / 2.0)
}

fn percentile(twice_rank: u32, scored: u32) -> Option<f64> {
    let beaten = rank(twice_rank)? - 1.0;
    let others = f64::from(scored - 1);
    Some(if scored > 1 { beaten / others } else { 0.5 })
}
