"""Groups that need no ids: consecutive rows of one size, or the rows of a matrix of rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs import _core
from gspo_rs.groups.checks import as_count, plain
from gspo_rs.groups.groups import Groups, as_groups

__all__ = ["flattened", "grouped"]

Shape = tuple[int, int]


def grouped(rewards: Any, groups: Any, group_size: int | None) -> tuple[Any, Groups, Shape | None]:
    """Return rewards with one row per rollout, their groups, and (P, G) if that was their shape.

    Parameters
    ----------
    rewards : array_like, shape (n,) or (n, k), or without groups (P, G) or (P, G, k)
        With groups or a size of groups the first axis counts rollouts. Without them the first
        counts groups and the second the members of each.
    groups : Groups, ids of n rows, or None
    group_size : int, optional
        Members of each group, if they are consecutive rows.

    Examples
    --------
    >>> grouped([[0.0, 1.0], [1.0, 1.0]], None, None)
    ([0.0, 1.0, 1.0, 1.0], Groups(n_rollouts=4, n_groups=2), (2, 2))
    """
    if groups is not None and group_size is not None:
        raise TypeError(
            f"groups and group_size={group_size!r} are both given; give groups, or group_size "
            "for consecutive groups of one size"
        )
    if groups is not None:
        return rewards, as_groups(groups), None
    if group_size is not None:
        return rewards, _of_size(len(rewards), group_size), None
    table = _table(rewards)
    if table.ndim not in (2, 3):
        raise TypeError(
            f"rewards of shape {table.shape} come without groups; give groups (one id per "
            "rollout), group_size, or rewards of shape (P, G), each row a group"
        )
    n_groups, size = table.shape[:2]
    if not size:
        raise ValueError(f"rewards of shape {table.shape} are groups without members")
    flat = table.reshape(n_groups * size, *table.shape[2:])
    # A list of the very numbers, which are checked as they are; NumPy would make floats of them.
    given = flat.tolist() if isinstance(rewards, list | tuple) and table.ndim == 2 else flat
    return given, _of_size(len(flat), size), (n_groups, size)


def flattened(values: Any, name: str, shape: Shape) -> NDArray[Any]:
    """Return what belongs to rewards of shape (P, G), in the same shape, with one row each."""
    found = np.asarray(plain(values))
    if found.shape != shape:
        raise ValueError(f"{name} have shape {found.shape}, the rewards {shape}; give one each")
    return found.reshape(-1)


def _of_size(n_rollouts: int, size: Any) -> Groups:
    if type(size) is not int or size < 1:  # most often it is fine
        size = as_count("group_size", size, lowest=1)
    if n_rollouts % size:
        raise ValueError(
            f"{n_rollouts} rewards are no multiple of group_size {size}; for groups of several "
            "sizes give groups, one id per rollout"
        )
    return Groups._of_core(_core.Groups.from_size(n_rollouts, size if n_rollouts else 1))


def _table(rewards: Any) -> NDArray[Any]:
    if not isinstance(rewards, list | tuple):
        return np.asarray(rewards)
    rows = [plain(row) for row in rewards]
    table = np.array(rows, dtype=object)
    if table.ndim == 1 and any(np.iterable(row) for row in rows):
        raise ValueError(
            "rewards are lists of several lengths; put them one after another in one list and "
            "give groups, such as Groups.from_offsets"
        )
    return table
