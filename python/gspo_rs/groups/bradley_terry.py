"""Strengths of the completions of a group, from pairwise comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from gspo_rs.groups.array_types import T
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.wins import from_wins, sums_of_rows

__all__ = ["bradley_terry"]

_NEAR = 1e-13
_MOST_STEPS = 100_000


@overload
def bradley_terry(
    wins: T, groups: Any = None, *, group_size: int | None = None, deviation: float = 1.0
) -> T: ...
@overload
def bradley_terry(
    wins: Iterable[ArrayLike],
    groups: Any = None,
    *,
    group_size: int | None = None,
    deviation: float = 1.0,
) -> Floats: ...
def bradley_terry(
    wins: Any, groups: Any = None, *, group_size: int | None = None, deviation: float = 1.0
) -> Any:
    r"""Return the strength of each completion among its group, of Bradley and Terry's model.

    Parameters
    ----------
    wins : iterable of n_groups array_like of float, shape (N_g, N_g)
        As for `advantage_from_wins`: ``W[i, j]`` is how often i beat j, at least 0; a tie is half a
        win of each. NaN where two were not compared.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, wins have shape (P, G, G).
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.
    deviation : float
        Of the normal prior of each strength, in nats.

    Returns
    -------
    ndarray of float64, shape (n,), or (P, G) without groups
        A tensor for tensors. Differences are log-odds, in nats: i beats j with the probability
        ``1 / (1 + exp(s[j] - s[i]))``. They sum to 0 over a group; 0 for a lone member, NaN for a
        dropped row.

    Raises
    ------
    ValueError
        If the matrices do not fit the groups, or an entry is infinite or negative, naming the
        group; if `deviation` is not above 0, or so large that a group has no answer within 100 000
        steps.

    Notes
    -----
    They are where ``sum_ij W[i, j] log p(i beats j) - sum_i s[i]^2 / (2 deviation^2)`` is largest.
    Without a prior there is no such place as soon as one member has won all its comparisons
    [2]_, which the best of a group often has. The larger the deviation, the farther such a member
    is ahead.

    Members that no chain of comparisons links know nothing of one another: the strengths of each
    such part sum to 0, as if it were a group of its own. A member without comparisons has 0.

    Where every two were compared as often, the order is that of `advantage_from_wins`. Every step
    moves all strengths at once below a bound of the curvature [3]_, so it climbs, and no bit
    depends on the order of members: those of the same wins are tied exactly.

    References
    ----------
    .. [1] R. A. Bradley, M. E. Terry (1952). Rank analysis of incomplete block designs: I. The
       method of paired comparisons. Biometrika 39 (3/4), 324-345.
    .. [2] L. R. Ford (1957). Solution of a ranking problem from binary comparisons. American
       Mathematical Monthly 64 (8), 28-33.
    .. [3] D. R. Hunter (2004). MM algorithms for generalized Bradley-Terry models. Annals of
       Statistics 32 (1), 384-406.

    Examples
    --------
    >>> bradley_terry([[[0, 1, 1], [0, 0, 0.5], [0, 0.5, 0]]], ["a", "a", "a"]).round(3)
    array([ 0.586, -0.293, -0.293])
    """
    if not (math.isfinite(deviation) and deviation > 0):
        raise ValueError(f"deviation is {deviation}; it is finite and above 0")
    return from_wins(partial(_strengths, deviation=deviation), wins, groups, group_size)


def _strengths(wins: Floats, group: int, deviation: float) -> Floats:
    """Return the strengths of one group."""
    there = np.isfinite(wins) & np.isfinite(wins.T)
    np.fill_diagonal(there, val=False)
    won = np.where(there, wins, 0.0)
    if (won < 0).any():
        raise ValueError(f"the wins of group {group} have {won.min():g}; they are at least 0")
    met, precision = won + won.T, deviation**-2
    total, bound = sums_of_rows(won), sums_of_rows(met) / 2 + precision
    strengths = np.zeros(len(wins))
    for _ in range(_MOST_STEPS):
        with np.errstate(over="ignore"):
            expected = met / (1 + np.exp(strengths - strengths[:, None]))
        step = (total - sums_of_rows(expected) - precision * strengths) / bound
        strengths = strengths + step
        if np.abs(step).max() <= _NEAR * (1 + np.abs(strengths).max()):
            return strengths
    raise ValueError(
        f"group {group} has no strengths after {_MOST_STEPS} steps; give a smaller deviation than"
        f" {deviation:g}"
    )
