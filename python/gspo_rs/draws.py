"""What draws from a group would bring: pass at k and the best of n, unbiased."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike

from gspo_rs import _core
from gspo_rs.estimators import as_count
from gspo_rs.groups import as_groups
from gspo_rs.row_columns import Floats, as_rewards


def pass_at_k(rewards: ArrayLike, groups: Any, k: int, threshold: float = 0.5) -> Floats:
    """Estimate for each group the chance that at least one of `k` completions is right.

    Parameters
    ----------
    rewards : array_like of float, shape (n,)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows
        The groups, or what `Groups` takes.
    k : int
        Completions drawn, at least 1.
    threshold : float
        A completion is right when its reward is at least this.

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        ``1 - C(N - c, k) / C(N, k)`` of N scorable members, c of them right; NaN where
        ``N < k``, which says nothing about `k` draws.

    Raises
    ------
    ValueError
        If `k` is less than 1 or `threshold` not finite, or as `rank`.
    TypeError
        If `k` is not an integer.

    References
    ----------
    .. [1] M. Chen et al. (2021). Evaluating large language models trained on code.
       arXiv 2107.03374.

    Examples
    --------
    >>> pass_at_k([1.0, 0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "a", "b"], k=2)
    array([0.5, nan])
    """
    if not math.isfinite(threshold):
        raise ValueError(f"threshold is {threshold}; it is a finite number")
    draws = as_count("k", k, lowest=1)
    return _core.pass_at_k(as_rewards(rewards), as_groups(groups)._core, draws, float(threshold))


def best_of_n(rewards: ArrayLike, groups: Any, n: int) -> Floats:
    """Estimate for each group the mean of the highest of `n` rewards.

    Parameters
    ----------
    rewards : array_like of float, shape (n_rollouts,)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n_rollouts rows
        The groups, or what `Groups` takes.
    n : int
        Completions drawn, at least 1.

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        Mean of the maximum over all subsets of `n` scorable members, in units of reward; NaN
        where there are fewer than `n`.

    Raises
    ------
    ValueError
        If `n` is less than 1, or as `rank`.
    TypeError
        If `n` is not an integer.

    References
    ----------
    .. [1] PKPO (2025). Pass@K policy optimization. arXiv 2505.15201.

    Examples
    --------
    >>> best_of_n([3.0, 0.0, 6.0], ["a", "a", "a"], n=2)
    array([5.])
    """
    draws = as_count("n", n, lowest=1)
    return _core.best_of(as_rewards(rewards), as_groups(groups)._core, draws)
