"""Estimators that look beyond one group's rewards: a batch, a pool, lengths, several rewards.

A statistic of the batch is that of one large group, from sums whose bits do not depend on the
order of the rows or of the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs import _core
from gspo_rs.groups.checks import Floats, as_integers, as_rewards, as_weights, refuse_infinite
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.rows import column, in_float32
from gspo_rs.groups.statistics import informative

MEAN: Final = {"estimator": "mean"}
PERCENTILE: Final = {"estimator": "percentile", "scale": "none", "ties": "midrank"}


def batch_std(rewards: Floats, groups: Groups, eps: float) -> Floats:
    """Return reward minus group mean, over the deviation of the batch's raw rewards."""
    return _core.scaled(as_rewards(rewards), groups._core, False, eps)


def reinforce_pp(rewards: Floats, groups: Groups, eps: float) -> Floats:
    """Return reward minus group mean, standardised over the batch."""
    return _core.scaled(as_rewards(rewards), groups._core, True, eps)


def against_pool(rewards: Floats, groups: Groups, pool: ArrayLike) -> Floats:
    """Return the share of `pool` that each reward beats, minus the mean share of its group."""
    rewards = as_rewards(rewards)
    refuse_infinite(rewards)
    rivals = np.sort(as_rewards(pool))
    if not len(rivals) or not np.isfinite(rivals).all():
        raise ValueError("pool holds the finite rewards of the rivals, at least one")
    return column(beaten_share(rewards, rivals), groups, "advantage", MEAN)


def beaten_share(rewards: Floats, rivals: Floats) -> Floats:
    """Return the share of `rivals`, which rise, that each reward beats; a tie counts half."""
    beaten = np.searchsorted(rivals, rewards, "left")
    beaten += np.searchsorted(rivals, rewards, "right")
    share: Floats = beaten / (2 * len(rivals))
    del beaten
    share[np.isnan(rewards)] = np.nan
    return share


def opo(rewards: Floats, groups: Groups, lengths: ArrayLike) -> Any:
    """Return reward minus the mean of the group weighted by completion lengths."""
    tokens = as_integers("lengths", lengths)
    found = in_float32(rewards, groups, opo.__name__, tokens)
    return _core.opo(as_rewards(rewards), tokens, groups._core) if found is None else found


def gdpo(
    rewards: Sequence[Floats], groups: Groups, weights: ArrayLike | None, eps: float
) -> Floats:
    """Return the weighted sum of one z-score per reward, standardised over the batch."""
    zscore = _core.Column("advantage", {"estimator": "zscore", "ddof": 1, "eps": eps})
    shares = as_weights(weights, rewards).tolist()
    return _core.weighted(list(rewards), shares, groups._core, zscore, eps)


def borda(rewards: Sequence[Floats], groups: Groups, weights: ArrayLike | None) -> Floats:
    """Return the weighted sum of one unscaled percentile advantage per reward."""
    percentile = _core.Column("advantage", PERCENTILE)
    shares = as_weights(weights, rewards).tolist()
    return _core.weighted(list(rewards), shares, groups._core, percentile, None)


def preferring(
    rewards: Sequence[Floats], groups: Groups, weights: ArrayLike | None
) -> NDArray[np.bool_]:
    """Tell which groups have a signal in some reward that has a weight; shape (n_groups,)."""
    found = np.zeros(groups.n_groups, dtype=bool)
    for weight, reward in zip(as_weights(weights, rewards), rewards, strict=True):
        if weight:
            found |= informative(reward, groups)
    return found


def weighted_sum(rewards: Sequence[Floats], weights: ArrayLike | None) -> Floats:
    """Return one reward per row: the weighted sum of those that are scorable, else NaN."""
    shares = as_weights(weights, rewards)
    total = np.zeros_like(rewards[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for share, reward in zip(shares, rewards, strict=True):
            term = np.nan_to_num(reward)
            term *= share
            total += term
    if not np.isfinite(total).all():
        row = int(np.argmin(np.isfinite(total)))
        raise ValueError(
            f"the weighted sum of the rewards at row {row} leaves the range of float64"
        )
    total[_unscorable(rewards)] = np.nan
    return total


def _unscorable(rewards: Sequence[Floats]) -> NDArray[np.bool_]:
    """Tell which rows have no reward at all; shape (n,)."""
    found = np.isnan(rewards[0])
    for reward in rewards[1:]:
        found &= np.isnan(reward)
    return found
