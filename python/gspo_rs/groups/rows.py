"""Per-row columns computed within each group: several in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from gspo_rs import _core
from gspo_rs.groups.array_types import list_per_row
from gspo_rs.groups.checks import REQUIRED, Floats, as_rewards, required
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
    return _core.rows(as_rewards(rewards), groups._core, specs)


def column(rewards: Any, groups: Groups, name: str, options: dict[str, Any]) -> Floats:
    """Return one column of `rows`, for rewards whose library has been seen to."""
    return _core.rows(as_rewards(rewards), groups._core, [(name, options)])[0]
