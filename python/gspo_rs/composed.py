"""Estimators that look beyond one group's rewards: a batch, a pool, lengths, several rewards.

A statistic of the batch is that of one large group, summed over sorted values like any other,
so that its bits do not depend on the order of the rows or of the groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs import _core
from gspo_rs.groups import Groups
from gspo_rs.rows import Floats, as_rewards, refuse_infinite, rows


def batch_std(rewards: Floats, groups: Groups, eps: float) -> Floats:
    """Return reward minus group mean, over the deviation of the batch's raw rewards."""
    (centred,) = rows(rewards, groups, [("advantage", {"estimator": "mean"})])
    scored, batch = _batch(rewards, groups)
    found = centred.copy()
    deviation = _core.stats(rewards[scored], batch)["std"][0] + eps if scored.any() else 1.0
    informative = _informative(rewards, groups)
    found[informative] = centred[informative] / deviation
    return found


def reinforce_pp(rewards: Floats, groups: Groups, eps: float) -> Floats:
    """Return reward minus group mean, standardised over the batch."""
    (centred,) = rows(rewards, groups, [("advantage", {"estimator": "mean"})])
    return _whiten(centred, _informative(rewards, groups), _batch(rewards, groups)[0], eps)


def against_pool(rewards: Floats, groups: Groups, pool: ArrayLike) -> Floats:
    """Return the share of `pool` that each reward beats, minus the mean share of its group."""
    refuse_infinite(rewards)
    rivals = np.sort(as_rewards(pool))
    if not len(rivals) or not np.isfinite(rivals).all():
        raise ValueError("pool holds the finite rewards of the rivals, at least one")
    beaten = np.searchsorted(rivals, rewards, "left") + np.searchsorted(rivals, rewards, "right")
    share = np.where(np.isnan(rewards), np.nan, beaten / (2 * len(rivals)))
    return rows(share, groups, [("advantage", {"estimator": "mean"})])[0]


def opo(rewards: Floats, groups: Groups, lengths: ArrayLike) -> Floats:
    """Return reward minus the mean of the group weighted by completion lengths."""
    found = np.asarray(lengths)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise TypeError(f"lengths are {found.ndim}-D of {found.dtype}; they are 1-D integers")
    return _core.opo(rewards, np.ascontiguousarray(found, dtype=np.int64), groups._core)


def gdpo(rewards: Floats, groups: Groups, weights: ArrayLike | None, eps: float) -> Floats:
    """Return the weighted sum of one z-score per reward, standardised over the batch."""
    zscore = ("advantage", {"estimator": "zscore", "ddof": 1, "eps": eps})
    shares = as_weights(weights, rewards)
    columns = [np.ascontiguousarray(column) for column in rewards.T]
    summed = _weighted([rows(column, groups, [zscore])[0] for column in columns], shares)
    informative = np.any([_informative(column, groups) for column in columns], axis=0)
    scored = ~np.isnan(rewards).all(axis=1) & (groups.codes >= 0)
    return _whiten(summed, informative & scored, scored, eps)


def borda(rewards: Floats, groups: Groups, weights: ArrayLike | None) -> Floats:
    """Return the weighted sum of one unscaled percentile advantage per reward."""
    spec = {"estimator": "percentile", "scale": "none", "ties": "midrank"}
    columns = [np.ascontiguousarray(column) for column in rewards.T]
    points = [rows(column, groups, [("advantage", spec)])[0] for column in columns]
    return _weighted(points, as_weights(weights, rewards))


def weighted_sum(rewards: Floats, weights: ArrayLike) -> Floats:
    """Return one reward per row: the weighted sum of those that are scorable, else NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        summed = _weighted([np.nan_to_num(c) for c in rewards.T], as_weights(weights, rewards))
    if not np.isfinite(summed).all():
        row = int(np.argmin(np.isfinite(summed)))
        raise ValueError(f"the weighted sum of the rewards at row {row} leaves float64")
    summed[np.isnan(rewards).all(axis=1)] = np.nan
    return summed


def as_several(rewards: ArrayLike) -> Floats:
    """Return rewards of shape (n, k) as float64, NaN for None, none of them infinite."""
    found = np.asarray(rewards)
    if found.ndim != 2 or not found.shape[1]:
        raise ValueError(f"rewards have shape {found.shape}; several rewards have shape (n, k)")
    columns = [as_rewards(column) for column in found.T]
    for column in columns:
        refuse_infinite(column)
    return np.stack(columns, axis=1)


def as_weights(weights: ArrayLike | None, rewards: Floats) -> Floats:
    """Return one finite weight per reward, 1 for those not given."""
    k = rewards.shape[1]
    found = np.ones(k) if weights is None else np.asarray(weights, dtype=np.float64)
    if found.shape != (k,) or not np.isfinite(found).all():
        raise ValueError(f"weights are {weights!r}; pass {k} finite numbers, one per reward")
    return found


def _weighted(columns: list[Floats], weights: Floats) -> Floats:
    total = np.zeros_like(columns[0])
    for weight, column in zip(weights, columns, strict=True):
        total += weight * column
    return total


def _batch(rewards: Floats, groups: Groups) -> tuple[NDArray[np.bool_], Any]:
    """Tell which rows are scored and in a group, and make one group of them."""
    scored = ~np.isnan(rewards) & (groups.codes >= 0)
    return scored, Groups.from_offsets([0, max(int(scored.sum()), 1)])._core


def _informative(rewards: Floats, groups: Groups) -> NDArray[np.bool_]:
    """Tell which rows are scored and in a group whose rewards differ; shape (n,)."""
    found = _core.stats(rewards, groups._core)
    differs = np.append(found["max"] > found["min"], False)  # the last for dropped rows, code -1
    return differs[groups.codes] & ~np.isnan(rewards)


def _whiten(
    values: Floats, informative: NDArray[np.bool_], scored: NDArray[np.bool_], eps: float
) -> Floats:
    """Standardise what is scored as one group; rows that prefer nothing keep their 0 or NaN."""
    if not informative.any():
        return values
    spec = {"estimator": "zscore", "ddof": 1, "eps": eps}
    batch = Groups.from_offsets([0, len(values)])
    (standard,) = rows(np.where(scored, values, np.nan), batch, [("advantage", spec)])
    return np.where(informative, standard, np.where(np.isnan(values), np.nan, 0.0))
