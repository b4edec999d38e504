//! The moves of groups between the parts of the buffer.

use super::error::BufferError;
use super::group::{Evicted, Held, Id, Reason};
use super::group_buffer::Buffer;

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
