//! The Rust core of `gspo_rs`: group bookkeeping, reward statistics and scored files.
//!
//! Kernels know neither Python nor Arrow; `keys` and `scoring` read Arrow, `text` reads files of
//! text; `py` binds.

// The bindings are who calls most of it: with them, what nobody calls is found.
#![cfg_attr(not(feature = "python"), allow(dead_code, unused_imports))]

mod buffer;
mod error;
mod groups;
mod keys;
mod pack;
mod pool;
#[cfg(feature = "python")]
mod py;
mod scoring;
mod stats;
mod text;

pub use error::Error;
pub use pack::pack;
pub use stats::decimal::{Written, exceeds};
pub use stats::mean::mean;
pub use stats::quantile::quantile;
