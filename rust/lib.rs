//! The Rust core of `gspo_rs`: group bookkeeping, reward statistics and streams of whole groups.
//!
//! Kernels know neither Python nor Arrow; `ids` and `stream` read Arrow, `text` reads files of
//! text; `py` binds.

pub mod advantage;
pub mod batch;
pub mod buffer;
pub mod column;
pub mod decimal;
pub mod draws;
pub mod error;
pub mod groups;
pub mod ids;
pub mod mean;
pub mod moments;
pub mod normal;
pub mod opo;
pub mod pack;
pub mod pool;
#[cfg(feature = "python")]
mod py;
pub mod quantile;
mod radix;
pub mod rank;
pub mod rows;
pub mod scoring;
mod scratch;
pub mod select;
pub mod sorted;
pub mod stream;
pub mod summary;
pub mod text;

pub use error::Error;
