//! The state machine: what is held, what is ready, and what becomes of a rollout.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::error::BufferError;
use super::group::{Evicted, Given, Held, Id, Reason, Rollout, Status};
use super::tally::{Tally, Totals};

/// What a buffer holds at most, and when a group may leave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Size of a group that no `expect` announced.
    pub group_size: Option<usize>,
    /// A group may be given out with this many rollouts.
    pub ready_size: Option<usize>,
    /// A group may be given out this many seconds after it was opened.
    pub deadline: Option<f64>,
    /// A rollout may be this many policy versions old.
    pub max_staleness: Option<u64>,
    /// Groups held.
    pub max_groups: usize,
    /// Bytes held.
    pub max_bytes: Option<u64>,
    /// Groups given out whose rollouts are still told from new ones.
    pub remember: usize,
}

/// The groups that are open, those that are ready, and what has become of the others.
///
/// `P` is what a rollout carries; it is moved, never looked at.
#[derive(Debug)]
pub struct Buffer<P> {
    pub(super) limits: Limits,
    pub(super) version: u64,
    pub(super) bytes: u64,
    /// Groups by their turn of admission, and the turn of each id.
    pub(super) held: BTreeMap<u64, Held<P>>,
    pub(super) turns: HashMap<Id, u64>,
    /// Turns of the groups that are not ready, and of those that are, in the order of becoming so.
    pub(super) waiting: BTreeSet<u64>,
    pub(super) ready: BTreeMap<u64, u64>,
    pub(super) next: u64,
    pub(super) given: HashMap<Id, Vec<Id>>,
    pub(super) given_order: VecDeque<Id>,
    pub(super) evicted: Vec<Evicted>,
    pub(super) released: Vec<P>,
    pub(super) totals: Totals,
}

impl<P> Buffer<P> {
    /// An empty buffer at policy version 0.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            version: 0,
            bytes: 0,
            held: BTreeMap::new(),
            turns: HashMap::new(),
            waiting: BTreeSet::new(),
            ready: BTreeMap::new(),
            next: 0,
            given: HashMap::new(),
            given_order: VecDeque::new(),
            evicted: Vec::new(),
            released: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Opens a group of `size` before its first rollout: the place to hold back a producer.
    ///
    /// `Accepted` if it is open now, `Full` if there is no room, `Late` if it was given out.
    ///
    /// # Errors
    /// [`BufferError::OtherSize`] if it is open with another size; [`BufferError::EmptyGroup`].
    pub fn expect(&mut self, id: &Id, size: usize, now: f64) -> Result<Status, BufferError> {
        if size == 0 {
            return Err(BufferError::EmptyGroup { group: id.clone() });
        }
        if self.given.contains_key(id) {
            return Ok(Status::Late);
        }
        if let Some(held) = self.turns.get(id).map(|turn| &self.held[turn]) {
            return match held.size {
                known if known == size => Ok(Status::Accepted),
                known => Err(BufferError::OtherSize {
                    group: id.clone(),
                    known,
                    size,
                }),
            };
        }
        if self.held.len() >= self.limits.max_groups {
            return Ok(Status::Full);
        }
        self.open(id, size, now);
        Ok(Status::Accepted)
    }

    /// Takes a rollout in, or says why not.
    ///
    /// # Errors
    /// [`BufferError::UnknownSize`] for the first rollout of a group whose size nobody said;
    /// [`BufferError::TooLarge`] if its group alone would exceed the bytes. Neither changes
    /// anything.
    pub fn put(&mut self, id: &Id, rollout: Rollout<P>, now: f64) -> Result<Status, BufferError> {
        let status = self.place(id, rollout, now)?;
        self.totals.add(Tally::from(status), 1);
        Ok(status)
    }

    fn place(&mut self, id: &Id, rollout: Rollout<P>, now: f64) -> Result<Status, BufferError> {
        if let Some(given) = self.given.get(id) {
            let known = given.contains(&rollout.id);
            return Ok(if known {
                Status::Duplicate
            } else {
                Status::Late
            });
        }
        if let Some(&turn) = self.turns.get(id) {
            return self.join(turn, rollout, now);
        }
        if self.is_stale(rollout.version) {
            return Ok(Status::Stale);
        }
        let Some(size) = self.limits.group_size else {
            return Err(BufferError::UnknownSize { group: id.clone() });
        };
        self.check_bytes(id, rollout.bytes)?;
        if self.held.len() >= self.limits.max_groups || !self.has_room(rollout.bytes) {
            return Ok(Status::Full);
        }
        let turn = self.open(id, size, now);
        self.join(turn, rollout, now)
    }

