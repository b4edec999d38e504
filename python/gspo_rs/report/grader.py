"""What looks like a fault of the grader: its noise on equal completions, and cheap wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.groups.statistics import GroupStats
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
    frame = _frame(narrow).filter(pl.col("text") >= 0)
    within, _ = _pooled(frame, ["group"])
    deviation, n_repeats = _pooled(frame, ["group", "text"])
    return Noise(n_repeats, deviation if n_repeats >= ENOUGH else math.nan, within)


def cheap_wins(narrow: ReportRows, stats: GroupStats) -> CheapWins:
    """Find short and empty completions that win; `narrow` has lengths."""
    assert narrow.length is not None
    assert narrow.empty is not None
    frame = _frame(narrow)
    rows = frame["row"].to_numpy()
    groups = narrow.groups.codes[rows]
    frame = frame.with_columns(
        length=narrow.length[rows],
        empty=narrow.empty[rows],
        lowest=stats.min[groups],
        highest=stats.max[groups],
    )
    known = frame.filter(pl.col("length").is_not_nan(), pl.col("highest") > pl.col("lowest"))
    middle = pl.col("length").median().over("group")
    top, some = pl.col("reward") == pl.col("highest"), pl.col("reward") > pl.col("lowest")
    short = (middle >= LONG) & (pl.col("length") < SHORT * middle) & top
    found = known.select("row", short=short, empty=pl.col("empty") & some)
    shown = found.filter(pl.col("short") | pl.col("empty"))["row"].head(SHOWN).to_list()
    return CheapWins(int(found["short"].sum()), int(found["empty"].sum()), shown)


def _frame(narrow: ReportRows) -> pl.DataFrame:
    """Return the scored rows."""
    frame = pl.DataFrame(
        {
            "row": np.arange(len(narrow.reward)),
            "group": narrow.groups.codes,
            "text": narrow.text,
            "reward": narrow.reward,
        }
    )
    return frame.filter(pl.col("reward").is_not_nan())


def _pooled(frame: pl.DataFrame, by: Sequence[str]) -> tuple[float, int]:
    """Return the pooled deviation inside the groups of `by`, and its degrees of freedom."""
    mean = pl.col("reward").mean()
    # Equal rewards have no distance, whatever the rounding of their mean.
    apart = pl.col("reward").max() > pl.col("reward").min()
    squares = pl.when(apart).then((pl.col("reward") - mean).pow(2).sum()).otherwise(0.0)
    cells = frame.group_by(by).agg(squares=squares)
    freedom = frame.height - cells.height
    total = float(cells["squares"].sum())
    return math.sqrt(total / freedom) if freedom else math.nan, freedom
