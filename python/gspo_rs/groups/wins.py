"""Pairwise comparisons of the members of groups, as matrices of wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gspo_rs.groups.array_types import as_rows
from gspo_rs.groups.checks import Floats, is_tensor, plain
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.shapes import Shape, grouped

__all__ = ["from_wins", "sums_of_rows"]


def from_wins(
    values_of: Callable[[Floats, int], Floats], wins: Any, groups: Any, group_size: int | None
) -> Any:
    """Return a value for each member of groups, by a function of the wins of one group.

    Parameters
    ----------
    values_of : callable
        Takes a matrix of float64, whose entries are finite or NaN, and the number of its group.
    wins, groups, group_size
        As for `advantage_from_wins`.

    Raises
    ------
    ValueError
        If the matrices do not fit the groups, or an entry is infinite; names the group.
    """
    given = wins if is_tensor(wins) else list(wins)
    matrices = [np.asarray(plain(matrix), dtype=np.float64) for matrix in given]
    cut, shape = _groups_of_wins(matrices, groups, group_size)
    if len(matrices) != cut.n_groups:
        raise ValueError(f"{len(matrices)} matrices of wins for {cut.n_groups} groups; one each")
    found = np.full(cut.n_rollouts, np.nan)
    for g, matrix in enumerate(matrices):
        members = cut.order[cut.offsets[g] : cut.offsets[g + 1]]
        _refuse_unfit(matrix, g, len(members))
        found[members] = values_of(matrix, g)
    like = given if is_tensor(given) else next(filter(is_tensor, given), None)
    return as_rows(found, like, shape)


def sums_of_rows(values: Floats) -> Floats:
    """Return the sum of each row, whose bits do not depend on the order of the opponents."""
    total: Floats = np.sort(values, axis=1).sum(axis=1)
    return total


def _refuse_unfit(wins: Floats, group: int, size: int) -> None:
    if wins.shape != (size, size):
        raise ValueError(
            f"the wins of group {group} have shape {wins.shape}; it has {size} members"
        )
    if np.isinf(wins).any():
        raise ValueError(f"the wins of group {group} are not finite; use NaN where none compared")


def _groups_of_wins(
    matrices: Sequence[Floats], groups: Any, group_size: int | None
) -> tuple[Groups, Shape | None]:
    if groups is not None or group_size is not None:
        size = group_size if isinstance(group_size, int) else 0
        return grouped(np.zeros(len(matrices) * max(size, 0)), groups, group_size)[1:]
    shapes = {matrix.shape for matrix in matrices} or {(1, 1)}
    if len(shapes) > 1:
        raise TypeError("matrices of wins of several sizes come without groups; give groups")
    return grouped(np.zeros((len(matrices), *shapes.pop()))[:, 0], None, None)[1:]
