"""Per-row columns computed within each group: several in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from gspo_rs import _core
from gspo_rs.groups.checks import Floats, as_rewards
from gspo_rs.groups.groups import as_groups

__all__ = ["Column", "rows"]

Column: TypeAlias = str | tuple[str, dict[str, Any]]
"""The name of a column, with its options if it has some."""


def rows(rewards: ArrayLike, groups: Any, columns: Sequence[Column]) -> list[Floats]:
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
