"""What a `GroupBuffer` hands out: groups, groups thrown out, and its own figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BufferStats", "EvictedGroup", "GivenGroup", "Id"]

Id = int | str
"""The name of a group or of a rollout."""


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
    """A group that a `GroupBuffer` threw out, to be rolled out again.

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
