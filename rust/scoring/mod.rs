//! Scores of data sets: ids and rewards in, one record a row out, in memory or through the disk.
//!
//! The texts beside them are never decoded: [`parquet`] copies their bytes as they are.

mod border;
mod coder;
mod counting_sort;
mod decimals;
mod dictionary;
mod input;
mod key_records;
mod known;
pub mod parquet;
mod part;
mod rewards;
mod scored;
mod scores;
mod settings;
mod spill_file;
mod spilled;
#[cfg(test)]
mod tests;
mod varint;
mod windows;

pub use known::KnownKeys;
pub use part::Results;
pub use scored::Scored;
pub use scores::Scores;
pub use settings::Settings;
