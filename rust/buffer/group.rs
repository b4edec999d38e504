//! Groups on their way through the buffer, and the moves between its parts.

use std::fmt;

use super::{Buffer, BufferError, Tally};

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

    pub(super) fn tally(self) -> Tally {
        match self {
            Self::Accepted | Self::Ready => Tally::Accepted,
            Self::Duplicate => Tally::Duplicate,
            Self::Late => Tally::Late,
            Self::Stale => Tally::Stale,
            Self::Full | Self::Evicted => Tally::Full,
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

impl<P> Buffer<P> {
    pub(super) fn open(&mut self, id: &Id, size: usize, now: f64) -> u64 {
        let turn = self.turn();
        self.turns.insert(id.clone(), turn);
        self.waiting.insert(turn);
        let held = Held {
            id: id.clone(),
            size,
            opened: now,
            ready: None,
            rollouts: Vec::new(),
        };
        self.held.insert(turn, held);
        turn
    }

    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn make_ready(&mut self, turn: u64) {
        let ready = self.turn();
        if let Some(held) = self.held.get_mut(&turn) {
            held.ready = Some(ready);
            self.waiting.remove(&turn);
            self.ready.insert(ready, turn);
        }
    }

    /// Makes the groups ready whose deadline has passed, or throws them out if nothing came.
    pub(super) fn expire(&mut self, now: f64) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Some(&turn) = self.waiting.first() else {
                return;
            };
            if self.held[&turn].rollouts.is_empty() {
                self.evict(turn, Reason::Deadline);
            } else {
                self.make_ready(turn);
            }
        }
    }

    pub(super) fn is_stale(&self, version: u64) -> bool {
        let behind = self.version.saturating_sub(version);
        self.limits.max_staleness.is_some_and(|max| behind > max)
    }

    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let max = self.limits.max_bytes.unwrap_or(u64::MAX);
        self.bytes.saturating_add(bytes) <= max
    }

    pub(super) fn check_bytes(&self, id: &Id, bytes: u64) -> Result<(), BufferError> {
        match self.limits.max_bytes {
            Some(max) if bytes > max => Err(BufferError::TooLarge {
                group: id.clone(),
                bytes,
                max,
            }),
            _ => Ok(()),
        }
    }

    /// Throws out the youngest groups until `bytes` more fit; false if `turn` itself had to go.
    ///
    /// Youngest first, so that the oldest, which waits for a slow prompt, always gets through.
    pub(super) fn make_room(&mut self, turn: u64, bytes: u64) -> bool {
        while !self.has_room(bytes) {
            let mut young = self.held.iter().rev();
            let youngest = young.find(|(other, held)| **other == turn || held.bytes() > 0);
            let youngest = youngest.map_or(turn, |(&other, _)| other);
            self.evict(youngest, Reason::Bytes);
            if youngest == turn {
                return false;
            }
        }
        true
    }

    pub(super) fn evict(&mut self, turn: u64, reason: Reason) {
        let Some(held) = self.remove(turn) else {
            return;
        };
        self.totals.evict(reason, held.rollouts.len());
        let rollouts = held.rollouts.iter().map(|rollout| rollout.id.clone());
        self.evicted.push(Evicted {
            id: held.id,
            size: held.size,
            rollouts: rollouts.collect(),
            reason,
        });
        let payloads = held.rollouts.into_iter().map(|rollout| rollout.payload);
        self.released.extend(payloads);
    }

    pub(super) fn remove(&mut self, turn: u64) -> Option<Held<P>> {
        let held = self.held.remove(&turn)?;
        self.turns.remove(&held.id);
        self.waiting.remove(&turn);
        if let Some(ready) = held.ready {
            self.ready.remove(&ready);
        }
        self.bytes -= held.bytes();
        Some(held)
    }

    pub(super) fn remember(&mut self, id: Id, rollouts: Vec<Id>) {
        self.given_order.push_back(id.clone());
        self.given.insert(id, rollouts);
        while self.given_order.len() > self.limits.remember {
            if let Some(oldest) = self.given_order.pop_front() {
                self.given.remove(&oldest);
            }
        }
    }
}
