import json
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import gspo_rs as gs
from oracles.buffer import World

NAMES = ("group_size", "ready_size", "deadline", "max_staleness", "max_groups", "max_bytes")
ids = st.one_of(st.integers(-2, 2), st.sampled_from(["1", "a", "é"]))


def limits_of(*values):
    return {**dict(zip(NAMES, values, strict=True)), "remember": 10**9}


@settings(max_examples=150, stateful_step_count=60)
class BufferLife(RuleBasedStateMachine):
    @initialize(
        ready_size=st.none() | st.integers(1, 4),
        deadline=st.none() | st.integers(0, 4).map(float),
        max_staleness=st.none() | st.integers(0, 2),
        max_groups=st.integers(1, 5),
        max_bytes=st.none() | st.integers(8, 30),
    )
    def begin(self, ready_size, deadline, max_staleness, max_groups, max_bytes):
        self.world = World(limits_of(3, ready_size, deadline, max_staleness, max_groups, max_bytes))

    @rule(group_id=ids, size=st.integers(1, 4))
    def expect(self, group_id, size):
        self.world.expect(group_id, size)

    @rule(group_id=ids, name=ids, lag=st.integers(0, 3), n_bytes=st.integers(0, 12))
    def put(self, group_id, name, lag, n_bytes):
        self.world.put(group_id, name, lag, n_bytes)

    @rule()
    def take(self):
        self.world.take()

    @rule()
    def advance(self):
        self.world.advance()

    @rule()
    def wait(self):
        self.world.wait()

    @rule()
    def drain(self):
        self.world.drain()

    @rule()
    def save_and_restore(self):
        self.world.save_and_restore()

    @invariant()
    def check(self):
        if hasattr(self, "world"):
            self.world.check()


TestAnyLifeIsThatOfTheNaiveModel = BufferLife.TestCase


def play(n_events, seed):
    """Play `n_events` in one life that always moves on to new groups."""
    rng = random.Random(seed)
    world = World(limits_of(4, 3, 12.0, 2, 14, 400))
    first = 0
    for number in range(n_events):
        draw = rng.random()
        if draw < 0.80:
            lag, n_bytes = rng.choice([0, 0, 0, 1, 3]), rng.choice([*range(40), 401])
            world.put(first + rng.randrange(16), rng.randrange(4), lag, n_bytes)
        elif draw < 0.86:
            world.take()
        elif draw < 0.90:
            world.expect(first + rng.randrange(60), rng.randrange(1, 6))
        elif draw < 0.94:
            world.wait()
            first += 1
        elif draw < 0.95:
            world.advance()
        elif draw < 0.99:
            world.drain()
        elif draw < 0.9905:
            world.save_and_restore()
        if number % 50 == 0:
            world.check()
            # The model searches its list of given groups from end to end; the core keeps all.
            world.model.given = [group for group in world.model.given if group["id"] >= first]
    return world.seen


def test_every_rollout_of_a_random_life_comes_out_once_or_is_accounted_for():
    seen = play(20_000, seed=1)
    words = "accepted ready duplicate late stale full evicted taken bytes deadline error"
    assert {word for word in words.split() if not seen.get(word)} == set(), seen


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_every_rollout_of_a_million_events_comes_out_once_or_is_accounted_for(seed):
    assert sum(play(100_000, seed).values()) > 80_000


def test_a_rollout_is_told_why_it_is_refused():
    buffer = gs.GroupBuffer(group_size=2, ready_size=1, max_staleness=1, max_groups=1)
    assert buffer.put("a", 0, None, policy_version=0) == "ready"
    assert buffer.put("a", 0, None, policy_version=0) == "duplicate"
    assert buffer.put("b", 0, None, policy_version=0) == "full"
    assert buffer.get(timeout=0).complete is False
    assert buffer.put("a", 0, None, policy_version=0) == "duplicate"
    assert buffer.put("a", 1, None, policy_version=0) == "late"
    assert buffer.advance(2) == []
    assert buffer.put("b", 0, None, policy_version=0) == "stale"
    stats = buffer.stats()
    assert (stats.accepted, stats.duplicate, stats.late, stats.stale, stats.full) == (1, 2, 1, 1, 1)


def test_a_stale_group_is_returned_and_its_id_may_be_used_again():
    buffer = gs.GroupBuffer(group_size=2, max_staleness=1)
    buffer.put("slow", "r0", object(), policy_version=3)
    buffer.put("fast", "r0", object(), policy_version=4)
    evicted = buffer.advance(5)
    assert [(group.group_id, group.rollout_ids, group.reason) for group in evicted] == [
        ("slow", ("r0",), "stale")
    ]
    assert buffer.put("slow", "r0", object(), policy_version=5) == "accepted"
    assert buffer.stats().evicted_stale == 1


