"""Two sources of completions of the same prompts: which groups got better or worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import polars as pl

from gspo_rs.groups.groups import Groups
from gspo_rs.groups.statistics import GroupStats

__all__ = ["Moved", "Versus", "compared", "sign_test"]

SHOWN = 10


@dataclass(frozen=True)
class Moved:
    """A group of both sources and its mean reward in each."""

    key: str
    mean: float
    before: float


@dataclass(frozen=True)
class Versus:
    """Groups of two sources, matched by their keys; of those with a reward in both.

    Attributes
    ----------
    n_shared : int
        Groups with a reward in both.
    n_only_here, n_only_there : int
        Groups with a reward in this source only, and in the other one only.
    better, worse : int
        Of the shared ones, those whose mean reward is higher here, and lower.
    difference, error : float
        Mean over shared groups of the difference of the means, this source less the other, and its
        standard error over groups (ddof 1); NaN for fewer than two.
    p : float
        Of the two-sided sign test of `better` against `worse`.
    up, down : sequence of Moved
        The groups that gain and lose most, at most `SHOWN`.
    """

    n_shared: int
    n_only_here: int
    n_only_there: int
    better: int
    worse: int
    difference: float
    error: float
    p: float
    up: Sequence[Moved]
    down: Sequence[Moved]


def compared(here: GroupStats, there: GroupStats, name: str) -> Versus:
    """Match the groups of two sources by their keys and compare their mean rewards.

    Parameters
    ----------
    here, there : GroupStats
        Of this source, and of the one that it is compared with.
    name : str
        What errors call the other one.

    Raises
    ------
    TypeError
        If a key has another type in the other source.
    """
    ours, others = _means(here), _means(there)
    keys = [column for column in ours.columns if column.startswith("key")]
    for i, key in enumerate(keys):
        one, other = ours.schema[key], others.schema[key]
        if one != other:
            problem = f"column {i + 1} of the group's id is {one} here and {other} in {name}"
            raise TypeError(f"{problem}; cast one of them")
    both = ours.join(others, on=keys, suffix="_there", maintain_order="left")
    both = both.with_columns(moved=pl.col("mean") - pl.col("mean_there"))
    better = both.filter(pl.col("moved") > 0).sort("moved", descending=True, maintain_order=True)
    worse = both.filter(pl.col("moved") < 0).sort("moved", maintain_order=True)
    moved = both["moved"].to_numpy()
    n = len(moved)
    return Versus(
        n_shared=n,
        n_only_here=ours.height - n,
        n_only_there=others.height - n,
        better=better.height,
        worse=worse.height,
        difference=float(moved.mean()) if n else math.nan,
        error=float(moved.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
        p=sign_test(better.height, worse.height),
        up=_moved(better, keys),
        down=_moved(worse, keys),
    )


def sign_test(better: int, worse: int) -> float:
    """Return the chance of a split as uneven as this one, or more, if both are equally likely.

    Examples
    --------
    >>> sign_test(9, 1), sign_test(3, 3)
    (0.021484375, 1.0)
    """
    n, few = better + worse, min(better, worse)
    if n < 1000:
        tail = sum(math.comb(n, k) for k in range(few + 1))
        return min(1.0, float(Fraction(2 * tail, 2**n)))
    # The last term by logarithms, those before it by their ratio to the next.
    logarithm = math.lgamma(n + 1) - math.lgamma(few + 1) - math.lgamma(n - few + 1)
    term, total = 1.0, 0.0
    for k in range(few, -1, -1):
        total += term
        term *= k / (n - k + 1)
        if term < 1e-17 * total:
            break
    return min(1.0, 2 * math.exp(logarithm - n * math.log(2)) * total)


def _means(stats: GroupStats) -> pl.DataFrame:
    """Return the keys and means of the groups with a reward."""
    frame = _keys(stats.groups).with_columns(mean=pl.Series(stats.mean))
    return frame.filter(pl.Series(stats.scored > 0))


def _keys(groups: Groups) -> pl.DataFrame:
    ids = groups.ids
    columns = ids.get_columns() if isinstance(ids, pl.DataFrame) else [ids]
    return pl.DataFrame([_plain(column).alias(f"key{i}") for i, column in enumerate(columns)])


def _plain(column: pl.Series) -> pl.Series:
    """Return keys in the type that they have in common with those of another file."""
    if column.dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    return column.cast(pl.Int128) if column.dtype.is_integer() else column


def _moved(groups: pl.DataFrame, keys: Sequence[str]) -> list[Moved]:
    return [
        Moved(" · ".join(str(row[key]) for key in keys), row["mean"], row["mean_there"])
        for row in groups.head(SHOWN).iter_rows(named=True)
    ]
