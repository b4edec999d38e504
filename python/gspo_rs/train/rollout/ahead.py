"""Threads that sample groups ahead of training, which takes them from a `GroupBuffer`.

A *version* is the policy between two batches of rollouts; a *visit* is one time that a prompt's
turn comes, see `gspo_rs.train.rollout.visits`.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.rollouts.arrays import arrays_of
from gspo_rs.rollouts.buffer import GroupBuffer
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.samplers import SamplerError
from gspo_rs.train.rollout.collect import RolloutBatch
from gspo_rs.train.rollout.visits import Visits

__all__ = ["Ahead", "Done", "SamplerSilentError", "Taken"]

LOOK = 0.2
"""Seconds after which one who waits looks whether the other side is still there."""
Sample = Callable[[list[int], Callable[..., None]], RolloutBatch]


class SamplerSilentError(SamplerError):
    """A sampler that gives nothing any more; the message says for how long."""


class _StoppedError(Exception):
    """Ends a thread in the middle of its sampling."""


@dataclass(frozen=True)
class Taken:
    """A group that was taken, to be trained on or dropped.

    Attributes
    ----------
    place : int
        Its visit.
    rollouts : Rollouts
        One group.
    staleness : int
        Versions between the oldest of its tokens and the policy.
    seconds : float
        How long it has waited.
    """

    place: int
    rollouts: Rollouts
    staleness: int
    seconds: float


@dataclass
class Done:
    """What the threads have done since it was last asked.

    Attributes
    ----------
    seconds : dict of str to float
        To ``generate`` and to ``score``, and ``waiting`` for room or weights; of all threads.
    logged : list of dict
        Metrics that reward functions have logged.
    stale : int
        Groups that were too old, and are sampled again.
    """

    seconds: dict[str, float] = field(default_factory=partial(defaultdict, float))
    logged: list[dict[str, list[float]]] = field(default_factory=list)
    stale: int = 0


class Ahead:
    """Samples ahead of training in threads, and keeps whole groups until they are taken.

    Open visits, those in training too, are at most one batch more than `max_staleness` batches: so
    what is begun now is fresh enough when its turn comes, if groups come in the order of beginning.

    Parameters
    ----------
    sample : callable
        Returns the scored groups of some visits, with rows of these as `group_ids` and versions as
        optimizer steps in `policy_versions`; called in threads. Calls its second argument now and
        then, with anything, to show that it lives.
    refresh : callable
        Gives the sampler the weights of the policy after so many optimizer steps.
    visits : Visits
        Of this process.
    max_staleness : int
        In versions, at least 1.
    correct : bool
        Whether groups that are older are trained on all the same, and not sampled again.
    max_bytes : int
        Of groups that wait; nothing is begun while they have as many.
    timeout : float
        Seconds without a sign of the sampler after which it counts as hanging.
    left : callable
        Returns how many batches are still to be trained on, the one in training too; nothing is
        sampled beyond.
    patience : int
        Prompts without any completion, one after another, after which there is no hope.
    concurrent : bool
        Whether `sample` may run several times at once, and while the sampler is refreshed.
    begun : sequence of int
        Optimizer steps before each batch so far.
    """

    def __init__(
        self,
        sample: Sample,
        refresh: Callable[[int], None],
        visits: Visits,
        *,
        max_staleness: int,
        correct: bool,
        max_bytes: int,
        timeout: float,
        left: Callable[[], int],
        patience: int,
        concurrent: bool = False,
        begun: Sequence[int] = (),
    ) -> None:
        self._sample, self._refresh, self.visits, self.begun = sample, refresh, visits, list(begun)
        self._most, self._left, self._max_bytes = max_staleness + 1, left, max_bytes
        self._timeout, self._concurrent, self._patience = timeout, concurrent, patience
        self._bound = None if correct else max_staleness
        self._buffer = GroupBuffer(max_staleness=self._bound, max_bytes=max_bytes)
        self._sampled: dict[int, Rollouts] = {}
        self._taken: list[int] = []
        self._done = Done()
        self._turn = threading.Condition()
        self._active = self._paused = self._without = 0
        self._over = 0  # visits that were trained on since the sampler has had the weights
        self._stopped = False
        self._error: BaseException | None = None
        self._heard = time.monotonic()
        self._threads = [
            threading.Thread(target=self._work, name=f"gspo_rs-sampler-{number}", daemon=True)
            for number in range(self._most if concurrent else 1)
        ]

    def start(self, step: int, sampled: Mapping[int, Rollouts], *, within: bool = False) -> None:
        """Begin to sample after `step` optimizer steps, with the groups that a checkpoint had.

        The policy is a new version, unless that is `within` a batch.
        """
        self._refresh(step)
        if not self.begun or (step > self.begun[-1] and not within):
            self.begun.append(step)
        with self._turn:
            self._buffer.advance(len(self.begun) - 1)
            for place in self.visits.at("sampled"):
                if place not in sampled or self._offer(place, sampled[place]) != "accepted":
                    self.visits.move([place], "again")
        for thread in self._threads:
            thread.start()

    def versions(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which version the policy was after these optimizer steps, or came after."""
        return np.maximum(np.searchsorted(self.begun, steps, "right") - 1, 0)

    def moved(self, step: int) -> None:
        """Give the sampler the policy's weights where it has moved: pause, refresh, go on."""
        if step == self.begun[-1]:
            return
        with self.paused():
            self._refresh(step)
            with self._turn:
                self._over = 0
                self.begun.append(step)
                gone = self._buffer.advance(len(self.begun) - 1)
                self._sample_again([int(group.group_id) for group in gone])
                self._turn.notify_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the threads from sampling, once they are done with what they have begun.

        A sampler that may be used by several at once goes on.

        Raises
        ------
        SamplerSilentError
            And whatever a thread ended with.
        """
        if self._concurrent:
            yield
            return
        with self._turn:
            self._paused += 1
        try:
            with self._turn:
                self._wait_until(lambda: not self._active)
            yield
        finally:
            with self._turn:
                self._paused -= 1
                self._turn.notify_all()

    def take(self) -> Taken:
        """Wait for a group and take it.

        Raises
        ------
        SamplerSilentError
            And whatever a thread ended with.
        """
        with self._turn:
            self._wait_until(lambda: self._buffer.stats().ready_groups > 0)
            given = self._buffer.get(timeout=0)
            place = int(given.group_id)
            self._taken.append(place)
            self._turn.notify_all()
            return Taken(place, self._sampled[place], given.staleness, given.seconds)

    def drop(self, place: int) -> None:
        """Say that a group that was taken is not trained on."""
        with self._turn:
            self._taken.remove(place)
            self.visits.move([place], "dropped")
            del self._sampled[place]

    def train(self, recorded: int) -> None:
        """Say that the groups that were taken are now in training.

        So many of the visits that were dropped are noted with them.
        """
        with self._turn:
            del self.visits.dropped[:recorded]
            self.visits.move(self._taken, "training")
            for place in self._taken:
                del self._sampled[place]
            self._taken.clear()

    def trained(self) -> None:
        """Say that the batch in training is over; its room is free once the policy has `moved`.

        What is begun before has its old weights, and would be too old by one when its turn comes.
        """
        with self._turn:
            over = self.visits.at("training")
            self._over += len(over)
            self.visits.move(over, "trained")

    def waiting(self) -> int:
        """Return how many groups wait to be taken."""
        return self._buffer.stats().ready_groups

    def done(self) -> Done:
        """Return what the threads have done since this was last called."""
        with self._turn:
            done, self._done = self._done, Done()
        return done

    def state(self) -> tuple[dict[str, Any], dict[int, Rollouts]]:
        """Return the visits and the groups that are sampled, as they are at one moment."""
        with self._turn:
            return {"begun": list(self.begun), **self.visits.state()}, dict(self._sampled)

    def close(self, patience: float = 5.0) -> bool:
        """Stop the threads; return whether they have ended, which one that hangs does not."""
        with self._turn:
            self._stopped = True
            self._turn.notify_all()
        until = time.monotonic() + patience
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        """Sample until the end; what goes wrong is raised where a group is taken."""
        try:
            while places := self._begin():
                self._hand_over(places, self._sample(places, self._alive))
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 -- raised in the thread that trains
            with self._turn:
                self._error = self._error or error
                self._turn.notify_all()

    def _alive(self, *_: object) -> None:
        self._heard = time.monotonic()
        if self._stopped:
            raise _StoppedError

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait for the threads, as long as they live."""
        began = time.monotonic()
        while not ready() or self._error is not None:
            if self._error is not None:
                raise self._error
            if time.monotonic() - max(self._heard, began) > self._timeout:
                raise SamplerSilentError(
                    f"the sampler gave nothing for {self._timeout:g} s, with"
                    f" {len(self.visits.at('sampling'))} groups under way; if it may take so long,"
                    " raise sampler_timeout"
                )
            self._turn.wait(LOOK)

    def _begin(self) -> list[int]:
        """Wait until there is room for more, and begin it; an empty list where it is over."""
        with self._turn:
            while not self._stopped:
                if not self._paused and self._has_room():
                    self._active += 1
                    self._heard = time.monotonic()
                    return self.visits.begin()
                began = time.monotonic()
                self._turn.wait(LOOK)
                self._done.seconds["waiting"] += time.monotonic() - began
        return []

    def _has_room(self) -> bool:
        if self._buffer.stats().n_bytes >= self._max_bytes:
            return False
        if self.visits.at("again"):
            return True
        share, n_open = len(self.visits.share), len(self.visits.open)
        if n_open >= self._left() * share:
            return False
        return n_open + self._over + share <= self._most * share

    def _hand_over(self, places: list[int], batch: RolloutBatch) -> None:
        """Put the groups into the buffer; visits without a completion are over."""
        rows = list(batch.rollouts.group_ids or ())
        with self._turn:
            self._active -= 1
            self._alive()
            self._done.logged.append(batch.logged)
            for name in ("generate", "score"):
                self._done.seconds[name] += batch.seconds[f"time/{name}"]
            self._drop_without([p for row, p in enumerate(places) if row not in rows], places)
            for group, row in enumerate(rows):
                one = batch.rollouts.select([group])
                while (status := self._offer(places[row], one)) == "full":
                    self._turn.wait(LOOK)
                    self._alive()
                if status == "accepted":
                    self.visits.move([places[row]], "sampled")
                elif status == "stale":
                    self._sample_again([places[row]])
                self._sample_again([int(gone.group_id) for gone in self._buffer.evicted()])
            self._turn.notify_all()

    def _drop_without(self, without: list[int], places: list[int]) -> None:
        """Count visits that got no completion as over, as long as others get some."""
        self.visits.move(without, "dropped")
        self._without = self._without + len(without) if without == places else 0
        if self._without >= self._patience:
            raise SamplerError(f"the last {self._without} prompts got no completion at all")

    def _offer(self, place: int, rollouts: Rollouts) -> str:
        """Put a group into the buffer, as old as the oldest of its tokens."""
        assert rollouts.policy_versions is not None
        versions = self.versions(rollouts.policy_versions.values)
        version = int(versions.min(initial=len(self.begun) - 1))
        if self._bound is not None and len(self.begun) - 1 - version > self._bound:
            return "stale"
        n_bytes = sum(array.nbytes for array in arrays_of(rollouts).values())
        if n_bytes > self._max_bytes:
            raise ValueError(
                f"a group of {rollouts.n_rollouts} completions takes {n_bytes:,} bytes, and"
                f" max_ahead_bytes = {self._max_bytes:,}; raise it"
            )
        status: str = self._buffer.expect(place, rollouts.n_rollouts)
        # The first rollout counts for all, so that a group is never there in part.
        for row in range(rollouts.n_rollouts):
            if status not in ("full", "evicted"):
                size = 0 if row else n_bytes
                status = self._buffer.put(place, row, None, policy_version=version, n_bytes=size)
        if status != "ready":
            return status
        self._sampled[place] = rollouts
        return "accepted"

    def _sample_again(self, places: list[int]) -> None:
        self.visits.move(places, "again")
        for place in places:
            self._sampled.pop(place, None)
        self._done.stale += len(places)
