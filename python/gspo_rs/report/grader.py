"""What looks like a fault of the grader: its noise on equal completions, and cheap wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.groups.groups import Groups
from gspo_rs.groups.statistics import GroupStats, stats
from gspo_rs.report.load import ReportRows

__all__ = ["CheapWins", "Noise", "cheap_wins", "noise"]

# Repeats from which on a deviation is estimated.
ENOUGH = 30
# A completion is short below this share of the median length of its group, if that is long enough.
SHORT, LONG = 0.1, 50
SHOWN = 5


@dataclass(frozen=True)
class Noise:
    """How far rewards of the same completion of the same prompt lie apart.

    Attributes
    ----------
    n_repeats : int
        Scored completions that stand in an earlier scored row of their group.
    deviation : float
        Of the rewards of equal completions, pooled: the root of the sum of squared distances from
        their mean over `n_repeats`. NaN with fewer than `ENOUGH` repeats.
    within : float
        The same of all completions of a group, whatever they say.
    """

    n_repeats: int
    deviation: float
    within: float

    @property
    def share(self) -> float:
        """The share of the variance within groups that is noise, as repeats show it."""
        return (self.deviation / self.within) ** 2 if self.within else math.nan


@dataclass(frozen=True)
class CheapWins:
    """Completions that win in their group with little or nothing said.

    Attributes
    ----------
    n_short : int
        In groups with two different rewards: those with the highest reward that have less than a
        tenth of the median length of the group's scored completions, where that is 50 or more.
    n_empty : int
        Empty ones or all spaces, with a reward above the lowest of their group.
    rows : sequence of int
        The first of them.
    """

    n_short: int
    n_empty: int
    rows: Sequence[int]


def noise(narrow: ReportRows) -> Noise:
    """Estimate the grader's noise; `narrow` has texts."""
    assert narrow.text is not None
    rows = np.flatnonzero((narrow.text >= 0) & ~np.isnan(narrow.reward))
    if not len(rows):
        return Noise(0, math.nan, math.nan)
    codes, texts, reward = narrow.groups.codes[rows], narrow.text[rows], narrow.reward[rows]
    within, _ = _pooled(stats(reward, Groups(pl.Series(codes))))
    alike = Groups(pl.DataFrame({"group": codes, "text": texts}))
    deviation, n_repeats = _pooled(stats(reward, alike))
    return Noise(n_repeats, deviation if n_repeats >= ENOUGH else math.nan, within)


def cheap_wins(narrow: ReportRows, found: GroupStats) -> CheapWins:
    """Find short and empty completions that win; `narrow` has lengths."""
    assert narrow.length is not None
    assert narrow.empty is not None
    codes, reward = narrow.groups.codes, narrow.reward
    length = np.where(np.isnan(reward), np.nan, narrow.length)
    known = ~np.isnan(length) & found.informative[codes]
    middle = stats(length, narrow.groups).median[codes]
    short = known & (middle >= LONG) & (length < SHORT * middle) & (reward == found.max[codes])
    empty = known & narrow.empty & (reward > found.min[codes])
    shown = np.flatnonzero(short | empty)[:SHOWN].tolist()
    return CheapWins(int(short.sum()), int(empty.sum()), shown)


def _pooled(found: GroupStats) -> tuple[float, int]:
    """Return the deviation pooled over groups, and its degrees of freedom."""
    several = found.scored > 1
    free = found.scored[several] - 1
    freedom = int(free.sum())
    squares = float((free * np.square(found.std[several])).sum())
    return math.sqrt(squares / freedom) if freedom else math.nan, freedom
