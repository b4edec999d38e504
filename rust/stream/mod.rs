//! Whole groups out of a stream of Arrow record batches, whose borders fall anywhere.
mod started;
#[cfg(test)]
mod tests;
mod whole_groups;

pub use whole_groups::{GroupBatch, Step, WholeGroups};
