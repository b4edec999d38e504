"""Counts of values: one for each where they are few, else between round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.report.format import number, spelled

__all__ = ["Histogram", "doublings", "histogram", "round_step"]

BINS = 24
# Values that are closer than this share of their span have no bar each: the bars would overlap.
CLOSEST = 1 / 110


@dataclass(frozen=True)
class Histogram:
    """How many values lie between neighbouring edges.

    Attributes
    ----------
    edges : ndarray of float64, shape (k + 1,)
        Rising. A bin holds its left edge; the last one both.
    counts : ndarray of int64, shape (k,)
    whole : bool
        Whether each bin is a single whole number, in its middle.
    values : ndarray of float64, shape (k,), or None
        The values, where each has a bin of its own; equal to 12 digits is one value.
    doubling : bool
        Whether each edge is twice the one before, and the values whole numbers.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    whole: bool
    values: NDArray[np.float64] | None = None
    doubling: bool = False

    @property
    def total(self) -> int:
        """The number of values."""
        return int(self.counts.sum())

    @property
    def labels(self) -> list[str]:
        """What each bin holds, in words."""
        edges = self.edges.tolist()
        if self.whole:
            return [number((a + b) / 2) for a, b in pairwise(edges)]
        if self.values is not None:
            return spelled(self.values.tolist(), 0.01)
        if self.doubling:
            ends = [(int(a), int(b) - 1) for a, b in pairwise(edges)]
            return [f"{a:,}" if a == b else f"{a:,} to {b:,}" for a, b in ends]
        written = spelled(edges, 1e-6)
        last = len(written) - 2
        return [
            f"[{a}, {b}{']' if i == last else ')'}" for i, (a, b) in enumerate(pairwise(written))
        ]


def histogram(values: NDArray[Any]) -> Histogram:
    """Count values, each by itself where they are few, else in about 24 bins with round edges.

    Parameters
    ----------
    values : ndarray of numbers, shape (n,)
        NaNs are left out.

    Returns
    -------
    Histogram
        Without bins if there is no value.

    Examples
    --------
    >>> found = histogram(np.array([1.0, 3.0, 3.0]))
    >>> found.edges, found.counts, found.whole
    (array([0.5, 1.5, 2.5, 3.5]), array([1, 0, 2]), True)
    >>> found = histogram(np.array([0.0, 0.25, 1.0, 0.25]))
    >>> found.values, found.counts
    (array([0.  , 0.25, 1.  ]), array([1, 2, 1]))
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[~np.isnan(found)]
    if not len(found):
        return Histogram(np.zeros(1), np.zeros(0, dtype=np.int64), whole=False)
    low, high = float(found.min()), float(found.max())
    whole = high - low < 2 * BINS and max(-low, high) < 2**50
    if whole and np.array_equal(found, np.round(found)):
        return Histogram(*_counted(found, np.arange(low, high + 2) - 0.5), whole=True)
    few = _few(found)
    if few is None:
        return Histogram(*_counted(found, _edges(low, high)), whole=False)
    return Histogram(*_counted(found, _between(few)), whole=False, values=few)


def doublings(values: NDArray[Any]) -> Histogram:
    """Count whole numbers from 0 on in bins that double: 0, 1, 2 to 3, 4 to 7, and so on.

    Parameters
    ----------
    values : ndarray of numbers, shape (n,)
        NaNs are left out.

    Returns
    -------
    Histogram
        From the bin of the lowest to that of the highest value.

    Examples
    --------
    >>> found = doublings(np.array([0.0, 5.0, 6.0, 9.0]))
    >>> found.labels, found.counts
    (['0', '1', '2 to 3', '4 to 7', '8 to 15'], array([1, 0, 0, 2, 1]))
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[~np.isnan(found)]
    if not len(found):
        return Histogram(np.zeros(1), np.zeros(0, dtype=np.int64), whole=False)
    first, last = (int(end).bit_length() for end in (found.min(), found.max()))
    powers = [0.0, *(2.0**power for power in range(last + 1))]
    counted = _counted(found, np.array(powers[first : last + 2]))
    return Histogram(*counted, whole=False, doubling=True)


def round_step(span: float, parts: int) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten that cuts `span` into at most `parts`.

    Examples
    --------
    >>> round_step(1.0, 24), round_step(9.3, 5)
    (0.05, 2.0)
    """
    rough = span / parts
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (1, 2, 2.5, 5, 10) if step * power >= 0.999 * rough)
    return float(f"{step * power:.12g}")


def _counted(
    found: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return edges, np.histogram(found, edges)[0].astype(np.int64)


def _few(found: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the distinct values, if a bar for each is seen apart from the others."""
    distinct = np.unique(found)
    # Means of equal rewards may differ in their last digit, so there may be more than bars.
    if len(distinct) > 10 * BINS:
        return None
    near = np.array(sorted({float(f"{value:.12g}") for value in distinct.tolist()}))
    return next((values for values in (distinct, near) if _apart(values, distinct)), None)


def _apart(values: NDArray[np.float64], distinct: NDArray[np.float64]) -> bool:
    """Tell whether `values` are few and far from each other, and are what is `distinct`."""
    with np.errstate(over="ignore"):
        span = float(values[-1] - values[0])
    if len(values) == 1:
        return len(distinct) == 1
    if len(values) > BINS or not math.isfinite(span) or span < 1e-300:
        return False
    nearest = np.abs(distinct[:, None] - values).min(axis=1)
    return bool(np.diff(values).min() >= CLOSEST * span and nearest.max() <= 1e-9 * span)


def _between(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges halfway between values, the outer ones as far from them as looks well."""
    low, high = float(values[0]), float(values[-1])
    if len(values) == 1:
        wide = max(1e-3 * abs(low), 1e-3)
    else:
        wide = max(float(np.diff(values).min()) / 2, (high - low) / 40)
    return np.array([low - wide, *(values[:-1] + np.diff(values) / 2), high + wide])


def _edges(low: float, high: float) -> NDArray[np.float64]:
    """Return edges around `low` to `high`; exact ones where there is no round number between."""
    span = high - low
    if not math.isfinite(span):
        return 2 * np.linspace(low / 2, high / 2, BINS + 1)
    if span <= 1e-9 * max(abs(low), abs(high)) or span < 1e-300:
        wide = max(1e-3 * abs(low), abs(span), 1e-3)
        return np.array([low - wide, high + wide])
    step = round_step(span, BINS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Each edge as people write it, so that a reward of 0.15 lies right of the edge 0.15.
    edges = np.array([float(f"{index * step:.12g}") for index in range(first, last + 1)])
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges
