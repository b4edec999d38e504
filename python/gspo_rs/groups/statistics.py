"""Group statistics: ranks, percentiles, quantiles, moments, pass@k and best-of-n.

Everywhere here, a null or NaN reward is unscorable: it counts in the group's size and in
nothing else. Equality is exact, with ``-0.0 == 0.0``. Sums run over sorted rewards in float64,
so every bit is independent of the order of the rows, of their chunking and of the threads.
`array_types` lets each function take and return arrays of other libraries, and take
`group_size`: what arrives in a function are rewards and `Groups`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gspo_rs import _core
from gspo_rs.groups.array_types import per_group, per_row, record_per_group
from gspo_rs.groups.checks import REQUIRED, Floats, as_count, as_rewards, plain, required
from gspo_rs.groups.decimals import written
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.rows import column
from gspo_rs.groups.synonyms import listed

if TYPE_CHECKING:
    import polars as pl

Bools = NDArray[np.bool_]
Ties = Literal["average", "min", "max", "dense", "ordinal"]
TIES = ("average", "min", "max", "dense", "ordinal")
# A mean or a difference may be this many last digits of the largest number in it away from what
# the decimals give; nearer to a bound they are asked.
DOUBT = 8 * float(np.finfo(np.float64).eps)
# Sums of such whole numbers are taken in int64.
SMALL = 2**62


@dataclass(frozen=True)
class GroupStats:
    """Statistics of each group; every field is an array of shape (n_groups,).

    Those but `size` are of the scorable rewards, and NaN where there are none. The arrays are of
    the library of the rewards: NumPy, PyTorch, pandas or Polars.
    """

    groups: Groups
    """The groups described."""
    size: NDArray[np.int64]
    """Members, unscorable ones included."""
    scored: NDArray[np.int64]
    """Scorable members."""
    mean: Floats
    """Arithmetic mean: the float64 nearest to that of the exact sum."""
    std: Floats
    """Sample standard deviation (ddof 1); NaN for fewer than two scorable members."""
    min: Floats
    """Lowest reward."""
    max: Floats
    """Highest reward."""
    median: Floats
    """Median."""
    distinct: NDArray[np.int64]
    """Number of distinct rewards."""
    informative: NDArray[np.bool_]
    """Whether ``max > min``: the group prefers one member to another."""

    def to_polars(self) -> pl.DataFrame:
        """Return one row per group: the id (or its columns), then the statistics."""
        import polars as pl

        ids = self.groups.ids
        keys = ids if isinstance(ids, pl.DataFrame) else pl.DataFrame({"id": ids})
        fields = [name for name in self.__dataclass_fields__ if name != "groups"]
        if clash := sorted(set(fields) & set(keys.columns)):
            raise ValueError(f"the id {clash[0]!r} has the name of a statistic; rename it")
        values = {name: np.asarray(plain(getattr(self, name))) for name in fields}
        return keys.with_columns(pl.Series(name, column) for name, column in values.items())


@per_row
def rank(
    rewards: Any, groups: Any = None, method: Ties = "average", *, group_size: int | None = None
) -> Floats:
    """Rank each reward within its group, 1 for the lowest.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    method : {"average", "min", "max", "dense", "ordinal"}
        What tied rewards get: the mean, lowest or highest of their ranks, one rank per
        distinct reward without gaps, or different ranks in row order.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of float64, shape (n,)
        Ranks from 1 to the number of scorable members; NaN for an unscorable reward.

    Raises
    ------
    ValueError
        If a reward is infinite (the message names the row), or the numbers of rewards and
        rollouts differ.

    References
    ----------
    .. [1] M. G. Kendall (1945). The treatment of ties in ranking problems.
       Biometrika 33 (3), 239-251.

    Examples
    --------
    >>> rank([0.5, 7.0, 1.0, 2.0, 0.5], ["a", "b", "a", "b", "a"])
    array([1.5, 2. , 3. , 1. , 1.5])
    """
    if method not in TIES:
        raise ValueError(f"method is {method!r}; use one of {listed(method, TIES)}")
    return column(rewards, groups, "rank", {"method": method})


@per_row
def percentile(rewards: Any, groups: Any = None, *, group_size: int | None = None) -> Floats:
    """Return the share of the other members of its group that each reward beats.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of float64, shape (n,)
        ``(less + equal / 2) / (N - 1)`` in [0, 1], of the N scorable members; 0.5 for a lone
        one, NaN for an unscorable reward.

    Raises
    ------
    ValueError
        As `rank`.

    Examples
    --------
    >>> percentile([3.0, 1.0, 1.0, 0.0], ["a", "a", "a", "a"])
    array([1. , 0.5, 0.5, 0. ])
    """
    return column(rewards, groups, "percentile", {})


@per_row
def top_fraction(
    rewards: Any, groups: Any = None, q: float = REQUIRED, *, group_size: int | None = None
) -> Floats:
    """Return the share of each row in the best fraction `q` of its group, ties split evenly.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    q : float
        The fraction, in (0, 1].
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of float64, shape (n,)
        In [0, 1], with mean `q` over the scorable members of each group; NaN for an
        unscorable reward.

    Raises
    ------
    ValueError
        If `q` is outside (0, 1], or as `rank`.

    Examples
    --------
    >>> top_fraction([3.0, 1.0, 1.0, 0.0], ["a", "a", "a", "a"], q=0.5)
    array([1. , 0.5, 0.5, 0. ])
    """
    required("q", q)
    return column(rewards, groups, "top_fraction", {"q": float(q)})


@per_group
def quantile(
    rewards: Any,
    groups: Any = None,
    q: float | Sequence[float] = REQUIRED,
    *,
    group_size: int | None = None,
) -> Floats:
    """Return quantiles of each group's rewards, interpolated linearly.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    q : float, or sequence of k floats
        Probabilities in [0, 1].
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of float64, shape (n_groups,), or (n_groups, k) for a sequence
        NaN for a group without scorable members. Of pandas, a sequence gives a DataFrame.

    Raises
    ------
    ValueError
        If a `q` is outside [0, 1], or as `rank`.

    References
    ----------
    .. [1] R. J. Hyndman and Y. Fan (1996). Sample quantiles in statistical packages.
       The American Statistician 50 (4), 361-365. Type 7.

    Examples
    --------
    >>> quantile([0.0, 1.0, 4.0, 2.0], ["a", "a", "b", "b"], [0.5, 1.0])
    array([[0.5, 1. ],
           [3. , 4. ]])
    """
    required("q", q)
    wanted = np.atleast_1d(np.asarray(q, dtype=np.float64))
    found = _core.quantiles(as_rewards(rewards), groups._core, wanted.tolist())
    return found if np.ndim(q) == 0 else found.reshape(-1, len(wanted))


@record_per_group
def stats(rewards: Any, groups: Any = None, *, group_size: int | None = None) -> GroupStats:
    """Describe each group by its size, mean, deviation, extremes, median and ties.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    GroupStats
        Arrays of shape (n_groups,).

    Raises
    ------
    ValueError
        If the deviation of a group leaves the range of float64, or as `rank`.

    Examples
    --------
    >>> found = stats([0.0, 1.0, 5.0], ["a", "a", "b"])
    >>> found.mean, found.informative
    (array([0.5, 5. ]), array([ True, False]))
    """
    found = _described(rewards, groups)
    if (endless := np.isinf(found.std)).any():
        g = int(np.argmax(endless))
        raise ValueError(
            f"the standard deviation of group {g}, whose rewards lie between {found.min[g]} and "
            f"{found.max[g]}, leaves the range of float64; scale the rewards down"
        )
    return found


def _described(rewards: ArrayLike, groups: Groups) -> GroupStats:
    found = _core.stats(as_rewards(rewards), groups._core)
    for array in found.values():
        array.flags.writeable = False
    # NaN, where nothing was scored, is not greater than NaN.
    return GroupStats(groups=groups, informative=found["max"] > found["min"], **found)


@per_group
def informative(
    rewards: Any,
    groups: Any = None,
    low: float | None = None,
    high: float | None = None,
    *,
    group_size: int | None = None,
) -> Bools:
    """Return which groups have unequal rewards: those with ``max > min``.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    low, high : float, optional
        Keep only groups with ``low <= mean <= high``. Both are compared as they are written: 0.1
        is a tenth, and 2 right in 20 are not below it.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of bool, shape (n_groups,)

    Raises
    ------
    ValueError
        If a bound is NaN, or as `rank`.

    Examples
    --------
    >>> informative([0.0, 1.0, 5.0, 5.0], ["a", "a", "b", "b"])
    array([ True, False])
    """
    given = as_rewards(rewards)
    found = _described(given, groups)
    keep = found.informative.copy()
    # A mean that is the very float of a bound is inside it: 1/3 is above 0.3333333333333333.
    if low is not None:
        keep &= mean_within(given, found, _bound("low", low), None) | (found.mean == low)
    if high is not None:
        keep &= mean_within(given, found, None, _bound("high", high)) | (found.mean == high)
    return keep


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
    >>> from gspo_rs.groups.decimals import written
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
    >>> from gspo_rs.groups.decimals import written
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


@per_group
def pass_at_k(
    rewards: Any,
    groups: Any = None,
    k: int = REQUIRED,
    threshold: float = 0.5,
    *,
    group_size: int | None = None,
) -> Floats:
    """Estimate for each group the chance that at least one of `k` completions is right.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    k : int
        Completions drawn, at least 1.
    threshold : float
        A completion is right when its reward is at least this.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        ``1 - C(N - c, k) / C(N, k)`` of N scorable members, c of them right; NaN where
        ``N < k``, which says nothing about `k` draws.

    Raises
    ------
    ValueError
        If `k` is less than 1 or `threshold` not finite, or as `rank`.
    TypeError
        If `k` is not an integer.

    References
    ----------
    .. [1] M. Chen et al. (2021). Evaluating large language models trained on code.
       arXiv 2107.03374.

    Examples
    --------
    >>> pass_at_k([1.0, 0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "a", "b"], k=2)
    array([0.5, nan])
    """
    if not math.isfinite(threshold):
        raise ValueError(f"threshold is {threshold}; it is a finite number")
    draws = as_count("k", k, lowest=1)
    return _core.pass_at_k(as_rewards(rewards), groups._core, draws, float(threshold))


@per_group
def best_of_n(
    rewards: Any, groups: Any = None, n: int = REQUIRED, *, group_size: int | None = None
) -> Floats:
    """Estimate for each group the mean of the highest of `n` rewards.

    Parameters
    ----------
    rewards : array_like of float, shape (n,), or without groups (P, G)
        One reward per rollout; NaN or null where it could not be scored.
    groups : Groups or ids of n rows, optional
        The groups, or what `Groups` takes; left out, each row of (P, G) is a group.
    n : int
        Completions drawn, at least 1.
    group_size : int, optional
        In place of `groups`: consecutive rows, so many to a group.

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        Mean of the maximum over all subsets of `n` scorable members, in units of reward; NaN
        where there are fewer than `n`.

    Raises
    ------
    ValueError
        If `n` is less than 1, or as `rank`.
    TypeError
        If `n` is not an integer.

    References
    ----------
    .. [1] PKPO (2025). Pass@K policy optimization. arXiv 2505.15201.

    Examples
    --------
    >>> best_of_n([3.0, 0.0, 6.0], ["a", "a", "a"], n=2)
    array([5.])
    """
    draws = as_count("n", n, lowest=1)
    return _core.best_of(as_rewards(rewards), groups._core, draws)


def _bound(name: str, value: float) -> Fraction:
    """Return a bound as it was written; in place of an infinite one the last float64."""
    if value != value:
        raise ValueError(f"{name} is {value}; it is a number")
    return written(min(max(value, -sys.float_info.max), sys.float_info.max))


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
