"""The advantage estimators: how far each completion stands above its group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs import composed
from gspo_rs.estimators import ESTIMATORS, resolve
from gspo_rs.groups import Groups, as_groups
from gspo_rs.rows import Floats, as_rewards, rows

__all__ = ["ESTIMATORS", "advantage", "advantage_from_wins"]

# Those that take several rewards as they are; for any other, they are summed first.
OF_SEVERAL = ("gdpo", "borda")


def advantage(
    rewards: ArrayLike, groups: Any, estimator: str = "percentile", **options: Any
) -> Floats:
    """Return how far each completion stands above its group.

    Parameters
    ----------
    rewards : array_like of float, shape (n,)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows
        The groups, or what `Groups` takes.
    estimator : str
        ``percentile`` (``scale="unit" | "none"``, ``ties="midrank" | "min" | "max" | "dense" |
        "ordinal"``), ``top_fraction`` (``q=0.2``), ``mean``, ``rloo``,
        ``zscore`` (``ddof=1``, ``eps=1e-6``), ``gopo``.
    **options
        The options of the estimator.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 for an unscorable reward, and exactly 0 throughout a group with fewer than two
        scorable members or with equal ones.

    Raises
    ------
    ValueError
        For an unknown estimator or a bad option, an infinite reward (the message names the
        row), or if the numbers of rewards and rollouts differ.
    TypeError
        For an option that the estimator does not have; the message lists those it has.

    Notes
    -----
    With ``p`` the percentile and ``N`` the scorable members, ``percentile`` is ``2 p - 1``:
    wins minus losses over opponents, leave-one-out with a sign kernel [1]_; unit scale
    multiplies by ``sqrt(3 (N - 1) / (N + 1))``, the inverse deviation of an untied group.
    ``top_fraction`` is the share in the best ``q`` minus ``q``; ``gopo`` is twice the unscaled
    percentile [2]_; ``mean`` is Dr. GRPO's [3]_, ``rloo`` leave-one-out [4]_, ``zscore``
    GRPO's [5]_. All of these sum to zero over a group.

    References
    ----------
    .. [1] G. Swamy et al. (2024). A minimaximalist approach to reinforcement learning from
       human feedback. arXiv 2401.04056.
    .. [2] GOPO, arXiv 2602.03876.
    .. [3] Z. Liu et al. (2025). Understanding R1-Zero-like training. arXiv 2503.20783.
    .. [4] A. Ahmadian et al. (2024). Back to basics. arXiv 2402.14740.
    .. [5] Z. Shao et al. (2024). DeepSeekMath. arXiv 2402.03300.

    Examples
    --------
    >>> advantage([3.0, 1.0, 2.0, 9.0], ["a", "a", "a", "b"], "percentile", scale="none")
    array([ 1., -1.,  0.,  0.])
    """
    cut = as_groups(groups)
    if estimator in OF_SEVERAL:
        several = resolve(estimator, options)
        return _of_several(composed.as_several(rewards), cut, estimator, several)
    weights = options.pop("weights", None)
    options = resolve(estimator, options)
    if weights is None:
        return _of_one(as_rewards(rewards), cut, estimator, options)
    summed = composed.weighted_sum(composed.as_several(rewards), weights)
    return _of_one(summed, cut, estimator, options)


def _of_several(
    rewards: Floats, groups: Groups, estimator: str, options: dict[str, Any]
) -> Floats:
    _check_count(rewards, groups)
    if estimator == "gdpo":
        return composed.gdpo(rewards, groups, **options)
    return composed.borda(rewards, groups, **options)


def _of_one(rewards: Floats, groups: Groups, estimator: str, options: dict[str, Any]) -> Floats:
    _check_count(rewards, groups)
    if estimator == "batch_std":
        return composed.batch_std(rewards, groups, **options)
    if estimator == "reinforce_pp":
        return composed.reinforce_pp(rewards, groups, **options)
    if estimator == "opo":
        return composed.opo(rewards, groups, **options)
    if options.get("pool") is not None:
        return composed.against_pool(rewards, groups, options["pool"])
    return rows(rewards, groups, [("advantage", {"estimator": estimator, **options})])[0]


def _check_count(rewards: Floats, groups: Groups) -> None:
    if len(rewards) != groups.n_rollouts:
        raise ValueError(
            f"{len(rewards)} rewards for {groups.n_rollouts} rollouts; one reward per rollout"
        )


def advantage_from_wins(wins: Iterable[ArrayLike], groups: Any) -> Floats:
    """Return how far each completion stands above its group, from pairwise comparisons.

    For judges and tournaments, which say who wins and give no reward.

    Parameters
    ----------
    wins : iterable of n_groups array_like of float, shape (N_g, N_g)
        One matrix per group, in the order of the groups; its rows and columns are the members
        in row order. ``W[i, j]`` is how often i beat j: 0 or 1, a share, or a probability.
        The diagonal is not read. NaN where two were not compared: they count as even.
    groups : Groups or ids of n rows
        The groups, or what `Groups` takes.

    Returns
    -------
    ndarray of float64, shape (n,)
        ``sum_j (W[i, j] - W[j, i]) / (N_g - 1)``, in [-1, 1] for shares that complement one
        another; sums to zero over a group. 0 for a lone member, NaN for a dropped row.

    Raises
    ------
    ValueError
        If the matrices do not fit the groups, or an entry is infinite; the message names
        the group.

    Notes
    -----
    For ``W[i, j] = 1[r_i > r_j] + 1[r_i = r_j] / 2`` this is the percentile advantage [1]_.

    References
    ----------
    .. [1] G. Swamy et al. (2024). A minimaximalist approach to reinforcement learning from
       human feedback. arXiv 2401.04056.

    Examples
    --------
    >>> advantage_from_wins([[[0, 1, 1], [0, 0, 0.5], [0, 0.5, 0]]], ["a", "a", "a"])
    array([ 1. , -0.5, -0.5])
    """
    cut = as_groups(groups)
    matrices = [np.asarray(matrix, dtype=np.float64) for matrix in wins]
    if len(matrices) != cut.n_groups:
        raise ValueError(f"{len(matrices)} matrices of wins for {cut.n_groups} groups; one each")
    found = np.full(cut.n_rollouts, np.nan)
    for g, matrix in enumerate(matrices):
        members = cut.order[cut.offsets[g] : cut.offsets[g + 1]]
        found[members] = _net_wins(matrix, g, len(members))
    return found


def _net_wins(wins: Floats, group: int, size: int) -> NDArray[np.float64]:
    if wins.shape != (size, size):
        raise ValueError(
            f"the wins of group {group} have shape {wins.shape}; it has {size} members"
        )
    net = np.nan_to_num(wins - wins.T, nan=0.0)
    np.fill_diagonal(net, 0.0)
    if np.isinf(wins).any() or not np.isfinite(net).all():
        raise ValueError(f"the wins of group {group} are not finite; use NaN where none compared")
    # Sorted, so that the bits do not depend on the order of the opponents.
    return np.sort(net, axis=1).sum(axis=1) / max(size - 1, 1)
