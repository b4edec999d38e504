//! Random lives of a buffer, held against what must never happen to a rollout.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::group::Status;
use super::tally::Tally;
use super::{Buffer, BufferError, Id, Limits, Rollout, Totals};

#[derive(Debug, Clone)]
enum Event {
    Expect(i64, usize),
    Put(i64, i64, u64, u64),
    Take,
    Advance,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..9i64, 1..4usize).prop_map(|(group, size)| Event::Expect(group, size)),
        8 => (0..9i64, 0..4i64, 0..3u64, 0..9u64).prop_map(|(g, r, v, b)| Event::Put(g, r, v, b)),
        2 => Just(Event::Take),
        1 => Just(Event::Advance),
        1 => Just(Event::Wait),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let some = proptest::option::of::<std::ops::Range<usize>>;
    (
        some(1..4),
        some(0..3),
        some(8..20),
        any::<bool>(),
        1..5usize,
    )
        .prop_map(|(ready_size, stale, bytes, deadline, max_groups)| Limits {
            group_size: Some(3),
            ready_size,
            deadline: deadline.then_some(2.5),
            max_staleness: stale.map(|stale| stale as u64),
            max_groups,
            max_bytes: bytes.map(|bytes| bytes as u64),
            remember: 1000,
        })
}

/// A buffer beside what was seen of it: the payloads that are in it and those that came out.
struct Life {
    buffer: Buffer<u64>,
    now: f64,
    put: u64,
    inside: BTreeSet<u64>,
    out: BTreeSet<u64>,
    given: BTreeMap<Id, usize>,
}

impl Life {
    fn live(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Expect(group, size) => {
                let _ = self.buffer.expect(&Id::Int(group), size, self.now);
            }
            Event::Put(group, id, version, bytes) => self.put(group, id, version, bytes),
            Event::Take => self.take()?,
            Event::Advance => self.buffer.advance(self.buffer.version() + 1).unwrap(),
            Event::Wait => self.now += 1.0,
        }
        for payload in self.buffer.released() {
            prop_assert!(self.inside.remove(&payload) && self.out.insert(payload));
        }
        let (groups, ready, bytes) = self.buffer.held();
        let limits = &self.buffer.limits;
        prop_assert!(groups <= limits.max_groups && ready <= groups);
        prop_assert!(bytes <= limits.max_bytes.unwrap_or(u64::MAX));
        Ok(())
    }

    fn put(&mut self, group: i64, id: i64, version: u64, bytes: u64) {
        self.put += 1;
        let rollout = Rollout {
            id: Id::Int(id),
            version: version + self.buffer.version().saturating_sub(1),
            bytes,
            payload: self.put,
        };
        let status = self.buffer.put(&Id::Int(group), rollout, self.now);
        if let Ok(Status::Accepted | Status::Ready) = status {
            self.inside.insert(self.put);
        }
    }

    fn take(&mut self) -> Result<(), TestCaseError> {
        let Some(given) = self.buffer.take(self.now) else {
            return Ok(());
        };
        prop_assert!(self.given.insert(given.id, given.size).is_none());
        prop_assert!((1..=given.size).contains(&given.rollouts.len()));
        for rollout in given.rollouts {
            prop_assert!(self.inside.remove(&rollout.payload));
            prop_assert!(self.out.insert(rollout.payload));
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_rollout_taken_in_comes_out_once_or_is_still_held(
        limits in limits(), events in prop::collection::vec(event(), 0..200), cut in 0..200usize,
    ) {
        let mut life = Life {
            buffer: Buffer::new(limits.clone()),
            now: 0.0,
            put: 0,
            inside: BTreeSet::new(),
            out: BTreeSet::new(),
            given: BTreeMap::new(),
        };
        for (number, event) in events.iter().enumerate() {
            if number == cut {
                let state = life.buffer.state(life.now, |payload| *payload);
                life.buffer = Buffer::restore(limits.clone(), state.clone(), life.now).unwrap();
                prop_assert_eq!(life.buffer.state(life.now, |payload| *payload), state);
            }
            life.live(event)?;
        }
        let state = life.buffer.state(life.now, |payload| *payload);
        let held = state.held.iter().flat_map(|held| &held.rollouts);
        let held: BTreeSet<u64> = held.map(|rollout| rollout.payload).collect();
        prop_assert_eq!(&held, &life.inside);
        let count = |tally| life.buffer.totals().counts[tally as usize];
        let gone = count(Tally::GivenRollouts) + count(Tally::EvictedRollouts);
        prop_assert_eq!(gone, life.out.len() as u64);
        prop_assert_eq!(count(Tally::Accepted), gone + held.len() as u64);
    }
}

#[test]
fn the_names_of_the_counts_are_in_the_order_of_the_tally() {
    assert_eq!(Totals::NAMES[Tally::Full as usize], "full");
    assert_eq!(Totals::NAMES[Tally::EvictedStale as usize], "evicted_stale");
    assert_eq!(Totals::NAMES[Tally::StalenessMax as usize], "staleness_max");
}

#[test]
fn a_refused_rollout_changes_nothing() {
    let limits = Limits {
        group_size: None,
        ready_size: None,
        deadline: None,
        max_staleness: None,
        max_groups: 1,
        max_bytes: Some(10),
        remember: 10,
    };
    let mut buffer = Buffer::new(limits);
    let rollout = |bytes| Rollout {
        id: Id::Int(0),
        version: 0,
        bytes,
        payload: (),
    };
    let (a, b) = (Id::Text("a".into()), Id::Int(1));
    let unknown = BufferError::UnknownSize { group: a.clone() };
    assert_eq!(buffer.put(&a, rollout(1), 0.0), Err(unknown));
    assert_eq!(buffer.expect(&a, 2, 0.0), Ok(Status::Accepted));
    let too_large = buffer.put(&a, rollout(11), 0.0).unwrap_err();
    let sentence = "group \"a\" would hold 11 bytes, max_bytes is 10; raise it";
    assert_eq!(too_large.to_string(), sentence);
    assert_eq!(buffer.expect(&b, 2, 0.0), Ok(Status::Full));
    assert_eq!(buffer.held(), (1, 0, 0));
}

#[test]
fn a_rollout_without_room_whose_group_was_empty_at_its_deadline_hears_that_it_is_gone() {
    let limits = Limits {
        group_size: Some(3),
        ready_size: None,
        deadline: Some(2.5),
        max_staleness: None,
        max_groups: 4,
        max_bytes: Some(9),
        remember: 10,
    };
    let mut buffer = Buffer::new(limits);
    let rollout = |bytes| Rollout {
        id: Id::Int(0),
        version: 0,
        bytes,
        payload: (),
    };
    assert_eq!(buffer.expect(&Id::Int(8), 1, 0.0), Ok(Status::Accepted));
    assert_eq!(
        buffer.put(&Id::Int(1), rollout(4), 2.0),
        Ok(Status::Accepted)
    );
    assert_eq!(
        buffer.put(&Id::Int(8), rollout(6), 3.0),
        Ok(Status::Evicted)
    );
    let evicted: Vec<Id> = buffer.evicted().into_iter().map(|group| group.id).collect();
    assert_eq!(evicted, [Id::Int(8)]);
    assert_eq!(buffer.held(), (1, 0, 4));
}
