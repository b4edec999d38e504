//! The Rust core of `gspo_rs`: group bookkeeping, reward statistics and streams of whole groups.
#[cfg(feature = "python")]
mod py;
