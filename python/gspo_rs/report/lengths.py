"""Lengths of completions, and whether long ones stand higher in their groups."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.checks import Floats
from gspo_rs.groups.statistics import GroupStats, percentile
from gspo_rs.report.histograms import Histogram, doublings, histogram
from gspo_rs.report.load import Integers, ReportRows

__all__ = ["LengthEffect", "Lengths", "find_lengths", "length_effect"]

DECILES = 10
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
# A range of lengths so many times their median is shown in bins that double.
LONG_TAIL = 4


@dataclass(frozen=True)
class Lengths:
    """Characters of the completions that are not null.

    Attributes
    ----------
    bins : Histogram
    quantiles : tuple of 5 float
        Shortest, quartiles (linear interpolation), longest.
    mean : float
    """

    bins: Histogram
    quantiles: tuple[float, ...]
    mean: float


@dataclass(frozen=True)
class LengthEffect:
    """Percentiles of long completions in their groups.

    Attributes
    ----------
    correlation : float
        Of the percentile of the length with that of the reward, both within the group, over all
        scored rows of groups with two or more; NaN if either never differs.
    error : float
        Its standard error if groups are drawn anew, by linearization; NaN for one group.
    n_groups : int
        Groups that the correlation rests on.
    length, reward : ndarray of float64, shape (k,)
        Mean percentiles of the rows in each tenth of the percentile of the length that has rows.
    count : ndarray of int64, shape (k,)
        Those rows.
    """

    correlation: float
    error: float
    n_groups: int
    length: Floats
    reward: Floats
    count: NDArray[np.int64]


def find_lengths(narrow: ReportRows) -> Lengths:
    """Describe the lengths; `narrow` has some that are not NaN."""
    assert narrow.length is not None
    length = narrow.length[~np.isnan(narrow.length)]
    found = tuple(np.quantile(length, QUARTILES).tolist())
    tailed = found[-1] > LONG_TAIL * max(found[2], 12.0)
    return Lengths(doublings(length) if tailed else histogram(length), found, float(length.mean()))


def length_effect(narrow: ReportRows, stats: GroupStats) -> LengthEffect:
    """Compare the percentile of the reward with that of the length; `narrow` has lengths."""
    assert narrow.length is not None
    length = np.where(np.isnan(narrow.reward), np.nan, narrow.length)
    reward = np.where(np.isnan(length), np.nan, narrow.reward)
    kept = ~np.isnan(reward) & (stats.scored >= 2)[narrow.groups.codes]
    long = percentile(length, narrow.groups)[kept]
    high = percentile(reward, narrow.groups)[kept]
    # The mean percentile of a group is 0.5, whatever its ties.
    correlation, error = _correlated(long - 0.5, high - 0.5, narrow.groups.codes[kept])
    tenth = np.minimum((long * DECILES).astype(np.int64), DECILES - 1)
    count = np.bincount(tenth, minlength=DECILES)
    some = count > 0
    return LengthEffect(
        correlation=correlation,
        error=error,
        n_groups=len(np.unique(narrow.groups.codes[kept])),
        length=np.bincount(tenth, long, DECILES)[some] / count[some],
        reward=np.bincount(tenth, high, DECILES)[some] / count[some],
        count=count[some],
    )


def _correlated(x: Floats, y: Floats, codes: Integers) -> tuple[float, float]:
    """Return the correlation of centred values, and its standard error over groups."""
    # Each group moves the correlation by its derivative in the group's weight.
    _, group = np.unique(codes, return_inverse=True)
    xy, xx, yy = (np.bincount(group, product) for product in (x * y, x * x, y * y))
    scale = math.sqrt(xx.sum() * yy.sum())
    if not scale:
        return math.nan, math.nan
    found = float(xy.sum() / scale)
    moved = xy / scale - found / 2 * (xx / xx.sum() + yy / yy.sum())
    n = len(moved)
    error = math.sqrt(float(moved @ moved) * n / (n - 1)) if n > 1 else math.nan
    return found, error
