"""Quantile rewards: where a reward stands among references, and their partition function.

Letters: ``M`` references of a completion, ``P`` groups of ``N`` scorable members each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.array_types import list_per_row
from gspo_rs.groups.batch_estimators import beaten_share
from gspo_rs.groups.checks import Floats, as_rewards, plain, refuse_infinite
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.rows import Column, rows

__all__ = ["quantile_rewards"]


@list_per_row
def quantile_rewards(
    rewards: Any,
    groups: Any = None,
    *,
    beta: float = 0.1,
    pool: Any = None,
    group_size: int | None = None,
) -> list[Floats]:
    """Return the quantile of each reward among references, and their log-partition.

    ``quantiles - beta * log_partition`` is what `gspo_rs.losses.qrpo_loss` regresses to.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    beta : float
        The strength of the KL penalty that the loss stands for; above 0, unitless.
    pool : array_like of float, shape (M,), or a sequence of n such, of any lengths, optional
        Rewards of completions of the starting policy, the references: the same for every rollout,
        or those of each. NaN is left out. By default the references of a completion are the other
        scorable members of its group, which then are to be completions of the starting policy.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    quantiles : ndarray of float64, shape (n,)
        Share of the references that a completion beats, a tie counting half, in [0, 1]; without
        `pool` this is `percentile`. NaN for an unscorable reward.
    log_partition : ndarray of float64, shape (n,)
        ``log Z``, in nats: Z is the mean over the references of ``exp(q / beta)``, with q the
        quantile of a reference among all of them, itself included. A lone member is its own.

    Raises
    ------
    ValueError
        If `beta` is not above 0 and finite, a reward or reference is infinite, a scorable rollout
        has no reference, or there are not as many lists of references as rollouts.

    Notes
    -----
    For the distribution that the references are, the policy ``pi_ref exp(q / beta) / Z`` sums to
    one, and is where the loss is 0. [1]_ takes for Z its limit for many references without ties,
    ``beta (exp(1 / beta) - 1)``, which is up to 2.2 nats off where 7 of 8 tie. A tie counts half,
    as everywhere here, and not whole as in [1]_: so the mean quantile of the references is 1/2
    whatever ties, the quantiles of ``-rewards`` are ``1 - q``, and without ties Z is the midpoint
    rule of the integral that [1]_ has. A reward that ties with no reference has the quantile of
    [1]_. O(n log N) time, and O(sum of M) memory for a `pool` of each rollout.

    References
    ----------
    .. [1] S. Matrenok, S. Moalla, C. Gulcehre (2025). Quantile reward policy optimization:
       alignment with pointwise regression and exact partition functions. arXiv 2507.08068.

    Examples
    --------
    >>> quantiles, log_partition = quantile_rewards([3.0, 1.0, 1.0, 0.0], ["a"] * 4, beta=0.5)
    >>> quantiles
    array([1. , 0.5, 0.5, 0. ])
    >>> quantiles, log_partition = quantile_rewards([2.0], ["a"], beta=1.0, pool=[0.0, 2.0])
    >>> quantiles, np.exp(log_partition)  # (e^0.25 + e^0.75) / 2
    (array([0.75]), array([1.70051272]))
    """
    if not 0 < beta < np.inf:
        raise ValueError(f"beta is {beta}; it is above 0 and finite")
    values = as_rewards(rewards)
    if len(values) != groups.n_rollouts:
        raise ValueError(f"{len(values)} rewards for {groups.n_rollouts} rollouts; give one each")
    refuse_infinite(values)
    if pool is None:
        return _among_others(values, groups, beta)
    references = _of_each(pool, len(values))
    if isinstance(references, np.ndarray):
        found = _against_one(values, references, beta)
    else:
        found = _against_own(values, references, beta)
    outside = np.isnan(values) | (groups.codes < 0)
    return [np.where(outside, np.nan, column) for column in found]


def _among_others(rewards: Floats, groups: Groups, beta: float) -> list[Floats]:
    """Take the other members of its group as the references of each reward."""
    columns: list[Column] = [("rank", {"method": "min"}), ("rank", {"method": "max"}), "percentile"]
    lowest, highest, quantiles = rows(rewards, groups, columns)
    log_partition = np.where(np.isnan(quantiles), np.nan, quantiles / beta)  # of lone members
    scored = np.flatnonzero(~np.isnan(quantiles))
    order = scored[np.lexsort((lowest[scored], groups.codes[scored]))]
    codes = groups.codes[order]
    sizes = np.bincount(codes, minlength=groups.n_groups)
    for size in np.unique(sizes[sizes > 1]):
        members = order[sizes[codes] == size].reshape(-1, size)  # groups of one size, rising
        log_partition[members] = _leave_one_out(lowest[members], highest[members], beta)
    return [quantiles, log_partition]


def _leave_one_out(lowest: Floats, highest: Floats, beta: float) -> Floats:
    """Return ``log Z`` of the others of each member, from ranks (P, N) that rise along a row."""
    others = lowest.shape[1] - 1
    rank, tied = (lowest + highest) / 2, highest - lowest
    # Without the member, what is below it keeps its rank, its equals lose a half, the rest one.
    below, equal, above = ((rank - gone) / (others * beta) for gone in (0.5, 1.0, 1.5))
    edge = np.full((len(rank), 1), -np.inf)
    up = np.concatenate([edge, np.logaddexp.accumulate(below, axis=1)], axis=1)
    down = np.logaddexp.accumulate(above[:, ::-1], axis=1)[:, ::-1]
    down = np.concatenate([down, edge], axis=1)
    with np.errstate(divide="ignore"):
        parts = [
            np.take_along_axis(up, lowest.astype(np.int64) - 1, axis=1),
            np.log(tied) + equal,
            np.take_along_axis(down, highest.astype(np.int64), axis=1),
        ]
    found: Floats = np.logaddexp.reduce(parts, axis=0) - np.log(others)
    return found


def _of_each(pool: Any, n: int) -> Floats | list[Floats]:
    """Return references without NaN: of all rollouts, or a list of those of each of the `n`."""
    given = plain(pool.to_list() if hasattr(pool, "to_list") else pool)
    if not any(np.iterable(one) for one in given):
        return _known(given)
    if len(given) != n:
        raise ValueError(f"pool has the references of {len(given)} rollouts; there are {n}")
    return [_known([] if one is None else one) for one in given]


def _known(references: Any) -> Floats:
    found = as_rewards(references)
    if np.isinf(found).any():
        raise ValueError(f"pool holds {found[np.isinf(found)][0]}; references are finite")
    return found[~np.isnan(found)]


def _against_one(rewards: Floats, references: Floats, beta: float) -> list[Floats]:
    if not len(references):
        raise ValueError("pool holds no reward that is a number; at least one is needed")
    quantiles = beaten_share(rewards, np.sort(references))
    log_partition = _log_partition(references, [len(references)], beta)
    return [quantiles, np.broadcast_to(log_partition, quantiles.shape)]


def _against_own(rewards: Floats, references: Sequence[Floats], beta: float) -> list[Floats]:
    sizes = np.array([len(one) for one in references], dtype=np.int64)
    without = (sizes == 0) & ~np.isnan(rewards)
    if without.any():
        raise ValueError(f"the rollout at row {int(np.argmax(without))} has no reference in pool")
    ends = np.cumsum(sizes + 1)
    flat = np.concatenate([np.zeros(0), *references])
    joined = np.insert(flat, np.cumsum(sizes), rewards)
    (quantiles,) = rows(joined, Groups.from_offsets([0, *ends]), ["percentile"])
    log_partition = np.full(len(rewards), np.nan)
    known = sizes > 0
    log_partition[known] = _log_partition(flat, sizes[known], beta)
    return [quantiles[ends - 1], log_partition]


def _log_partition(
    references: Floats, sizes: Sequence[int] | NDArray[np.int64], beta: float
) -> Floats:
    """Return ``log Z`` of each of some lists of references, which follow one another."""
    ends = np.cumsum(sizes)
    starts = ends - np.asarray(sizes)
    (rank,) = rows(references, Groups.from_offsets([0, *ends]), ["rank"])
    exponents = (rank - 0.5) / (np.repeat(sizes, sizes) * beta)
    found: Floats = np.logaddexp.reduceat(exponents, starts) - np.log(sizes)
    return found
