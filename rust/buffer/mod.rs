//! Rollouts that arrive in any order, gathered into groups that are given out once.
//!
//! A state machine without a clock or threads: every call that needs the time is told it, in
//! seconds that never run backwards, and the caller keeps a lock around it.

mod error;
mod group;
mod group_buffer;
mod moves;
mod state;
mod tally;
#[cfg(test)]
mod tests;

pub use error::BufferError;
pub use group::{Evicted, Given, Id, Reason, Rollout};
pub use group_buffer::{Buffer, Limits};
pub use state::{HeldState, State};
pub use tally::Totals;
