"""Buffer that forms groups from rollouts arriving in any order, from many threads or tasks."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gspo_rs import _core
from gspo_rs.rollouts.notifier import Notifier

__all__ = ["BufferStats", "EvictedGroup", "GivenGroup", "GroupBuffer", "Status"]

Id = int | str
"""The name of a group or of a rollout."""

Status = Literal["accepted", "ready", "duplicate", "late", "stale", "full", "evicted"]
"""What became of a rollout; see `GroupBuffer.put`."""

# A wait looks no more often than this for groups past a deadline: one of 0 would spin.
NAP = 0.001

LARGEST = 2**63 - 1
"""Of the whole numbers that the core and JSON readers can hold."""


@dataclass(frozen=True)
class GivenGroup:
    """A group that a `GroupBuffer` gave out.

    Attributes
    ----------
    group_id : int or str
        Its name.
    size : int
        Rollouts that were expected; fewer came if the group is not `complete`.
    staleness : int
        Policy versions between its oldest rollout and the present policy.
    seconds : float
        How long the buffer held it, from its opening.
    rollout_ids : tuple of int or str
        The rollouts that came, in that order.
    policy_versions : tuple of int
        The version of the policy that began each.
    payloads : tuple
        What was put for each.
    """

    group_id: Id
    size: int
    staleness: int
    seconds: float
    rollout_ids: tuple[Id, ...]
    policy_versions: tuple[int, ...]
    payloads: tuple[Any, ...]

    @property
    def complete(self) -> bool:
        """Whether every rollout came that was expected."""
        return len(self.payloads) == self.size


@dataclass(frozen=True)
class EvictedGroup:
    """A group that a `GroupBuffer` evicted, to be sampled again.

    Attributes
    ----------
    group_id : int or str
        Its name, which may be used again.
    size : int
        Rollouts that were expected.
    rollout_ids : tuple of int or str
        Those that had come. What they carried is let go at once: that is what makes room.
    reason : {"stale", "bytes", "deadline"}
        A policy too old; want of room, as the youngest group; a deadline before any rollout.
    """

    group_id: Id
    size: int
    rollout_ids: tuple[Id, ...]
    reason: Literal["stale", "bytes", "deadline"]


@dataclass(frozen=True)
class BufferStats:
    """What a `GroupBuffer` holds, and what has happened in it since it was new.

    Attributes
    ----------
    policy_version, groups, ready_groups, n_bytes : int
        As of now; `groups` counts the ready ones too.
    accepted, duplicate, late, stale, full : int
        Rollouts put, by what became of them; `full` counts those that were evicted on arrival.
        ``accepted == given_rollouts + evicted_rollouts +`` those that are held.
    given_groups, given_rollouts : int
        What was given out.
    evicted_stale, evicted_bytes, evicted_deadline : int
        Groups evicted, by reason.
    evicted_rollouts : int
        Rollouts in them.
    staleness_mean, staleness_max : float, int
        Of the groups given out, in policy versions; the mean of none is 0.
    seconds_mean, seconds_max : float
        How long those stayed.
    """

    policy_version: int
    groups: int
    ready_groups: int
    n_bytes: int
    accepted: int
    duplicate: int
    late: int
    stale: int
    full: int
    given_groups: int
    given_rollouts: int
    evicted_stale: int
    evicted_bytes: int
    evicted_deadline: int
    evicted_rollouts: int
    staleness_mean: float
    staleness_max: int
    seconds_mean: float
    seconds_max: float


class GroupBuffer:
    """Buffer that turns rollouts in any order into whole groups, between samplers and a trainer.

    Any number of threads may call any method. A group is given out once, in the order in which
    groups become ready: when it is complete, or as the options say earlier.

    Parameters
    ----------
    group_size : int, optional
        Rollouts of a group that `expect` did not announce.
    ready_size : int, optional
        A group may be given out with this many rollouts; more are taken in until it is.
    deadline : float, optional
        A group may be given out this many seconds after it was opened, with those that came; one
        to which none came is evicted.
    max_staleness : int, optional
        How many policy versions a rollout may lag behind the present one.
    max_groups : int
        Groups held at most, ready ones included.
    max_bytes : int, optional
        Bytes held at most, by the `n_bytes` of each rollout.
    remember : int
        Groups given out of which late rollouts and duplicates are still known. A rollout that
        comes after that many other groups would open its group anew.

    Raises
    ------
    ValueError
        If an option is out of its range; the message names it.

    Notes
    -----
    **Admission before eviction.** A new group is refused (``"full"``) while there is no room, and
    one that was let in is not thrown out for a newcomer: so a slow prompt is not starved by fast
    ones. Only when the bytes run out among groups of which none is ready, the youngest go, so
    that the oldest always comes through.

    A group's id names one visit to a prompt: give the next visit a new id, for instance
    ``f"{epoch}/{prompt}"``. After an eviction the same id may be used again.

    Examples
    --------
    >>> buffer = GroupBuffer(group_size=2, max_staleness=1)
    >>> buffer.put("2+2=", 0, "4", policy_version=0)
    'accepted'
    >>> buffer.put("2+2=", 0, "4", policy_version=0)
    'duplicate'
    >>> buffer.put("2+2=", 1, "5", policy_version=0)
    'ready'
    >>> buffer.get().payloads
    ('4', '5')
    >>> buffer.put("2+2=", 2, "22", policy_version=0)
    'late'
    """

    def __init__(
        self,
        group_size: int | None = None,
        *,
        ready_size: int | None = None,
        deadline: float | None = None,
        max_staleness: int | None = None,
        max_groups: int = 4096,
        max_bytes: int | None = None,
        remember: int = 65_536,
    ) -> None:
        self._limits = {
            "group_size": group_size,
            "ready_size": ready_size,
            "deadline": deadline,
            "max_staleness": max_staleness,
            "max_groups": max_groups,
            "max_bytes": max_bytes,
            "remember": remember,
        }
        _check_limits(self._limits)
        self._core = _core.GroupBuffer(self._limits, None, time.monotonic())
        self._notifier = Notifier(self._take, self._due)

    def expect(self, group_id: Id, size: int) -> Literal["accepted", "full", "late"]:
        """Open a group of `size` rollouts before the first: ask, and hold back if it is full.

        Returns
        -------
        str
            ``"accepted"`` if it is open, ``"full"`` if there is no room for another group,
            ``"late"`` if it was given out before.

        Raises
        ------
        ValueError
            If the group is open with another size, or `size` is 0.
        TypeError
            If the id is neither an integer of 64 bits nor a string.
        """
        _check_whole(size=size)
        return self._core.expect(group_id, size, time.monotonic())

    def put(
        self,
        group_id: Id,
        rollout_id: Id,
        payload: Any,
        *,
        policy_version: int,
        n_bytes: int | None = None,
    ) -> Status:
        """Hand over one rollout; never waits.

        Parameters
        ----------
        group_id, rollout_id : int or str
            The group, and the rollout within it.
        payload : object
            Whatever belongs to the rollout; it is kept, not looked at.
        policy_version : int
            The version of the policy that began it.
        n_bytes : int, optional
            What it counts towards `max_bytes`; needed with it.

        Returns
        -------
        str
            - ``"accepted"``: it is held;
            - ``"ready"``: the same, and its group may now be given out;
            - ``"duplicate"``: the group has, or had, a rollout of this id;
            - ``"late"``: the group is complete, or was given out, without it;
            - ``"stale"``: it lags more than `max_staleness` behind;
            - ``"full"``: no room; try again when a group was taken;
            - ``"evicted"``: no room, and its group is evicted as a whole (see `evicted`): it was
              the youngest while there was no group to take, or still empty at its deadline.

        Raises
        ------
        ValueError
            For the first rollout of a group of unknown size, a group that alone would exceed
            `max_bytes`, a negative number, or if `n_bytes` is missing. The buffer is as before.
        TypeError
            If an id is neither an integer of 64 bits nor a string, or a number is not whole.
        """
        if n_bytes is None:
            if self._limits["max_bytes"] is not None:
                raise ValueError("n_bytes is missing; max_bytes counts it")
            n_bytes = 0
        rollout = (rollout_id, policy_version, n_bytes)
        try:
            status = self._core.put(group_id, rollout, payload, time.monotonic())
        except (OverflowError, TypeError):
            _check_whole(policy_version=policy_version, n_bytes=n_bytes)
            raise
        if status == "ready":
            self._notifier.notify()
        return status

    def get(self, timeout: float | None = None) -> GivenGroup:
        """Wait for a group and take it.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; 0 looks once. Without it, wait as long as it takes. Ctrl-C
            ends the wait at once.

        Returns
        -------
        GivenGroup

        Raises
        ------
        TimeoutError
            If none was ready in time.
        """
        return self._notifier.wait(timeout)

    async def aget(self, timeout: float | None = None) -> GivenGroup:
        """Wait for a group as `get` does, as a task of the running event loop.

        A task that is cancelled while it waits takes no group with it.

        Examples
        --------
        >>> import asyncio
        >>> buffer = GroupBuffer(group_size=1)
        >>> _ = buffer.put(7, 0, "payload", policy_version=0)
        >>> asyncio.run(buffer.aget()).group_id
        7
        """
        return await self._notifier.wait_async(timeout)

    def advance(self, policy_version: int) -> list[EvictedGroup]:
        """Say that the policy has moved on, and evict what is too old for it.

        Returns
        -------
        list of EvictedGroup
            What `evicted` returns: to be queued again.

        Raises
        ------
        ValueError
            If `policy_version` is below the present one; it only rises.
        """
        _check_whole(policy_version=policy_version)
        self._core.advance(policy_version)
        return self.evicted()

    def evicted(self) -> list[EvictedGroup]:
        """Return the groups evicted since this, or `advance`, was last called: each once."""
        return [
            EvictedGroup(group_id, size, tuple(rollout_ids), reason)
            for group_id, size, rollout_ids, reason in self._core.evicted()
        ]

    def stats(self) -> BufferStats:
        """Return what the buffer holds and what has happened in it."""
        totals = self._core.totals()
        groups, ready_groups, n_bytes, policy_version = self._core.held()
        given = max(totals["given_groups"], 1)
        return BufferStats(
            policy_version=policy_version,
            groups=groups,
            ready_groups=ready_groups,
            n_bytes=n_bytes,
            staleness_mean=totals.pop("staleness_sum") / given,
            seconds_mean=totals.pop("seconds_sum") / given,
            **totals,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the buffer knows but its options.

        Returns
        -------
        dict
            Of strings, numbers, None and lists of these, besides the payloads, which are as they
            were put: where JSON can hold those, it can hold this. Times are ages in seconds.
        """
        return self._core.state(time.monotonic())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state by that of `state_dict`, which may have gone through JSON.

        Raises
        ------
        ValueError
            If it is no such state, or exceeds the options; the message says what is wrong. The
            buffer is as before.
        TypeError
            If an id in it is no id.

        Examples
        --------
        >>> import json
        >>> first, second = GroupBuffer(group_size=2), GroupBuffer(group_size=2)
        >>> _ = first.put("a", 0, {"reward": 1.0}, policy_version=3)
        >>> second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        >>> second.put("a", 0, {"reward": 1.0}, policy_version=3)
        'duplicate'
        """
        restored = _core.GroupBuffer(self._limits, dict(state), time.monotonic())
        self._core = restored
        self._notifier.notify()

    def _take(self, now: float) -> GivenGroup | None:
        given = self._core.take(now)
        if given is None:
            return None
        group_id, size, staleness, seconds, names, versions, payloads = given
        rollouts = tuple(names), tuple(versions), tuple(payloads)
        return GivenGroup(group_id, size, staleness, seconds, *rollouts)

    def _due(self, now: float) -> float | None:
        deadline = self._limits["deadline"]
        if deadline is None:
            return None
        # A group that opens during the wait is due after those that are open.
        due = self._core.next_deadline() or now + deadline
        return max(due, now + NAP)


def _check_limits(limits: Mapping[str, float | None]) -> None:
    """Raise for an option of `GroupBuffer` that is out of range.

    Raises
    ------
    ValueError
        Names the first and its range.
    """
    for name, value in limits.items():
        least = 0 if name in ("max_staleness", "remember", "deadline") else 1
        whole = isinstance(value, int) and not isinstance(value, bool)
        if name == "deadline":
            whole = isinstance(value, int | float) and value == value
        if value is not None and not (whole and value >= least):
            kind = "seconds" if name == "deadline" else "a whole number"
            raise ValueError(f"{name} is {value!r}; it is {kind} of at least {least}")
    if limits["max_groups"] is None or limits["remember"] is None:
        raise ValueError("max_groups and remember bound the buffer; they cannot be None")


def _check_whole(**numbers: int) -> None:
    """Raise for a number that the core cannot hold.

    Raises
    ------
    ValueError, TypeError
        Names the first.

    Examples
    --------
    >>> _check_whole(policy_version=0, n_bytes=12)
    """
    for name, value in numbers.items():
        problem = f"{name} is {value!r}; it is a whole number of 0 to 2**63 - 1"
        try:
            number = operator.index(value)
        except TypeError as error:
            raise TypeError(problem) from error
        if not 0 <= number <= LARGEST:
            raise ValueError(problem)
