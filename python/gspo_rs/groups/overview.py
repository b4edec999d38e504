"""Statistics over all groups: spread, ties, and which completions count as right.

One definition each, for every tool that prints the number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.rows import rows
from gspo_rs.groups.statistics import GroupStats, quantile, stats

__all__ = ["Overall", "Spread", "Ties", "overall", "right_from", "spread_of", "ties_of"]

# Sums of squares of a million groups of such rewards are finite.
LARGEST = 1e150
# From which reward on a completion is right where all are 0 or 1.
RIGHT = 0.5


@dataclass(frozen=True)
class Spread:
    """The variance of all rewards (ddof 0), as what lies within groups and what between them.

    Attributes
    ----------
    within : float
        Mean squared distance of a reward from the mean of its group.
    between : float
        Mean over rewards of the squared distance of their group's mean from that of all.
    """

    within: float
    between: float

    @property
    def total(self) -> float:
        """The variance of all rewards."""
        return self.within + self.between


@dataclass(frozen=True)
class Ties:
    """Pairs of scorable rollouts of one group, and those of them whose rewards are equal."""

    pairs: int
    tied: int

    @property
    def share(self) -> float:
        """The share that is tied; NaN if there is no pair."""
        return self.tied / self.pairs if self.pairs else math.nan


@dataclass(frozen=True)
class Overall:
    """All rewards as one group: their mean, deviation (ddof 1) and quantiles; NaN where none."""

    mean: float
    std: float
    quantiles: tuple[float, ...]


def overall(rewards: Floats, q: tuple[float, ...]) -> Overall:
    """Describe all scorable rewards, whatever their groups.

    Raises
    ------
    ValueError
        If a reward is larger than 1e150: its square overflows. Names the row.

    Examples
    --------
    >>> overall(np.array([0.0, 1.0, np.nan, 1.0]), (0.5, 1.0)).quantiles
    (1.0, 1.0)
    """
    huge = np.abs(rewards) > LARGEST
    if huge.any():
        row = int(np.argmax(huge))
        problem = f"the reward {rewards[row]:g} at row {row} is too large"
        raise ValueError(f"{problem}: its square overflows; scale the rewards")
    whole = Groups.from_offsets([0, len(rewards)])
    described = stats(rewards, whole)
    found = quantile(rewards, whole, q)[0]
    return Overall(float(described.mean[0]), float(described.std[0]), tuple(found.tolist()))


def spread_of(described: GroupStats) -> Spread:
    """Split the variance of all rewards by the law of total variance; NaN if there is none.

    Examples
    --------
    >>> spread = spread_of(stats([0.0, 2.0, 4.0, 4.0], ["a", "a", "b", "b"]))
    >>> round(spread.within, 9), round(spread.between, 9), round(spread.total, 9)
    (0.5, 2.25, 2.75)
    """
    known = described.scored > 0
    count, mean = described.scored[known], described.mean[known]
    total = int(count.sum())
    if not total:
        return Spread(math.nan, math.nan)
    squares = np.where(count > 1, (count - 1) * np.square(described.std[known]), 0.0)
    centre = float((count * mean).sum()) / total
    between = count * np.square(mean - centre)
    return Spread(float(squares.sum()) / total, float(between.sum()) / total)


def ties_of(rewards: Floats, groups: Groups) -> Ties:
    """Count the pairs of each group whose rewards are equal.

    Examples
    --------
    >>> ties_of(np.array([1.0, 1.0, 0.0]), Groups(["a", "a", "a"]))
    Ties(pairs=3, tied=1)
    """
    # The ranks of a class of t tied rows span t - 1, in each of its t rows.
    ranks: list[tuple[str, dict[str, Any]]] = [("rank", {"method": m}) for m in ("max", "min")]
    highest, lowest = rows(rewards, groups, ranks)
    scored = np.bincount(groups.codes[~np.isnan(highest)])
    pairs = int((scored * (scored - 1) // 2).sum())
    return Ties(pairs, int(np.nansum(highest - lowest)) // 2)


def right_from(rewards: Floats, threshold: float | None) -> float | None:
    """Return from which reward on a completion is right, if that is known.

    Parameters
    ----------
    rewards : ndarray of float64, shape (n,)
        All of them; NaN where there is none.
    threshold : float, optional
        As a person gave it.

    Returns
    -------
    float or None
        The threshold; without one 0.5 if all rewards are 0 or 1, and None if not: a pass rate of
        scores of another kind means nothing.

    Raises
    ------
    ValueError
        If the threshold is not finite.

    Examples
    --------
    >>> right_from(np.array([0.0, 1.0]), None), right_from(np.array([0.0, 7.0]), None)
    (0.5, None)
    """
    if threshold is not None:
        if not math.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}; it is a finite number")
        return float(threshold)
    scored = rewards[~np.isnan(rewards)]
    return RIGHT if len(scored) and np.isin(scored, (0.0, 1.0)).all() else None
