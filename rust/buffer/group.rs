//! Groups and rollouts on their way through the buffer.

use std::fmt;

/// The name of a group or of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// One rollout and what it carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout<P> {
    /// Its name within the group.
    pub id: Id,
    /// Version of the policy that began it.
    pub version: u64,
    /// What it counts towards the bytes held.
    pub bytes: u64,
    /// What it carries.
    pub payload: P,
}

/// A group that was given out.
#[derive(Debug, Clone, PartialEq)]
pub struct Given<P> {
    /// Its name.
    pub id: Id,
    /// Rollouts that were expected.
    pub size: usize,
    /// Those that came, in that order.
    pub rollouts: Vec<Rollout<P>>,
    /// Versions between its oldest rollout and the present policy.
    pub staleness: u64,
    /// Seconds since it was opened.
    pub seconds: f64,
}

/// A group that was thrown out.
#[derive(Debug, Clone, PartialEq)]
pub struct Evicted {
    /// Its name, free to be used again.
    pub id: Id,
    /// Rollouts that were expected.
    pub size: usize,
    /// The names of those that had come.
    pub rollouts: Vec<Id>,
    /// Why.
    pub reason: Reason,
}

/// What became of a rollout that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is held.
    Accepted,
    /// It is held, and its group may now be given out.
    Ready,
    /// Its group has, or had, a rollout of this name.
    Duplicate,
    /// Its group is complete or was given out, without it.
    Late,
    /// Its policy is too old.
    Stale,
    /// There is no room; try again once a group was taken.
    Full,
    /// There was no room, and its group was thrown out: the youngest while there was nothing to
    /// take, or still empty at its deadline.
    Evicted,
}

impl Status {
    /// The word that users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ready => "ready",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Stale => "stale",
            Self::Full => "full",
            Self::Evicted => "evicted",
        }
    }
}

/// Why a group was thrown out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its oldest rollout is of a policy too old.
    Stale,
    /// The bytes were needed, and it was the youngest.
    Bytes,
    /// Its deadline passed without a rollout.
    Deadline,
}

impl Reason {
    const ALL: [Self; 3] = [Self::Stale, Self::Bytes, Self::Deadline];

    /// The word that users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Bytes => "bytes",
            Self::Deadline => "deadline",
        }
    }

    /// The reason of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// A group that is in the buffer.
#[derive(Debug)]
pub(super) struct Held<P> {
    pub(super) id: Id,
    pub(super) size: usize,
    pub(super) opened: f64,
    /// Its turn among those that are ready.
    pub(super) ready: Option<u64>,
    pub(super) rollouts: Vec<Rollout<P>>,
}

impl<P> Held<P> {
    pub(super) fn bytes(&self) -> u64 {
        self.rollouts.iter().map(|rollout| rollout.bytes).sum()
    }

    /// The version of its oldest rollout.
    pub(super) fn version(&self) -> Option<u64> {
        self.rollouts.iter().map(|rollout| rollout.version).min()
    }
}
