//! Whole groups out of a stream of Arrow record batches, whose borders fall anywhere.
mod cut;
mod seen;

pub use cut::{Cut, Step, WholeGroups};
