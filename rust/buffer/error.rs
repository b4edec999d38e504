//! What a buffer refuses to do at all.

use std::fmt;

use super::group::Id;

/// A refusal: variants carry the facts, `Display` writes the sentence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum BufferError {
    /// A first rollout without a size for its group.
    UnknownSize {
        /// The group.
        group: Id,
    },
    /// A group of no rollouts.
    EmptyGroup {
        /// The group.
        group: Id,
    },
    /// A size that is not the one the group was opened with.
    OtherSize {
        /// The group.
        group: Id,
        /// Its size.
        known: usize,
        /// The size that came.
        size: usize,
    },
    /// A group that can never be held whole.
    TooLarge {
        /// The group.
        group: Id,
        /// Its bytes with the rollout that came.
        bytes: u64,
        /// The bytes that may be held.
        max: u64,
    },
    /// A policy version below the present one.
    Backwards {
        /// The version that came.
        version: u64,
        /// The present one.
        present: u64,
    },
    /// A saved state that no buffer with these limits can have had.
    BadState {
        /// What is wrong with it.
        problem: String,
    },
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSize { group } => write!(
                f,
                "the size of group {group} is not known; call expect first or give group_size"
            ),
            Self::EmptyGroup { group } => {
                write!(f, "group {group} has size 0; a group has at least 1")
            }
            Self::OtherSize { group, known, size } => write!(
                f,
                "group {group} is open with size {known}, not {size}; give each visit of a prompt \
                 an id of its own"
            ),
            Self::TooLarge { group, bytes, max } => write!(
                f,
                "group {group} would hold {bytes} bytes, max_bytes is {max}; raise it"
            ),
            Self::Backwards { version, present } => write!(
                f,
                "policy_version {version} is below the present one, {present}; it only rises"
            ),
            Self::BadState { problem } => {
                write!(f, "this is no state of such a buffer: {problem}")
            }
        }
    }
}

impl std::error::Error for BufferError {}
