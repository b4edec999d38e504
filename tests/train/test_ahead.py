"""The thread that samples ahead: how far, what it hands over, and how it ends."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.waiting import wait_until
from gspo_rs.rollouts.arrays import arrays_of
from gspo_rs.rollouts.rollouts import Ragged, Rollouts
from gspo_rs.samplers import SamplerError
from gspo_rs.train.rollout import ahead as module
from gspo_rs.train.rollout.ahead import Ahead, SamplerSilentError
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.visits import restored
from gspo_rs.train.world import World

OPTIONS = {"max_staleness": 2, "correct": False, "max_bytes": 10**9, "timeout": 60.0}


def sampled(places, versions, failed=()):
    """A group of two completions for each place, all tokens of a version; some have none."""
    kept = [row for row, place in enumerate(places) if place not in failed]
    tokens = Ragged.from_rows([[places[row], 1] for row in kept for _ in range(2)], np.int64)
    rows = [[versions[row]] * 2 for row in kept for _ in range(2)]
    rollouts = Rollouts(
        offsets=np.arange(len(kept) + 1) * 2,
        prompts=[str(places[row]) for row in kept for _ in range(2)],
        completions=["c"] * (2 * len(kept)),
        reward=np.zeros(2 * len(kept)),
        completion_tokens=tokens,
        policy_versions=Ragged.from_rows(rows, np.int64),
        group_ids=kept,
    )
    nothing = np.zeros(2 * len(kept), bool)
    seconds = {"time/generate": 0.0, "time/score": 0.0}
    return RolloutBatch(rollouts, nothing, seconds, logged={"right": [1.0]})


class Stub:
    """Samples at once, with the newest weights it has; counts what it was asked."""

    def __init__(self, **failed):
        self.step, self.asked, self.failed = 0, [], failed.get("failed", ())

    def refresh(self, step):
        self.step = step

    def sample(self, places, alive):
        self.asked.append((self.step, places))
        return sampled(places, [self.step] * len(places), self.failed)


@pytest.fixture
def begin():
    """Start an `Ahead` of batches of two; all are closed at the end."""
    begun = []

    def start(stub, states=(), held=None, step=0, total=99, **options):
        visits = restored(states, 2, World())
        options = {**OPTIONS, "left": lambda: total - stub.step, "patience": 9, **options}
        ahead = Ahead(stub.sample, stub.refresh, visits, **options)
        ahead.start(step, held or {})
        begun.append(ahead)
        return ahead

    yield start
    for ahead in begun:
        ahead.close()


def train(ahead, step):
    """Take a batch of two, train on it, and give the sampler the new weights."""
    taken = [ahead.take(), ahead.take()]
    ahead.train(0)
    ahead.trained()
    ahead.moved(step)
    return taken


def test_no_group_is_older_than_the_bound_and_the_sampler_is_as_far_ahead_as_it_may(begin):
    stub = Stub()
    ahead = begin(stub)
    found = []
    for step in range(1, 8):
        wait_until(lambda: len(ahead.visits.open) == 6)  # three batches
        found += train(ahead, step)
    assert [one.place for one in found] == list(range(14))
    assert [one.staleness for one in found] == [0, 0, 1, 1, *[2] * 10]
    assert [one.rollouts.prompts[0] for one in found] == [str(place) for place in range(14)]
    assert ahead.done().stale == 0


def test_nothing_is_sampled_beyond_the_last_batch(begin):
    stub = Stub()
    ahead = begin(stub, total=2)
    wait_until(lambda: ahead.waiting() == 4)
    train(ahead, 1), train(ahead, 2)
    time.sleep(0.05)
    assert [places for _, places in stub.asked] == [[0, 1], [2, 3]]
    assert not ahead.visits.open


@pytest.mark.parametrize("correct", [False, True])
def test_a_group_that_is_too_old_is_sampled_again_or_corrected(begin, correct):
    class Late(Stub):
        def sample(self, places, alive):
            super().sample(places, alive)
            late = 0 if len(self.asked) == 4 else self.step
            return sampled(places, [late] * len(places))

    ahead = begin(Late(), correct=correct)
    found = []
    for step in range(1, 6):
        wait_until(lambda: len(ahead.visits.at("sampled")) == 6)
        found += train(ahead, step)
    assert sorted(one.place for one in found) == list(range(10))
    assert max(one.staleness for one in found) == (3 if correct else 2)
    assert ahead.done().stale == (0 if correct else 2)


def test_a_visit_without_completions_is_dropped_and_another_takes_its_place(begin):
    ahead = begin(Stub(failed=(1, 2)), total=2)
    found = train(ahead, 1) + train(ahead, 2)
    assert [one.place for one in found] == [0, 3, 4, 5]
    assert ahead.visits.dropped == [1, 2]
    assert ahead.done().logged[0] == {"right": [1.0]}


def test_a_sampler_that_draws_nothing_at_all_is_an_error(begin):
    ahead = begin(Stub(failed=range(99)))
    with pytest.raises(SamplerError, match="the last 10 prompts got no completion at all"):
        ahead.take()


def test_backpressure_in_bytes_holds_the_sampler_back_and_a_group_beyond_them_is_an_error(begin):
    one = sampled([0], [0]).rollouts
    size = sum(array.nbytes for array in arrays_of(one).values())
    stub = Stub()
    ahead = begin(stub, max_bytes=size)
    wait_until(lambda: ahead.waiting() == 1)
    time.sleep(0.05)
    assert len(stub.asked) == 1
    assert [ahead.take().place for _ in range(2)] == [0, 1]
    ahead = begin(Stub(), max_bytes=size - 1)
    with pytest.raises(ValueError, match=r"takes \d+ bytes, and max_ahead_bytes = \d+; raise it"):
        ahead.take()


def test_an_error_of_the_sampler_ends_the_run_with_itself_and_a_hang_by_name(begin):
    class Broken(Stub):
        def sample(self, places, alive):
            raise OSError("the server is gone")

    ahead = begin(Broken())
    with pytest.raises(OSError, match="the server is gone"):
        ahead.take()
    with pytest.raises(OSError, match="the server is gone"), ahead.paused():
        pass

    gone = threading.Event()

    class Hanging(Stub):
        def sample(self, places, alive):
            gone.wait()

    ahead = begin(Hanging(), timeout=0.3)
    with pytest.raises(SamplerSilentError, match=r"nothing for 0\.3 s, with 2 groups under way"):
        ahead.take()
    assert not ahead.close(patience=0.1)
    gone.set()


def test_a_slow_sampler_that_reports_does_not_count_as_hanging_and_stops_when_it_is_asked(
    begin, monkeypatch
):
    # A clock of the test's own: a busy machine may let a thread wait for longer than the timeout.
    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow(Stub):
        def sample(self, places, alive):
            for _ in range(10**9 if self.asked else 10):
                time.sleep(0.05)
                clock[0] += 0.2
                alive()
            return super().sample(places, alive)

    ahead = begin(Slow(), timeout=0.3)
    assert ahead.take().place == 0
    assert ahead.close()


def test_the_sampler_is_refreshed_only_between_two_calls_unless_it_bears_more(begin):
    class Watched(Stub):
        busy = together = 0

        def refresh(self, step):
            self.together += self.busy
            super().refresh(step)

        def sample(self, places, alive):
            self.busy += 1
            time.sleep(0.02)
            found = super().sample(places, alive)
            self.busy -= 1
            return found

    stub = Watched()
    ahead = begin(stub)
    for step in range(1, 10):
        train(ahead, step)
    assert stub.together == 0


def test_what_is_in_flight_goes_on_after_a_restart_each_visit_once(begin):
    draw, places, states, held, step = np.random.default_rng(0), [], [], {}, 0
    for _ in range(6):
        stub = Stub(failed=(3,))
        begun = states[0]["begun"] if states else ()
        ahead = begin(stub, states, held, step, begun=begun)
        for _ in range(draw.integers(0, 3)):
            step += 1
            places += [one.place for one in train(ahead, step)]
        if draw.random() < 0.5:
            ahead.take()  # and killed before it is trained on
        state, held = ahead.state()
        states = [state]
        ahead.close()
    left = restored(states, 2, World())
    assert sorted([*places, *left.open, *left.dropped]) == list(range(2 * left.batch))
    assert len(places) == 2 * step > 8


def test_several_calls_at_once_come_in_any_order(begin):
    first = threading.Event()

    class Uneven(Stub):
        def sample(self, places, alive):
            if 0 in places:
                first.wait()
            return super().sample(places, alive)

    ahead = begin(Uneven(), concurrent=True)
    found = [ahead.take().place for _ in range(4)]
    assert sorted(found) == [2, 3, 4, 5]
    first.set()
    assert sorted(ahead.take().place for _ in range(2)) == [0, 1]


def test_the_version_of_a_group_is_that_of_its_oldest_token(begin):
    class Spanning(Stub):
        def sample(self, places, alive):
            found = sampled(places, [self.step] * len(places))
            versions = Ragged.from_rows([[max(self.step - 1, 0), self.step]] * 4, np.int64)
            return replace(found, rollouts=replace(found.rollouts, policy_versions=versions))

    ahead = begin(Spanning(), max_staleness=1)
    ages = [one.staleness for step in range(1, 5) for one in train(ahead, step)]
    assert max(ages) == 1
