"""An index of the groups of a data set, built without reading texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.progress import under_way
from gspo_rs.data.reward_column import rewards_of
from gspo_rs.data.schema import as_keys, as_names
from gspo_rs.data.source import KEY, NUMBER, Source, SourceLike, locate
from gspo_rs.groups.batch_estimators import preferring
from gspo_rs.groups.checks import Floats, as_rewards
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.sequences import sequences_of
from gspo_rs.groups.statistics import informative
from gspo_rs.rollouts.rollouts import summed

__all__ = ["GroupIndex", "KeyedRewards", "index_groups", "read_keys"]


@dataclass(frozen=True)
class KeyedRewards:
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
class GroupIndex:
    """The groups of a data set and statistics of their rewards.

    Attributes
    ----------
    groups : Groups
        Which rows belong together, numbered by first appearance.
    n_unscorable : int
        Rows whose reward is null or NaN.
    informative : ndarray of bool, shape (n_groups,)
        Groups that teach something: not all of their scored rewards are equal.
    """

    groups: Groups
    n_unscorable: int
    informative: NDArray[np.bool_]

    @property
    def n_rollouts(self) -> int:
        """The number of rows."""
        return self.groups.n_rollouts

    @property
    def n_groups(self) -> int:
        """The number of groups."""
        return self.groups.n_groups

    @property
    def n_uninformative(self) -> int:
        """Groups whose scored rewards are all equal, or that have none: they teach nothing."""
        return int((~self.informative).sum())


@with_known_columns
def index_groups(
    source: SourceLike,
    *,
    by: str | Sequence[str] | None = None,
    reward: str | Sequence[str] = "reward",
    reward_weights: Sequence[float] | None = None,
    apart: bool = False,
    rollout_ids: str | None = None,
) -> GroupIndex:
    """Read and check only the ids and rewards of a data set, and count its groups.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row, or one row per prompt with lists; see `gspo_rs.data.scan`.
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    reward : str or sequence of str
        Column of the rewards: numbers or bools, null or NaN for an unscorable completion. Several
        are added up, leaving out what is unscorable.
    reward_weights : sequence of float, optional
        Of the columns in their sum; 1 by default.
    apart : bool
        Whether a group teaches something where its members differ in some reward that has a
        weight, even if not in the sum: so it is for ``gdpo`` and ``borda``.
    rollout_ids : str, optional
        Column that names the rollout of a row, where one gave several sequences. They are checked
        to have one reward.

    Returns
    -------
    GroupIndex

    Raises
    ------
    ValueError
        If a column is missing, an id is null, a reward is infinite (both name the row), two rows of
        one rollout have different rewards (names both), or there is no row.
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
    >>> index = index_groups(frame, by="id")
    >>> index.n_rollouts, index.n_groups, index.n_uninformative
    (3, 2, 1)
    """
    names = as_names(reward, "reward")
    beside = [] if rollout_ids is None else [rollout_ids]
    located, keys = by_member(locate(source), by, names, beside=beside)
    located.check([*((name, NUMBER) for name in names[1:]), *((name, KEY) for name in beside)])
    more = [*map(located.column, names[1:]), *map(located.key, beside)]
    narrow = read_keys(located, keys, names[0], more)
    others = zip(names[1:], narrow.beside, strict=False)
    rewards = {names[0]: narrow.rewards} | {n: _finite(c, n, located) for n, c in others}
    if rollout_ids is not None:
        ids = narrow.beside[f"beside{len(names) - 1}"]
        _refuse_differing(rewards, narrow.groups, ids.alias(rollout_ids), located)
    total = summed(rewards, reward_weights)["reward"]
    if apart:
        signal = preferring(list(rewards.values()), narrow.groups, reward_weights)
    else:
        signal = informative(total, narrow.groups)
    return GroupIndex(
        groups=narrow.groups,
        n_unscorable=int(np.isnan(total).sum()),
        informative=signal,
    )


def read_keys(
    source: Source, by: str | Sequence[str], reward: str, beside: Sequence[pl.Expr] = ()
) -> KeyedRewards:
    """Read the ids, the rewards and some expressions `beside` of every row, as `index_groups`."""
    keys = as_keys(by)
    source.check([*((key, KEY) for key in keys), (reward, NUMBER)])
    ids = [source.key(key).alias(f"key{i}") for i, key in enumerate(keys)]
    others = [expression.alias(f"beside{i}") for i, expression in enumerate(beside)]
    with under_way("ids"):
        frame = source.collect([*ids, source.column(reward).alias("reward"), *others])
    if frame.is_empty():
        raise ValueError(f"{source.name} has no rows")
    for i, key in enumerate(keys):
        _refuse(frame[f"key{i}"].is_null(), source, f"the group id {key!r} is null")
    rewards = _finite(frame["reward"], reward, source)
    columns = frame.select(f"key{i}" for i in range(len(keys)))
    groups = Groups(columns.to_series() if len(keys) == 1 else columns)
    found = frame.select(pl.col(f"beside{i}") for i in range(len(beside)))
    return KeyedRewards(groups, rewards, found)


def _refuse_differing(
    rewards: Mapping[str, Floats], groups: Groups, ids: pl.Series, source: Source
) -> None:
    """Raise a ValueError if two rows of one rollout have different rewards."""
    _refuse(ids.is_null(), source, f"the rollout {ids.name!r} is null")
    found = sequences_of(groups, ids)
    for column in rewards.values():
        found.refuse_differing(column, lambda row: f"{source.place(row)} of {source.name}")


def _finite(rewards: pl.Series, name: str, source: Source) -> Floats:
    try:
        decimals = rewards.dtype.is_decimal()
        found = as_rewards(rewards.to_list()) if decimals else rewards_of(rewards.alias(name))
    except TypeError as error:
        raise TypeError(f"{source.name}, column {name!r}: {error}") from error
    _refuse(pl.Series(np.isinf(found)), source, f"the reward {name!r} is infinite")
    return found


def _refuse(wrong: pl.Series, source: Source, problem: str) -> None:
    if wrong.any():
        count = wrong.sum()
        more = f" (and at {count - 1} more)" if count > 1 else ""
        row = int(np.argmax(wrong.to_numpy()))
        raise ValueError(f"{problem} at {source.place(row)} of {source.name}{more}")
