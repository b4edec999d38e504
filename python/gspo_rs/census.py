"""What there is to learn from in a data set: its groups, counted without reading a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from gspo_rs.groups import Groups
from gspo_rs.row_columns import Floats
from gspo_rs.source import KEY, NUMBER, Source, SourceLike, locate
from gspo_rs.statistics import informative

__all__ = ["Census", "Narrow", "read_narrow", "take_census"]


@dataclass(frozen=True)
class Narrow:
    """The short columns of a data set, in row order.

    Attributes
    ----------
    groups : Groups
        Which rows belong together, numbered by first appearance.
    rewards : ndarray of float64, shape (n,)
        NaN where there is none.
    beside : DataFrame of n rows
        What else was asked for.
    """

    groups: Groups
    rewards: Floats
    beside: pl.DataFrame


@dataclass(frozen=True)
class Census:
    """The groups of a data set and what their rewards tell.

    Attributes
    ----------
    groups : Groups
        Which rows belong together, numbered by first appearance.
    n_unscorable : int
        Rows whose reward is null or NaN.
    n_uninformative : int
        Groups whose scored rewards are all equal, or that have none: they teach nothing.
    """

    groups: Groups
    n_unscorable: int
    n_uninformative: int

    @property
    def n_rollouts(self) -> int:
        """The number of rows."""
        return self.groups.n_rollouts

    @property
    def n_groups(self) -> int:
        """The number of groups."""
        return self.groups.n_groups


def take_census(source: SourceLike, *, by: str | Sequence[str], reward: str = "reward") -> Census:
    """Read only the ids and the rewards of a data set, check them, and count.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions; see `gspo_rs.data.scan`.
    by : str or sequence of str
        The columns that name the group of a row.
    reward : str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion.

    Returns
    -------
    Census

    Raises
    ------
    ValueError
        If a column is missing, an id is null, a reward is infinite (both name the row), or there
        is no row.
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be found or read.

    Notes
    -----
    O(n) memory for n rows, whatever the length of their texts.

    Examples
    --------
    >>> frame = pl.DataFrame({"id": ["a", "b", "a"], "reward": [0.0, 1.0, 1.0]})
    >>> census = take_census(frame, by="id")
    >>> census.n_rollouts, census.n_groups, census.n_uninformative
    (3, 2, 1)
    """
    narrow = read_narrow(locate(source), by, reward)
    return Census(
        groups=narrow.groups,
        n_unscorable=int(np.isnan(narrow.rewards).sum()),
        n_uninformative=int((~informative(narrow.rewards, narrow.groups)).sum()),
    )


def read_narrow(
    source: Source, by: str | Sequence[str], reward: str, beside: Sequence[pl.Expr] = ()
) -> Narrow:
    """Read the ids, the rewards and some expressions `beside` of every row, as `take_census`."""
    keys = [by] if isinstance(by, str) else list(by)
    if not keys:
        raise ValueError("`by` names no column; a group needs at least one")
    source.check([*((key, KEY) for key in keys), (reward, NUMBER)])
    ids = [pl.col(key).alias(f"key{i}") for i, key in enumerate(keys)]
    others = [expression.alias(f"beside{i}") for i, expression in enumerate(beside)]
    frame = source.collect([*ids, pl.col(reward).cast(pl.Float64).alias("reward"), *others])
    if frame.is_empty():
        raise ValueError(f"{source.name} has no rows")
    for i, key in enumerate(keys):
        _refuse(frame[f"key{i}"].is_null(), source, f"the group id {key!r} is null")
    rewards = frame["reward"].fill_null(np.nan)
    _refuse(rewards.is_infinite(), source, f"the reward {reward!r} is infinite")
    groups = _groups(frame.select(f"key{i}" for i in range(len(keys))))
    found = frame.select(pl.col(f"beside{i}") for i in range(len(beside)))
    return Narrow(groups, rewards.to_numpy(), found)


def _refuse(wrong: pl.Series, source: Source, problem: str) -> None:
    if wrong.any():
        count = wrong.sum()
        more = f" (and at {count - 1} more)" if count > 1 else ""
        raise ValueError(f"{problem} at row {wrong.arg_max()} of {source.name}{more}")


def _groups(ids: pl.DataFrame) -> Groups:
    return Groups(ids.to_series() if ids.width == 1 else ids)
