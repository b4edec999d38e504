"""Several sequences of one rollout: its reward counts once, and each of them gets its advantage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups, as_groups

__all__ = ["Sequences", "sequences_of"]


@dataclass(frozen=True)
class Sequences:
    """Which rows are sequences of one rollout.

    Attributes
    ----------
    groups : Groups
        Of the rollouts, in the order of their first rows.
    firsts : ndarray of int64, shape (n_rollouts,)
        The first row of each.
    codes : ndarray of int64, shape (n,)
        The rollout of each row, -1 for a row that the groups dropped.
    """

    groups: Groups
    firsts: NDArray[np.int64]
    codes: NDArray[np.int64]

    def refuse_differing(
        self, rewards: Floats, place: Callable[[int], str] = "row {}".format
    ) -> None:
        """Raise a ValueError if two sequences of one rollout have different rewards; names both.

        `rewards` have shape (n,), one for each row.
        """
        own = self.codes >= 0
        expected = np.full(len(rewards), np.nan)
        expected[own] = rewards[self.firsts[self.codes[own]]]
        differ = own & (rewards != expected) & ~(np.isnan(rewards) & np.isnan(expected))
        if differ.any():
            row = int(differ.argmax())
            first = int(self.firsts[self.codes[row]])
            raise ValueError(
                f"{place(first)} and {place(row)} are sequences of one rollout and have the rewards"
                f" {rewards[first]} and {rewards[row]}; a rollout has one reward"
            )

    def spread(self, values: Floats) -> Floats:
        """Return for each row the value of its rollout, NaN for a dropped row; shape (n,)."""
        found = np.full(len(self.codes), np.nan)
        own = self.codes >= 0
        found[own] = values[self.codes[own]]
        return found


def sequences_of(groups: Groups, rollouts: Any = None) -> Sequences:
    """Find the rows that are sequences of one rollout.

    Parameters
    ----------
    groups : Groups
        Of ``n`` rows.
    rollouts : ids of n rows, optional
        What `Groups` takes; rows of one group with one id are one rollout. Without them each row
        is one.

    Returns
    -------
    Sequences

    Raises
    ------
    ValueError
        If there are not ``n`` ids, or one is null.
    TypeError
        If ids cannot be compared exactly.

    Examples
    --------
    >>> found = sequences_of(Groups(["a", "a", "b", "a"]), [0, 0, 0, 1])
    >>> found.firsts, found.codes, found.groups.sizes
    (array([0, 2, 3]), array([0, 0, 1, 2]), array([2, 1]))
    """
    n = groups.n_rollouts
    if rollouts is None:
        return Sequences(groups, np.arange(n), np.where(groups.codes < 0, -1, np.arange(n)))
    ids = as_groups(rollouts)
    if ids.n_rollouts != n:
        raise ValueError(f"{ids.n_rollouts} ids of rollouts for {n} rows; give one each")
    own = np.flatnonzero(groups.codes >= 0)
    pairs = Groups(groups.codes[own] * max(ids.n_groups, 1) + ids.codes[own])
    codes = np.full(n, -1, dtype=np.int64)
    codes[own] = pairs.codes
    firsts = own[pairs.order[pairs.offsets[:-1]]]
    return Sequences(Groups(groups.codes[firsts]), firsts, codes)
