//! The Rust core of `gspo_rs`: group bookkeeping, reward statistics and streams of whole groups.
//!
//! Kernels know neither Python nor Arrow; `keys` and `stream` read Arrow, `text` reads files of
//! text; `py` binds.

pub mod buffer;
pub mod error;
pub mod groups;
pub mod keys;
pub mod pack;
pub mod pool;
#[cfg(feature = "python")]
mod py;
pub mod scoring;
mod stats;
pub mod stream;
pub mod text;

pub use error::Error;
pub use stats::advantage::Estimator;
pub use stats::column::Column;
pub use stats::decimal::{Written, exceeds};
pub use stats::mean::mean;
pub use stats::normal::Scores as NormalScores;
pub use stats::opo::advantages as opo;
pub use stats::pairs::{Strategy, pairs};
pub use stats::quantile::quantile;
pub use stats::rank::Ties;
pub use stats::rows::{Input, rows};
pub use stats::summary::{Summary, best_of, deviation, pass_at_k, quantiles, summaries};
