"""Groups out of rollouts that arrive in any order, from many threads or tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from gspo_rs import _core
from gspo_rs.bell import Bell
from gspo_rs.buffer_groups import BufferStats, EvictedGroup, GivenGroup, Id
from gspo_rs.buffer_limits import check_limits, check_whole

__all__ = ["BufferStats", "EvictedGroup", "GivenGroup", "GroupBuffer", "Status"]

Status = Literal["accepted", "ready", "duplicate", "late", "stale", "full", "evicted"]
"""What became of a rollout; see `GroupBuffer.put`."""

# A wait looks no more often than this for groups past a deadline: one of 0 would spin.
NAP = 0.001


class GroupBuffer:
    """Rollouts in, whole groups out: between asynchronous samplers and a trainer.

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
        check_limits(self._limits)
        self._core = _core.GroupBuffer(self._limits, None, time.monotonic())
        self._bell = Bell(self._take, self._due)

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
        check_whole(size=size)
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
            check_whole(policy_version=policy_version, n_bytes=n_bytes)
            raise
        if status == "ready":
            self._bell.ring()
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
        return self._bell.wait(timeout)

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
        return await self._bell.wait_async(timeout)

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
        check_whole(policy_version=policy_version)
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
        """Take up what `state_dict` gave, perhaps through JSON, in place of the present state.

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
        self._bell.ring()

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
