"""Numbers as written in decimals: 0.1 is 1/10, not its nearest float64.

What was written in place of a float64 is the shortest decimal that reads as it. So a group of
rewards 0.1 and 0.3 has mean 0.2 and spread 0.2, and 2 right in 20 are a tenth.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["highest", "lowest", "share_within", "written"]


def written(value: Any) -> Fraction:
    """Return the exact number that a float64 was written as.

    Parameters
    ----------
    value : str or number
        A decimal, or a float in place of the shortest decimal that reads as it.

    Returns
    -------
    Fraction

    Raises
    ------
    ValueError
        If it is no finite number, or none that float64 can tell from 0.

    Examples
    --------
    >>> written(0.1), written("0.10"), written(3)
    (Fraction(1, 10), Fraction(1, 10), Fraction(3, 1))
    """
    if isinstance(value, Fraction):
        return value
    text = str(value)
    try:
        near = float(text)
    except ValueError:
        near = math.nan
    if not math.isfinite(near):
        raise ValueError(f"{text!r} is not a finite number")
    found = Decimal(text)
    if not near and found:
        raise ValueError(f"{text!r} is too near to 0 for float64")
    return Fraction(found)


def lowest(bound: Fraction) -> float:
    """Return the lowest float64 that, as it is written, is not below a bound.

    Examples
    --------
    >>> lowest(written("0.3")), lowest(written("0.30000000000000001"))
    (0.3, 0.30000000000000004)
    """
    near = float(bound)
    return math.nextafter(near, math.inf) if written(near) < bound else near


def highest(bound: Fraction) -> float:
    """Return the highest float64 that, as it is written, is not above a bound."""
    return -lowest(-bound)


def share_within(
    count: NDArray[np.int64], total: NDArray[np.int64], low: Fraction | None, high: Fraction | None
) -> NDArray[np.bool_]:
    """Tell whether ``low <= count / total <= high``, exactly; never where the total is 0.

    Examples
    --------
    >>> share_within(np.array([2, 1]), np.array([20, 20]), Fraction(1, 10), None)
    array([ True, False])
    """
    inside = total > 0
    sizes, place = np.unique(total, return_inverse=True)
    if low is not None:
        least = [math.ceil(low * size) for size in sizes.tolist()]
        inside &= count >= np.array(least, dtype=np.int64)[place]
    if high is not None:
        most = [math.floor(high * size) for size in sizes.tolist()]
        inside &= count <= np.array(most, dtype=np.int64)[place]
    return inside
