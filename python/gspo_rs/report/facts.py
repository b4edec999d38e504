"""Statistics over all groups: sizes, signal, spread, difficulty, ties, length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.checks import Floats
from gspo_rs.groups.overview import Spread, overall, right_from, spread_of, ties_of
from gspo_rs.groups.statistics import GroupStats, percentile
from gspo_rs.report.histograms import Histogram, histogram
from gspo_rs.report.load import ReportRows

__all__ = ["Facts", "LengthEffect", "find_facts", "length_effect"]


DECILES = 10
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class LengthEffect:
    """Percentiles of long completions in their groups.

    Attributes
    ----------
    correlation : float
        Of the percentile of the length with that of the reward, both within the group, over all
        scored rows of groups with two or more; NaN if either never differs.
    length, reward : ndarray of float64, shape (k,)
        Mean percentiles of the rows in each tenth of the percentile of the length that has rows.
    count : ndarray of int64, shape (k,)
        Those rows.
    """

    correlation: float
    length: Floats
    reward: Floats
    count: NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """Numbers about all groups.

    Attributes
    ----------
    n_rollouts, n_groups, n_unscorable : int
    sizes, rewards, means, deviations : Histogram
        Of the groups' sizes, the scored rewards, the groups' mean rewards and standard deviations
        (ddof 1).
    quantiles : tuple of 5 float
        Lowest reward, quartiles, highest reward.
    mean : float
        Of all scored rewards.
    n_informative, n_equal, n_lone, n_unscored : int
        Groups with two different rewards; with two or more that are all equal; with one scored
        rollout; with none.
    n_equal_right : int or None
        Of `n_equal`, those whose reward is at least `threshold`.
    threshold : float or None
        From which reward on a completion is right: 0.5 if rewards are 0 or 1 and none is given.
    spread : Spread
        The variance of all rewards, within groups and between them.
    n_pairs, tied_pairs : int
        Pairs of scored rollouts of one group, and those of them whose rewards are equal.
    median_distinct : float
        Of the number of distinct rewards in groups with a scored one.
    """

    n_rollouts: int
    n_groups: int
    n_unscorable: int
    sizes: Histogram
    rewards: Histogram
    means: Histogram
    deviations: Histogram
    quantiles: tuple[float, ...]
    mean: float
    n_informative: int
    n_equal: int
    n_lone: int
    n_unscored: int
    n_equal_right: int | None
    threshold: float | None
    spread: Spread
    n_pairs: int
    tied_pairs: int
    median_distinct: float


def find_facts(narrow: ReportRows, stats: GroupStats, threshold: float | None) -> Facts:
    """Count what `Facts` holds.

    Raises
    ------
    ValueError
        If no reward is scored, one is larger than 1e150, or `threshold` is not finite.
    """
    scored = narrow.reward[~np.isnan(narrow.reward)]
    if not len(scored):
        raise ValueError("no row has a reward: all are null or NaN")
    whole = overall(narrow.reward, QUARTILES)
    threshold = right_from(scored, threshold)
    ties = ties_of(narrow.reward, stats.groups)
    equal = (stats.scored >= 2) & ~stats.informative
    right = None if threshold is None else int((equal & (stats.min >= threshold)).sum())
    return Facts(
        n_rollouts=len(narrow.reward),
        n_groups=len(stats.size),
        n_unscorable=len(narrow.reward) - len(scored),
        sizes=histogram(stats.size),
        rewards=histogram(scored),
        means=histogram(stats.mean),
        deviations=histogram(stats.std),
        quantiles=whole.quantiles,
        mean=whole.mean,
        n_informative=int(stats.informative.sum()),
        n_equal=int(equal.sum()),
        n_lone=int((stats.scored == 1).sum()),
        n_unscored=int((stats.scored == 0).sum()),
        n_equal_right=right,
        threshold=threshold,
        spread=spread_of(stats),
        n_pairs=ties.pairs,
        tied_pairs=ties.tied,
        median_distinct=float(np.median(stats.distinct[stats.scored > 0])),
    )


def length_effect(narrow: ReportRows, stats: GroupStats) -> LengthEffect:
    """Compare the percentile of the reward with that of the length; `narrow` has lengths."""
    assert narrow.length is not None
    length = np.where(np.isnan(narrow.reward), np.nan, narrow.length)
    reward = np.where(np.isnan(length), np.nan, narrow.reward)
    kept = ~np.isnan(reward) & (stats.scored >= 2)[narrow.groups.codes]
    long = percentile(length, narrow.groups)[kept]
    high = percentile(reward, narrow.groups)[kept]
    # The mean percentile of a group is 0.5, whatever its ties.
    x, y = long - 0.5, high - 0.5
    scale = math.sqrt((x @ x) * (y @ y))
    tenth = np.minimum((long * DECILES).astype(np.int64), DECILES - 1)
    count = np.bincount(tenth, minlength=DECILES)
    some = count > 0
    return LengthEffect(
        correlation=float(x @ y / scale) if scale else math.nan,
        length=np.bincount(tenth, long, DECILES)[some] / count[some],
        reward=np.bincount(tenth, high, DECILES)[some] / count[some],
        count=count[some],
    )
