//! Whole groups out of a stream of Arrow record batches, whose borders fall anywhere.
mod cut;
pub(crate) mod interner;
pub(crate) mod keys;
mod seen;

pub use cut::{Cut, Step, WholeGroups};
