//! A buffer laid open, to be written down and taken up again.

use super::error::BufferError;
use super::group::{Evicted, Held, Id, Rollout};
use super::group_buffer::{Buffer, Limits};
use super::tally::Totals;

/// Everything that a buffer knows but its limits; times are ages, since clocks do not survive.
#[derive(Debug, Clone, PartialEq)]
pub struct State<P> {
    /// The present policy version.
    pub version: u64,
    /// Groups in the order of their admission.
    pub held: Vec<HeldState<P>>,
    /// Groups given out, oldest first, with the names of their rollouts.
    pub given: Vec<(Id, Vec<Id>)>,
    /// Groups thrown out that nobody has asked for.
    pub evicted: Vec<Evicted>,
    /// What was counted.
    pub totals: Totals,
}

/// A group in a buffer laid open.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldState<P> {
    /// Its name.
    pub id: Id,
    /// Rollouts expected.
    pub size: usize,
    /// Seconds since it was opened.
    pub age: f64,
    /// Its place among those that are ready, from 0.
    pub ready: Option<usize>,
    /// Those that came.
    pub rollouts: Vec<Rollout<P>>,
}

impl<P> Buffer<P> {
    /// What the rollouts that are held carry.
    pub fn payloads(&self) -> impl Iterator<Item = &P> {
        let rollouts = self.held.values().flat_map(|held| &held.rollouts);
        rollouts.map(|rollout| &rollout.payload)
    }

    /// Forgets every group, and hands back what their rollouts carried.
    pub fn clear(&mut self) -> Vec<P> {
        let emptied = Self::new(self.limits.clone());
        let held = std::mem::replace(self, emptied).held;
        let rollouts = held.into_values().flat_map(|held| held.rollouts);
        rollouts.map(|rollout| rollout.payload).collect()
    }

    /// Lays the buffer open; `copy` copies what a rollout carries.
    pub fn state<Q>(&self, now: f64, copy: impl Fn(&P) -> Q) -> State<Q> {
        let place = |ready: u64| self.ready.range(..ready).count();
        let held = self.held.values().map(|held| HeldState {
            id: held.id.clone(),
            size: held.size,
            age: now - held.opened,
            ready: held.ready.map(place),
            rollouts: held.rollouts.iter().map(|r| copied(r, &copy)).collect(),
        });
        let given = self.given_order.iter();
        State {
            version: self.version,
            held: held.collect(),
            given: given
                .map(|id| (id.clone(), self.given[id].clone()))
                .collect(),
            evicted: self.evicted.clone(),
            totals: self.totals.clone(),
        }
    }

    /// Takes up a buffer that was laid open.
    ///
    /// # Errors
    /// [`BufferError::BadState`] if a name comes twice, a group has more rollouts than its size,
    /// the order of those that are ready has gaps, or the limits are exceeded.
    pub fn restore(limits: Limits, state: State<P>, now: f64) -> Result<Self, BufferError> {
        let mut buffer = Self::new(limits);
        buffer.version = state.version;
        buffer.totals = state.totals;
        buffer.evicted = state.evicted;
        for (id, rollouts) in state.given {
            refuse(buffer.given.contains_key(&id), || {
                format!("group {id} was given out twice")
            })?;
            buffer.remember(id, rollouts);
        }
        let mut ready: Vec<(usize, u64)> = Vec::new();
        for held in state.held {
            let place = held.ready;
            let turn = buffer.hold(held, now)?;
            ready.extend(place.map(|place| (place, turn)));
        }
        ready.sort_unstable();
        let gaps = !ready.iter().map(|&(place, _)| place).eq(0..ready.len());
        refuse(gaps, || "the order of the ready groups has gaps".into())?;
        for (_, turn) in ready {
            buffer.make_ready(turn);
        }
        let (groups, _, bytes) = buffer.held();
        refuse(
            groups > buffer.limits.max_groups || !buffer.has_room(0),
            || format!("{groups} groups of {bytes} bytes exceed max_groups or max_bytes"),
        )?;
        Ok(buffer)
    }

    fn hold(&mut self, state: HeldState<P>, now: f64) -> Result<u64, BufferError> {
        let id = state.id.clone();
        let twice = self.turns.contains_key(&id) || self.given.contains_key(&id);
        refuse(twice, || format!("group {id} is there twice"))?;
        let (size, came) = (state.size, state.rollouts.len());
        refuse(came > size || size == 0, || {
            format!("group {id} of size {size} has {came} rollouts")
        })?;
        let mut names: Vec<&Id> = state.rollouts.iter().map(|rollout| &rollout.id).collect();
        names.sort_unstable();
        refuse(names.windows(2).any(|two| two[0] == two[1]), || {
            format!("group {id} has a rollout twice")
        })?;
        let turn = self.open(&id, size, now - state.age);
        self.bytes += state
            .rollouts
            .iter()
            .map(|rollout| rollout.bytes)
            .sum::<u64>();
        if let Some(Held { rollouts, .. }) = self.held.get_mut(&turn) {
            *rollouts = state.rollouts;
        }
        Ok(turn)
    }
}

fn copied<P, Q>(rollout: &Rollout<P>, copy: impl Fn(&P) -> Q) -> Rollout<Q> {
    Rollout {
        id: rollout.id.clone(),
        version: rollout.version,
        bytes: rollout.bytes,
        payload: copy(&rollout.payload),
    }
}

fn refuse(wrong: bool, problem: impl FnOnce() -> String) -> Result<(), BufferError> {
    if wrong {
        Err(BufferError::BadState { problem: problem() })
    } else {
        Ok(())
    }
}