    fn join(&mut self, turn: u64, rollout: Rollout<P>, now: f64) -> Result<Status, BufferError> {
        let held = &self.held[&turn];
        if held.rollouts.iter().any(|known| known.id == rollout.id) {
            return Ok(Status::Duplicate);
        }
        if held.rollouts.len() == held.size {
            return Ok(Status::Late);
        }
        if self.is_stale(rollout.version) {
            return Ok(Status::Stale);
        }
        self.check_bytes(&held.id, held.bytes() + rollout.bytes)?;
        if !self.has_room(rollout.bytes) {
            self.expire(now);
            // Expected, and without a rollout until its deadline: its own group may be gone.
            if !self.held.contains_key(&turn) {
                return Ok(Status::Evicted);
            }
            if !self.ready.is_empty() {
                return Ok(Status::Full);
            }
            if !self.make_room(turn, rollout.bytes) {
                return Ok(Status::Evicted);
            }
        }
        self.bytes += rollout.bytes;
        let ready_size = self.limits.ready_size.unwrap_or(usize::MAX);
        let Some(held) = self.held.get_mut(&turn) else {
            unreachable!("the group that makes room is evicted last");
        };
        held.rollouts.push(rollout);
        if held.ready.is_none() && held.rollouts.len() >= held.size.min(ready_size) {
            self.make_ready(turn);
            return Ok(Status::Ready);
        }
        Ok(Status::Accepted)
    }

    /// Gives out the group that has been ready longest.
    pub fn take(&mut self, now: f64) -> Option<Given<P>> {
        self.expire(now);
        let (_, turn) = self.ready.pop_first()?;
        let held = self.remove(turn)?;
        let staleness = held
            .version()
            .map_or(0, |version| self.version.saturating_sub(version));
        let seconds = (now - held.opened).max(0.0);
        self.totals.give(held.rollouts.len(), staleness, seconds);
        let rollouts = held.rollouts.iter().map(|rollout| rollout.id.clone());
        self.remember(held.id.clone(), rollouts.collect());
        Some(Given {
            id: held.id,
            size: held.size,
            rollouts: held.rollouts,
            staleness,
            seconds,
        })
    }

    /// Moves to a policy version and evicts the groups that have become too old for it.
    ///
    /// # Errors
    /// [`BufferError::Backwards`] if it is below the present one.
    pub fn advance(&mut self, version: u64) -> Result<(), BufferError> {
        if version < self.version {
            return Err(BufferError::Backwards {
                version,
                present: self.version,
            });
        }
        self.version = version;
        let stale = self.held.iter().filter(|(_, held)| {
            let oldest = held.version();
            oldest.is_some_and(|oldest| self.is_stale(oldest))
        });
        for turn in stale.map(|(&turn, _)| turn).collect::<Vec<_>>() {
            self.evict(turn, Reason::Stale);
        }
        Ok(())
    }

    /// The groups evicted since this was last asked, to be queued again.
    pub fn evicted(&mut self) -> Vec<Evicted> {
        std::mem::take(&mut self.evicted)
    }

    /// What the evicted rollouts carried. To be dropped outside of the caller's lock, since
    /// dropping may run foreign code.
    pub fn released(&mut self) -> Vec<P> {
        std::mem::take(&mut self.released)
    }

    /// When the next group may be given out for its age, if nothing arrives.
    #[must_use]
    pub fn next_deadline(&self) -> Option<f64> {
        let oldest = self.waiting.first().map(|turn| &self.held[turn])?;
        Some(oldest.opened + self.limits.deadline?)
    }

    /// Groups held, those of them that are ready, and the bytes of all.
    #[must_use]
    pub fn held(&self) -> (usize, usize, u64) {
        (self.held.len(), self.ready.len(), self.bytes)
    }

    /// The present policy version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What has happened since the buffer was new.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }
}
