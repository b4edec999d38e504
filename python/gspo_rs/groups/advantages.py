"""Advantage estimators: how much better each completion is than its group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs.groups import batch_estimators
from gspo_rs.groups.array_types import A, T, as_rows, per_row
from gspo_rs.groups.batch_estimators import weighted_sum
from gspo_rs.groups.checks import (
    Floats,
    as_count,
    as_floats,
    as_integers,
    as_rewards,
    as_several,
    plain,
    refuse_infinite,
)
from gspo_rs.groups.estimators import estimator_named, resolve
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.rows import Column, column, rows, usual
from gspo_rs.groups.sequences import sequences_of
from gspo_rs.groups.wins import from_wins, sums_of_rows

__all__ = ["advantage", "advantage_from_wins", "columns_and_advantage", "soft_overlong_penalty"]


@per_row
def advantage(
    rewards: Any,
    groups: Any = None,
    estimator: str = "percentile",
    *,
    group_size: int | None = None,
    rollouts: Any = None,
    **options: Any,
) -> Floats:
    """Return the advantage of each completion over its group.

    Parameters
    ----------
    rewards : array_like of float, shape (n,) or (n, k), or without groups (P, G) or (P, G, k)
        One reward per rollout, or k of them; NaN or null where it could not be scored. With
        `groups` or `group_size` the first axis counts rollouts, and a second one holds several
        rewards of each. Without both, each row is a group.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes.
    estimator : str
        By rank: ``percentile`` (``scale="unit" | "none"``, ``ties="midrank" | "min" | "max" |
        "dense" | "ordinal"``, or ``pool``, rewards of shape (m,) to be ranked against),
        ``top_fraction`` (``q=0.2``), ``normal`` (``scores="van_der_waerden" | "blom"``),
        ``soft_winrate`` (``tau``), ``gopo``. By value: ``mean``, ``rloo``,
        ``zscore`` (``ddof=1``, ``eps=1e-6``), ``quantile`` (``k=0.4``, ``ddof=1``,
        ``eps=1e-6``), ``maxrl``, ``opo`` (``lengths``, int of shape (n,)). For the best of
        several draws: ``best_minus_second``, ``pass_at_k`` (``k``, ``threshold=0.5``), ``pkpo``
        (``k``, ``baseline="none" | "leave_one_out"``). Scaled by the batch: ``batch_std``
        (``eps=1e-4``), ``reinforce_pp`` (``eps=1e-8``). Of several rewards: ``gdpo``
        (``weights``, ``eps=1e-8``), ``borda`` (``weights``).
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.
    rollouts : ids of n rows, optional
        Where one rollout gave several sequences, a row each: rows of one group with one id have one
        reward, which counts once, and each gets its advantage. ``lengths`` of them are added.
    **options
        The options of the estimator. For k rewards of each rollout and any estimator but the
        last two, also ``weights`` of shape (k,): the rewards are summed with them first, leaving
        out those that are NaN. ``lengths`` have the shape of one reward of each rollout.

    Returns
    -------
    ndarray of float64, shape (n,) or (P, G)
        For a tensor a tensor, for a Series a Series (``docs/guides/arrays.md``).
        0 for an unscorable reward, and exactly 0 throughout a group with fewer than two
        scorable members or with equal ones. NaN for a row that the groups dropped.

    Raises
    ------
    ValueError
        For an unknown estimator or a bad option, an infinite reward or an advantage that
        leaves the range of float64 (the message names the row), if the numbers of rewards
        and rollouts differ, or if rows of one rollout have different rewards (names both).
    TypeError
        For an option that the estimator does not have, or one that it needs and did not get;
        the message lists those it has.

    Notes
    -----
    With ``p`` the percentile and ``N`` the scorable members, ``percentile`` is ``2 p - 1``:
    wins minus losses over opponents, leave-one-out with a sign kernel [1]_; unit scale
    multiplies by ``sqrt(3 (N - 1) / (N + 1))``, the inverse deviation of an untied group.
    ``docs/reference/estimators.md`` has formula, range, use and source of every estimator.
    All but ``quantile``, ``best_minus_second``, ``pkpo``, ``opo`` and those scaled by the batch
    sum to zero over a group. ``soft_winrate`` takes O(D N) time for D distinct rewards, all
    others O(N log N).

    References
    ----------
    .. [1] G. Swamy et al. (2024). A minimaximalist approach to reinforcement learning from
       human feedback. arXiv 2401.04056.

    Examples
    --------
    >>> advantage([3.0, 1.0, 2.0, 9.0], ["a", "a", "a", "b"], "percentile", scale="none")
    array([ 1., -1.,  0.,  0.])
    >>> advantage([[1.0, 0.0], [0.0, 0.5]], ["a", "a"], "mean", weights=[1.0, 2.0])
    array([0., 0.])
    >>> advantage([[0.0, 1.0], [2.0, 2.0]], estimator="mean")
    array([[-0.5,  0.5],
           [ 0. ,  0. ]])
    >>> advantage([0.0, 1.0, 2.0, 2.0], group_size=2, estimator="mean")
    array([-0.5,  0.5,  0. ,  0. ])
    >>> advantage([1.0, 1.0, 1.0, 0.0], [0, 0, 0, 0], "mean", rollouts=[7, 7, 7, 8])
    array([ 0.5,  0.5,  0.5, -0.5])
    """
    if rollouts is not None:
        return _of_rollouts(rewards, groups, rollouts, estimator, options)
    found = estimator_named(estimator)
    weights = None if found.several else options.pop("weights", None)
    if not options and weights is None and found.self_contained:
        return usual(as_floats(rewards), groups, estimator)
    options = resolve(estimator, options)
    if found.several:
        several = as_several(rewards)
        _check_count(several[0], groups)
        return _composed(several, groups, estimator, options)
    one = as_floats(rewards) if weights is None else weighted_sum(as_several(rewards), weights)
    if found.composed or options.get("pool") is not None:
        _check_count(one, groups)
        return _composed(one, groups, estimator, options)
    return column(one, groups, "advantage", {"estimator": estimator, **options})


def _of_rollouts(
    rewards: Any, groups: Groups, rollouts: Any, estimator: str, options: dict[str, Any]
) -> Floats:
    """Return for each row the advantage of the rollout that it is a sequence of."""
    one = np.ndim(rewards) == 1
    columns = [as_rewards(rewards)] if one else as_several(rewards)
    _check_count(columns[0], groups)
    found = sequences_of(groups, rollouts)
    for given in columns:
        refuse_infinite(given)
        found.refuse_differing(given)
    if options.get("lengths") is not None:
        own = found.codes >= 0
        lengths = as_integers("lengths", options["lengths"])
        whole = np.zeros(len(found.firsts), dtype=np.int64)
        np.add.at(whole, found.codes[own], lengths[own])
        options = {**options, "lengths": whole}
    kept = [given[found.firsts] for given in columns]
    gains = advantage(kept[0] if one else np.stack(kept, 1), found.groups, estimator, **options)
    return found.spread(gains)


def columns_and_advantage(
    rewards: Floats,
    groups: Groups,
    columns: Sequence[Column],
    estimator: str,
    options: Mapping[str, Any],
) -> list[Floats]:
    """Return columns of `rows` and, last, the advantage: in one pass if it looks at one group."""
    if "weights" in options or _looks_beyond(estimator, options):
        found = rows(rewards, groups, columns)
        return [*found, advantage(rewards, groups, estimator, **options)]
    own = {"estimator": estimator, **resolve(estimator, options)}
    return rows(rewards, groups, [*columns, ("advantage", own)])


def _looks_beyond(estimator: str, options: Mapping[str, Any]) -> bool:
    """Tell whether an estimator looks at more than the rewards of one group."""
    return estimator_named(estimator).composed or options.get("pool") is not None


def _composed(rewards: Any, groups: Groups, estimator: str, options: dict[str, Any]) -> Floats:
    if not estimator_named(estimator).composed:
        return batch_estimators.against_pool(rewards, groups, options["pool"])
    kernel: Callable[..., Floats] = getattr(batch_estimators, estimator)
    return kernel(rewards, groups, **options)


def _check_count(rewards: NDArray[Any], groups: Groups) -> None:
    if len(rewards) != groups.n_rollouts:
        raise ValueError(
            f"{len(rewards)} rewards for {groups.n_rollouts} rollouts; one reward per rollout"
        )


@overload
def advantage_from_wins(wins: T, groups: Any = None, *, group_size: int | None = None) -> T: ...
@overload
def advantage_from_wins(
    wins: Iterable[ArrayLike], groups: Any = None, *, group_size: int | None = None
) -> Floats: ...
def advantage_from_wins(wins: Any, groups: Any = None, *, group_size: int | None = None) -> Any:
    """Return the advantage of each completion over its group, from pairwise comparisons.

    For judges and tournaments, which say who wins and give no reward.

    Parameters
    ----------
    wins : iterable of n_groups array_like of float, shape (N_g, N_g)
        One matrix per group, in the order of the groups; its rows and columns are the members
        in row order. ``W[i, j]`` is how often i beat j: 0 or 1, a share, or a probability.
        The diagonal is not read. NaN where two were not compared: they count as even.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, wins have shape (P, G, G).
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of float64, shape (n,), or (P, G) without groups
        A tensor for tensors.
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
    return from_wins(_net_wins, wins, groups, group_size)


