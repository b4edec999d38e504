"""What each row is told about its group: rewards checked at the door, columns in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs import _core
from gspo_rs.groups import as_groups

Floats = NDArray[np.float64]


def rows(
    rewards: ArrayLike, groups: Any, columns: Sequence[str | tuple[str, dict[str, Any]]]
) -> list[Floats]:
    """Compute several columns for every row in one pass over the groups.

    Parameters
    ----------
    rewards : array_like of float, shape (n,)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows
        The groups, or what `Groups` takes.
    columns : sequence of str or (str, dict)
        Names with their options: ``"rank"`` (method), ``"percentile"``, ``"top_fraction"`` (q),
        ``"advantage"`` (an estimator that looks at one group's rewards, and all of its options),
        ``"group_size"``, ``"group_mean"``, ``"group_std"``.

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
    specs = [(name, {}) if isinstance(name, str) else name for name in columns]
    return _core.rows(as_rewards(rewards), as_groups(groups)._core, specs)


def as_rewards(rewards: ArrayLike) -> Floats:
    """Return rewards as contiguous float64, None as NaN, refusing what would be rounded."""
    found = np.asarray(rewards)
    if found.dtype.kind == "O":
        found = np.asarray(_numbers(found), dtype=np.float64)
    if found.dtype.kind not in "fiub" or found.dtype.itemsize > 8:
        raise TypeError(f"rewards of type {found.dtype} are not numbers that float64 can hold")
    if found.ndim != 1:
        raise ValueError(f"rewards have shape {found.shape}; pass one per rollout, shape (n,)")
    exact = np.ascontiguousarray(found, dtype=np.float64)
    if found.dtype.kind in "iu" and found.dtype.itemsize == 8:
        _refuse_rounding(found, exact)
    return exact


def refuse_infinite(rewards: Floats) -> None:
    """Raise for the first infinite reward, naming its row, as the core does."""
    infinite = np.isinf(rewards)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise ValueError(
            f"the reward at row {row} is {rewards[row]}; use NaN or null for a completion that "
            "cannot be scored"
        )


def _numbers(found: NDArray[Any]) -> list[float]:
    for row, reward in enumerate(found.tolist()):
        if reward is not None and not isinstance(reward, int | float):
            raise TypeError(f"the reward at row {row} is {reward!r}; use a number, None or NaN")
    return [np.nan if reward is None else float(reward) for reward in found.tolist()]


def _refuse_rounding(found: NDArray[Any], exact: Floats) -> None:
    large = np.abs(exact) >= 2.0**53
    if large.any():
        row = int(np.argmax(large))
        raise TypeError(f"the reward {found[row]} at row {row} would be rounded to float64")
