//! What a buffer refuses to do at all.

use super::group::Id;

/// A refusal: variants carry the facts, `Display` writes the sentence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BufferError {
    /// A first rollout without a size for its group.
    #[error("the size of group {group} is not known; call expect first or give group_size")]
    UnknownSize {
        /// The group.
        group: Id,
    },
    /// A group of no rollouts.
    #[error("group {group} has size 0; a group has at least 1")]
    EmptyGroup {
        /// The group.
        group: Id,
    },
    /// A size that is not the one the group was opened with.
    #[error(
        "group {group} is open with size {known}, not {size}; give each visit of a prompt \
         an id of its own"
    )]
    OtherSize {
        /// The group.
        group: Id,
        /// Its size.
        known: usize,
        /// The size that came.
        size: usize,
    },
    /// A group that can never be held whole.
    #[error("group {group} would hold {bytes} bytes, max_bytes is {max}; raise it")]
    TooLarge {
        /// The group.
        group: Id,
        /// Its bytes with the rollout that came.
        bytes: u64,
        /// The bytes that may be held.
        max: u64,
    },
    /// A policy version below the present one.
    #[error("policy_version {version} is below the present one, {present}; it only rises")]
    Backwards {
        /// The version that came.
        version: u64,
        /// The present one.
        present: u64,
    },
    /// A saved state that no buffer with these limits can have had.
    #[error("this is no state of such a buffer: {problem}")]
    BadState {
        /// What is wrong with it.
        problem: String,
    },
}