def test_a_slow_prompt_is_not_thrown_out_for_fast_ones():
    buffer = gs.GroupBuffer(group_size=2, max_groups=3, max_bytes=100)
    buffer.put("slow", 0, None, policy_version=0, n_bytes=40)
    for number in range(50):
        for rollout in range(2):
            buffer.put(number, rollout, None, policy_version=0, n_bytes=20)
        assert buffer.get(timeout=0).group_id == number
    buffer.put("x", 0, None, policy_version=0, n_bytes=30)
    buffer.put("y", 0, None, policy_version=0, n_bytes=30)
    assert buffer.put("slow", 1, None, policy_version=0, n_bytes=40) == "ready"
    assert [group.group_id for group in buffer.evicted()] == ["y", "x"]
    assert buffer.get(timeout=0).group_id == "slow"


def test_staleness_is_counted_from_the_oldest_rollout_of_a_group():
    buffer = gs.GroupBuffer(group_size=2)
    for number, version in enumerate([3, 5]):
        buffer.put("a", number, None, policy_version=version)
    buffer.advance(7)
    group = buffer.get()
    assert (group.staleness, group.policy_versions, group.complete) == (4, (3, 5), True)
    stats = buffer.stats()
    assert (stats.staleness_mean, stats.staleness_max) == (4.0, 4)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"group_size": 0}, "group_size is 0"),
        ({"max_bytes": 1.5}, "max_bytes is 1.5"),
        ({"deadline": -1.0}, "deadline is -1.0"),
        ({"deadline": float("nan")}, "deadline is nan"),
        ({"max_groups": None}, "max_groups and remember"),
    ],
)
def test_an_option_out_of_range_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        gs.GroupBuffer(**options)


def test_a_wrong_rollout_is_refused_by_name():
    buffer = gs.GroupBuffer(max_bytes=10)
    with pytest.raises(TypeError, match=r"the id 1\.5 is neither"):
        buffer.put(1.5, 0, None, policy_version=0, n_bytes=1)
    with pytest.raises(ValueError, match='size of group "a" is not known'):
        buffer.put("a", 0, None, policy_version=0, n_bytes=1)
    with pytest.raises(ValueError, match="n_bytes is missing"):
        buffer.put("a", 0, None, policy_version=0)
    buffer.expect("a", 2)
    with pytest.raises(ValueError, match="open with size 2, not 3"):
        buffer.expect("a", 3)
    with pytest.raises(ValueError, match="would hold 11 bytes, max_bytes is 10"):
        buffer.put("a", 0, None, policy_version=0, n_bytes=11)
    with pytest.raises(ValueError, match="policy_version is -1; it is a whole number of 0 to"):
        buffer.put("a", 0, None, policy_version=-1, n_bytes=1)
    with pytest.raises(TypeError, match=r"policy_version is 1\.0; it is a whole number of 0 to"):
        buffer.put("a", 0, None, policy_version=1.0, n_bytes=1)
    with pytest.raises(ValueError, match=r"the id 'a\\udc80' is no Unicode"):
        buffer.put("a", "a\udc80", None, policy_version=0, n_bytes=1)
    with pytest.raises(ValueError, match="n_bytes is -7; it is a whole number of 0 to"):
        buffer.put("a", 0, None, policy_version=0, n_bytes=-7)
    with pytest.raises(ValueError, match="size is -2; it is a whole number of 0 to"):
        buffer.expect("b", -2)
    with pytest.raises(ValueError, match="policy_version is -1; it is a whole number of 0 to"):
        buffer.advance(-1)
    buffer.advance(2)
    with pytest.raises(ValueError, match="policy_version 1 is below"):
        buffer.advance(1)
    assert buffer.stats().accepted == 0


def test_a_damaged_state_is_refused_and_leaves_the_buffer_as_it_was():
    buffer = gs.GroupBuffer(group_size=2)
    buffer.put("a", 0, [1, 2], policy_version=0)
    good = json.dumps(buffer.state_dict())
    for damage in ("format", "held", "totals"):
        state = json.loads(good)
        del state[damage]
        with pytest.raises(ValueError, match=damage):
            buffer.load_state_dict(state)
    state = json.loads(good)
    state["held"] *= 2
    with pytest.raises(ValueError, match='group "a" is there twice'):
        buffer.load_state_dict(state)
    state = json.loads(good)
    state["held"][0]["rollouts"] *= 2
    with pytest.raises(ValueError, match="has a rollout twice"):
        buffer.load_state_dict(state)
    state = json.loads(good)
    state["held"][0]["age"] = float("nan")
    with pytest.raises(ValueError, match='"age" is NaN; it is a number of seconds'):
        buffer.load_state_dict(state)
    assert buffer.put("a", 1, None, policy_version=0) == "ready"
    assert buffer.get().payloads == ([1, 2], None)
