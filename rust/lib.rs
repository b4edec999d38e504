//! The Rust core of `gspo_rs`: group bookkeeping, reward statistics and streams of whole groups.
//!
//! Kernels know neither Python nor Arrow; `ids` and `stream` read Arrow; `py` binds.

pub mod advantage;
pub mod column;
pub mod draws;
pub mod error;
pub mod groups;
mod hashing;
pub mod ids;
mod items;
pub mod moments;
pub mod normal;
pub mod opo;
pub mod pack;
pub mod pool;
#[cfg(feature = "python")]
mod py;
pub mod quantile;
pub mod rank;
pub mod rows;
pub mod scoring;
pub mod select;
pub mod sorted;
pub mod stream;
pub mod summary;

pub use error::Error;