def _net_wins(wins: Floats, group: int) -> Floats:
    net = np.nan_to_num(wins - wins.T, nan=0.0)
    np.fill_diagonal(net, 0.0)
    if not np.isfinite(net).all():
        raise ValueError(f"the wins of group {group} are not finite; use NaN where none compared")
    with np.errstate(over="ignore", invalid="ignore"):
        total = sums_of_rows(net)
    if not np.isfinite(total).all():
        raise ValueError(f"the wins of group {group}, added, leave the range of float64")
    return total / max(len(wins) - 1, 1)


@overload
def soft_overlong_penalty(
    lengths: NDArray[Any] | Sequence[Any], max_length: int = 20480, cache: int = 4096
) -> Floats: ...
@overload
def soft_overlong_penalty(lengths: A, max_length: int = 20480, cache: int = 4096) -> A: ...
@overload
def soft_overlong_penalty(
    lengths: ArrayLike, max_length: int = 20480, cache: int = 4096
) -> Floats: ...
def soft_overlong_penalty(lengths: Any, max_length: int = 20480, cache: int = 4096) -> Any:
    """Return DAPO's reward penalty for overlong completions.

    Parameters
    ----------
    lengths : array_like of int, shape (n,)
        Tokens of each completion, a sampled end token included.
    max_length : int
        The length from which the penalty is -1.
    cache : int
        Over how many tokens before `max_length` it falls from 0 to -1.

    Returns
    -------
    ndarray of float64, shape (n,), or a tensor or Series for one
        In [-1, 0], to be added to the rewards before they are grouped.

    Raises
    ------
    TypeError
        If a length, `max_length` or `cache` is not an integer.
    ValueError
        If a length is negative, or not ``1 <= cache <= max_length``.

    References
    ----------
    .. [1] Q. Yu et al. (2025). DAPO: an open-source LLM reinforcement learning system at scale.
       arXiv 2503.14476.

    Examples
    --------
    >>> soft_overlong_penalty([70, 90, 200], max_length=100, cache=20)
    array([ 0. , -0.5, -1. ])
    """
    longest = as_count("max_length", max_length, lowest=1)
    if as_count("cache", cache, lowest=1) > longest:
        raise ValueError(f"cache is {cache}; it is at most max_length, {longest}")
    found = np.asarray(plain(lengths))
    if found.dtype.kind not in "iu":
        raise TypeError(f"lengths are of type {found.dtype}; they are integers")
    if found.size and found.min() < 0:
        raise ValueError(f"the length at index {int(found.argmin())} is {found.min()}")
    over = np.minimum(np.maximum(found.astype(np.float64) - (longest - cache), 0.0), cache)
    penalty = 0.0 - over / cache
    return as_rows(penalty, lengths, penalty.shape if penalty.ndim == 2 else None)
