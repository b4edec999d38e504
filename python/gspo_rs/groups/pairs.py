"""Preference pairs from scored groups, for DPO and its variants."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from gspo_rs import _core
from gspo_rs.groups.array_types import row_numbers
from gspo_rs.groups.checks import as_count, as_rewards
from gspo_rs.groups.synonyms import listed

__all__ = ["Strategy", "preference_pairs"]

Strategy: TypeAlias = Literal["best_worst", "all", "best_random"]
"""Which pairs of a group are made."""


@row_numbers
def preference_pairs(
    rewards: Any,
    groups: Any = None,
    strategy: Strategy = "best_worst",
    margin: float = 0.0,
    seed: int = 0,
    *,
    group_size: int | None = None,
) -> NDArray[np.int64]:
    """Pair completions of a group whose rewards differ by more than a margin.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    strategy : {"best_worst", "all", "best_random"}
        The best against the worst, the first row of each; every pair; or the best against one
        drawn from those it exceeds.
    margin : float
        What the chosen reward exceeds the rejected one by, and more. Ties never make a pair.
    seed : int
        Of the draws, which depend on it and on the number of the group; not negative.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of int64, shape (n_pairs, 2)
        Row of the chosen, row of the rejected; group after group, and inside a group from the
        best chosen and the worst rejected on. ``"all"`` gives up to ``N (N - 1) / 2`` pairs a
        group. In rewards of shape (P, G) rows are counted through: that of [i, j] is i G + j.

    Raises
    ------
    ValueError
        For an unknown strategy, a margin that is negative or not finite, a negative seed, or as
        `rank`.

    References
    ----------
    .. [1] R. Rafailov et al. (2023). Direct preference optimization. arXiv 2305.18290.

    Examples
    --------
    >>> preference_pairs([0.0, 1.0, 0.5, 2.0, 2.0], ["a", "a", "a", "b", "b"])
    array([[1, 0]])
    >>> preference_pairs([0.0, 1.0, 0.5], ["a", "a", "a"], "all", margin=0.4)
    array([[1, 0],
           [1, 2],
           [2, 0]])
    """
    if strategy not in get_args(Strategy):
        known = listed(strategy, get_args(Strategy))
        raise ValueError(f"strategy is {strategy!r}; use one of {known}")
    if not 0 <= margin < float("inf"):
        raise ValueError(f"margin is {margin}; it is finite, and not negative")
    draws = as_count("seed", seed, lowest=0) % 2**64
    return _core.pairs(as_rewards(rewards), groups._core, strategy, float(margin), draws)
