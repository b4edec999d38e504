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
from gspo_rs.groups.rows import column
from gspo_rs.groups.statistics import informative

MEAN: Final = {"estimator": "mean"}


def batch_std(rewards: Floats, groups: Groups, eps: float) -> Floats:
    """Return reward minus group mean, over the deviation of the batch's raw rewards."""
    rewards, factor = _in_range(rewards)
    deviation = _core.deviation(_of_members(rewards, groups))
    centred = column(rewards, groups, "advantage", MEAN)
    return _over(centred, deviation, eps * factor)


def reinforce_pp(rewards: Floats, groups: Groups, eps: float) -> Floats:
    """Return reward minus group mean, standardised over the batch."""
    rewards, factor = _in_range(rewards)
    centred = column(rewards, groups, "advantage", MEAN)
    return _standardised(centred, np.isnan(rewards), eps * factor)


def against_pool(rewards: Floats, groups: Groups, pool: ArrayLike) -> Floats:
    """Return the share of `pool` that each reward beats, minus the mean share of its group."""
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


def opo(rewards: Floats, groups: Groups, lengths: ArrayLike) -> Floats:
    """Return reward minus the mean of the group weighted by completion lengths."""
    return _core.opo(rewards, as_integers("lengths", lengths), groups._core)


def gdpo(
    rewards: Sequence[Floats], groups: Groups, weights: ArrayLike | None, eps: float
) -> Floats:
    """Return the weighted sum of one z-score per reward, standardised over the batch."""
    zscore = {"estimator": "zscore", "ddof": 1, "eps": eps}
    total = _weighted_columns(rewards, groups, zscore, as_weights(weights, rewards))
    return _standardised(total, _unscorable(rewards), eps)


def borda(rewards: Sequence[Floats], groups: Groups, weights: ArrayLike | None) -> Floats:
    """Return the weighted sum of one unscaled percentile advantage per reward."""
    percentile = {"estimator": "percentile", "scale": "none", "ties": "midrank"}
    shares = as_weights(weights, rewards)
    return _weighted_columns(rewards, groups, percentile, shares)


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
    _refuse_overflow(total, np.zeros(0), "weighted sum of the rewards")
    total[_unscorable(rewards)] = np.nan
    return total


def _weighted_columns(
    rewards: Sequence[Floats], groups: Groups, estimator: dict[str, Any], weights: Floats
) -> Floats:
    """Add up one advantage of each reward; only one of them is held at a time."""
    total = np.zeros_like(rewards[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for weight, reward in zip(weights, rewards, strict=True):
            term = column(reward, groups, "advantage", estimator)
            dropped = np.isnan(term)
            term *= weight
            total += term
            del term  # or it would be held while the next one is computed
    _refuse_overflow(total, dropped, "weighted sum of the advantages")
    return total


def _refuse_overflow(total: Floats, dropped: NDArray[Any], what: str) -> None:
    wrong = ~np.isfinite(total)
    if dropped.size:
        wrong &= ~dropped
    if wrong.any():
        raise ValueError(f"the {what} at row {int(np.argmax(wrong))} leaves the range of float64")


def _unscorable(rewards: Sequence[Floats]) -> NDArray[np.bool_]:
    """Tell which rows have no reward at all; shape (n,)."""
    found = np.isnan(rewards[0])
    for reward in rewards[1:]:
        found &= np.isnan(reward)
    return found


def _in_range(rewards: Floats) -> tuple[Floats, float]:
    """Return rewards whose differences float64 holds, and the power of two they are times.

    What is divided by a deviation of the batch does not change under it.
    """
    reach = max(np.fmax.reduce(rewards, initial=0.0), -np.fmin.reduce(rewards, initial=0.0))
    factor = 0.25 if reach > 1e307 else 2.0**500 if reach < 1e-200 else 1.0
    return (rewards, factor) if factor == 1.0 else (rewards * factor, factor)


def _of_members(rewards: Floats, groups: Groups) -> Floats:
    """Return rewards, NaN for those that belong to no group."""
    if groups._core.offsets()[-1] == groups.n_rollouts:
        return rewards
    return np.where(groups.codes < 0, np.nan, rewards)


def _standardised(values: Floats, unscorable: NDArray[np.bool_], eps: float) -> Floats:
    """Standardise `values`, which are used up, over all that is scored.

    They sum to 0 in every group and so over the batch: a mean would only bring in its rounding.
    """
    if not unscorable.any():
        return _over(values, _core.deviation(values), eps)
    unscorable &= ~np.isnan(values)  # The others are in no group.
    values[unscorable] = np.nan
    standard = _over(values, _core.deviation(values), eps)
    standard[unscorable] = 0.0
    return standard


def _over(centred: Floats, deviation: float, eps: float) -> Floats:
    """Divide in place; without a deviation nothing differs, and every advantage is 0 as it is."""
    if deviation > 0.0:
        centred /= deviation + eps
    return centred
