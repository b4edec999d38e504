"""Per-row columns computed within each group: several in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gspo_rs import _core
from gspo_rs.groups.array_types import list_per_row
from gspo_rs.groups.checks import REQUIRED, Floats, as_rewards, required
from gspo_rs.groups.estimators import ESTIMATORS
from gspo_rs.groups.groups import Groups

__all__ = ["Column", "rows"]

Column: TypeAlias = str | tuple[str, dict[str, Any]]
"""The name of a column, with its options if it has some."""

DEFAULTS: dict[str, dict[str, Any]] = {"rank": {"method": "average"}}


@list_per_row
def rows(
    rewards: Any,
    groups: Any = None,
    columns: Sequence[Column] = REQUIRED,
    *,
    group_size: int | None = None,
) -> list[Floats]:
    """Compute several columns for every row in one pass over the groups.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    columns : sequence of str or (str, dict)
        Names with their options: ``"rank"`` (method), ``"percentile"``, ``"top_fraction"`` (q),
        ``"advantage"`` (an estimator that looks at one group's rewards, and all of its options),
        ``"group_size"``, ``"group_mean"``, ``"group_std"``.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    list of ndarray of float64, shape (n,)
        One per column, in row order.

    Raises
    ------
    ValueError
        For an unknown column, or as `rank`.

    Examples
    --------
    >>> rows([0.0, 1.0, 5.0], ["a", "a", "b"], ["group_mean", "percentile"])
    [array([0.5, 0.5, 5. ]), array([0. , 1. , 0.5])]
    """
    required("columns", columns)
    specs = [(name, DEFAULTS.get(name, {})) if isinstance(name, str) else name for name in columns]
    read = [_core.Column(name, options) for name, options in specs]
    return _core.rows(as_rewards(rewards), groups._core, read)


def column(rewards: Any, groups: Groups, name: str, options: dict[str, Any]) -> Floats:
    """Return one column of `rows`, for rewards whose library has been seen to."""
    return _core.column(as_rewards(rewards), groups._core, _core.Column(name, options))


def usual(rewards: NDArray[Any], groups: Groups, estimator: str) -> NDArray[Any]:
    """Return the advantages of an estimator with the options that it has by itself.

    Of float64 in one piece or, for tensors, float32, of which float32 may come.
    """
    if rewards.dtype.char == "f":
        if (found := in_float32(rewards, groups, estimator)) is not None:
            return found
        rewards = as_rewards(rewards)
    return _core.column(rewards, groups._core, _usual_column(estimator))


@cache
def _usual_column(estimator: str) -> _core.Column:
    return _core.Column("advantage", {"estimator": estimator, **ESTIMATORS[estimator].options})


def in_float32(
    rewards: Any, groups: Groups, estimator: str, lengths: NDArray[np.int64] | None = None
) -> NDArray[np.float32] | None:
    """Return the advantages of float32 in float32: those of float64 rounded, sooner.

    None where only float64 gives them, or tells what is wrong.
    """
    if rewards.dtype.char != "f" or not ESTIMATORS[estimator].of_means:
        return None
    return _core.in_float32(rewards, groups._core, estimator, lengths)
