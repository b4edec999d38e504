//! The Rust core of `gspo_rs`: group bookkeeping, reward statistics and streams of whole groups.
//!
//! Kernels (`groups`, `hashing`, `sorted`, `moments`, `quantile`, `rank`, `advantage`, `rows`,
//! `summary`, `pack`) know neither Python nor Arrow. `keys` and `stream` read Arrow. `py` binds.

pub mod advantage;
pub mod error;
pub mod groups;
mod hashing;
pub mod keys;
pub mod moments;
pub mod pack;
pub mod pool;
#[cfg(feature = "python")]
mod py;
pub mod quantile;
pub mod rank;
pub mod rows;
pub mod sorted;
pub mod stream;
pub mod summary;

pub use error::Error;
