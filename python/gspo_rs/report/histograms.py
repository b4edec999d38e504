"""Counts of values between round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram", "histogram", "round_step"]

BINS = 24


@dataclass(frozen=True)
class Histogram:
    """How many values lie between neighbouring edges; in whole numbers, one bin is one value.

    Attributes
    ----------
    edges : ndarray of float64, shape (k + 1,)
        Rising. A bin holds its left edge; the last one both.
    counts : ndarray of int64, shape (k,)
    whole : bool
        Whether each bin is a single whole number, in its middle.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    whole: bool

    @property
    def total(self) -> int:
        """The number of values."""
        return int(self.counts.sum())


def histogram(values: NDArray[Any]) -> Histogram:
    """Count values in at most about 24 bins with round edges.

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
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[~np.isnan(found)]
    if not len(found):
        return Histogram(np.zeros(1), np.zeros(0, dtype=np.int64), whole=False)
    low, high = float(found.min()), float(found.max())
    whole = high - low < 2 * BINS and max(-low, high) < 2**50
    if whole and np.array_equal(found, np.round(found)):
        edges = np.arange(low, high + 2) - 0.5
    else:
        whole, edges = False, _edges(low, high)
    return Histogram(edges, np.histogram(found, edges)[0].astype(np.int64), whole)


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
