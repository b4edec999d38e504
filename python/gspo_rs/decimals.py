"""Bounds as a person wrote them in decimals: 0.1 is 1/10, whatever its nearest float64.

What was written in place of a float64 is the shortest decimal that reads as it. So a group of
rewards 0.1 and 0.3 has mean 0.2 and spread 0.2, and 2 right in 20 are a tenth.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.row_columns import Floats

if TYPE_CHECKING:
    from gspo_rs.statistics import GroupStats

__all__ = ["highest", "lowest", "mean_within", "share_within", "spread_within", "written"]

Bools = NDArray[np.bool_]
# A mean or a difference may be this many last digits of the largest number in it away from what
# the decimals give; nearer to a bound they are asked.
DOUBT = 8 * float(np.finfo(np.float64).eps)
# Sums of such whole numbers are taken in int64.
SMALL = 2**62


def written(value: Any) -> Fraction:
    """Return the number that was written.

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
) -> Bools:
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


def mean_within(
    rewards: Floats, described: GroupStats, low: Fraction | None, high: Fraction | None
) -> Bools:
    """Tell for which groups ``low <= mean <= high``, where rewards and bounds are as written.

    Parameters
    ----------
    rewards : ndarray of float64, shape (n,)
    described : GroupStats
        Of these rewards.
    low, high : Fraction, optional

    Returns
    -------
    ndarray of bool, shape (n_groups,)
        False for a group without a reward.

    Examples
    --------
    >>> from gspo_rs.statistics import stats
    >>> described = stats([0.1, 0.3], ["a", "a"])
    >>> mean_within(np.array([0.1, 0.3]), described, written(0.2), written(0.2))
    array([ True])
    """
    reach = np.maximum(np.abs(described.min), np.abs(described.max))
    inside = described.scored > 0
    for bound, sign in ((low, 1), (high, -1)):
        if bound is None:
            continue
        passes, doubtful = _compared(described.mean, reach, bound, sign)
        doubtful &= inside
        if doubtful.any():
            which = np.flatnonzero(doubtful)
            sums, unit = _sums(rewards, described, which)
            least = [sign * bound.numerator * unit * n for n in described.scored[which].tolist()]
            passes[which] = [
                sign * total * bound.denominator >= limit
                for total, limit in zip(sums, least, strict=True)
            ]
        inside &= passes
    return inside


def spread_within(described: GroupStats, low: Fraction) -> Bools:
    """Tell for which groups ``max - min >= low``, all of them as written.

    Examples
    --------
    >>> from gspo_rs.statistics import stats
    >>> spread_within(stats([0.1, 0.3], ["a", "a"]), written(0.2))
    array([ True])
    """
    reach = np.maximum(np.abs(described.min), np.abs(described.max))
    with np.errstate(over="ignore"):
        passes, doubtful = _compared(described.max - described.min, reach, low, 1)
    which = np.flatnonzero(doubtful & (described.scored > 0))
    ends = zip(described.max[which].tolist(), described.min[which].tolist(), strict=True)
    passes[which] = [written(top) - written(bottom) >= low for top, bottom in ends]
    return passes & (described.scored > 0)


def _compared(values: Floats, reach: Floats, bound: Fraction, sign: int) -> tuple[Bools, Bools]:
    """Tell which values pass a bound, and which are too near to it to say; NaN is neither."""
    near = float(bound)
    with np.errstate(over="ignore", invalid="ignore"):
        step = sign * (values - near)
        return step >= 0, np.abs(step) <= DOUBT * (reach + abs(near))


def _sums(
    rewards: Floats, described: GroupStats, which: NDArray[np.int64]
) -> tuple[list[int], int]:
    """Return sums of groups in whole numbers of one unit, and how many units are 1."""
    groups = described.groups
    sizes, offsets = groups.sizes[which], groups.offsets[which]
    starts = np.cumsum(sizes) - sizes
    places = np.arange(int(sizes.sum())) + np.repeat(offsets - starts, sizes)
    # An unscorable reward adds nothing.
    values = np.nan_to_num(rewards[groups.order[places]])
    levels, place = np.unique(values, return_inverse=True)
    exact = [written(level) for level in levels.tolist()]
    unit = math.lcm(*(level.denominator for level in exact))
    numbers = [int(level * unit) for level in exact]
    fits = max(map(abs, numbers)) * int(sizes.max()) < SMALL
    terms = np.array(numbers, dtype=np.int64 if fits else object)[place]
    return np.add.reduceat(terms, starts).tolist(), unit
