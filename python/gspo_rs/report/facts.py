"""Statistics over all groups: sizes, signal, spread, difficulty, ties."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gspo_rs.groups.overview import Spread, overall, right_from, spread_of, ties_of
from gspo_rs.groups.statistics import GroupStats
from gspo_rs.report.histograms import Histogram, histogram
from gspo_rs.report.load import ReportRows

__all__ = ["Facts", "find_facts"]

QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


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
    n_alone, n_half_scored : int
        Of `n_lone`, groups of one rollout; and those of several of which one is scored.
    n_equal_right : int or None
        Of `n_equal`, those whose reward is at least `threshold`.
    n_equal_top, n_equal_bottom : int
        Of `n_equal`, those whose reward is the highest of all, and the lowest.
    n_values : int
        Distinct rewards.
    n_unscorable_beside : int
        Unscorable rollouts of groups that have a scored one.
    median_taught : float
        Of the number of scored rollouts in groups with two different rewards.
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
    n_alone: int
    n_half_scored: int
    n_equal_right: int | None
    n_equal_top: int
    n_equal_bottom: int
    n_values: int
    n_unscorable_beside: int
    median_taught: float
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
    lone = stats.scored == 1
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
        n_lone=int(lone.sum()),
        n_alone=int((lone & (stats.size == 1)).sum()),
        n_half_scored=int((lone & (stats.size > 1)).sum()),
        n_unscored=int((stats.scored == 0).sum()),
        n_equal_right=right,
        n_equal_top=int((equal & (stats.min == whole.quantiles[-1])).sum()),
        n_equal_bottom=int((equal & (stats.min == whole.quantiles[0])).sum()),
        n_values=len(np.unique(scored)),
        n_unscorable_beside=int((stats.size - stats.scored)[stats.scored > 0].sum()),
        median_taught=_median(stats.scored[stats.informative]),
        threshold=threshold,
        spread=spread_of(stats),
        n_pairs=ties.pairs,
        tied_pairs=ties.tied,
        median_distinct=float(np.median(stats.distinct[stats.scored > 0])),
    )


def _median(values: NDArray[np.int64]) -> float:
    return float(np.median(values)) if len(values) else math.nan
