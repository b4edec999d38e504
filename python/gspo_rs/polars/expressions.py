"""Conversion of Polars columns into rewards and groups, and of results back into columns.

The keys are inputs of one function that sees the whole columns: ``.over()`` would call it once for
each group, and a function declared elementwise would see groups in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.reward_column import rewards_of
from gspo_rs.data.schema import as_keys
from gspo_rs.groups.checks import Floats
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.statistics import stats

__all__ = ["By", "Compute", "NullIds", "describe", "mapped", "narrow"]

By: TypeAlias = "str | pl.Expr | Sequence[str | pl.Expr]"
NullIds: TypeAlias = Literal["error", "drop"]
# Rewards, their groups and the options that came as columns → columns by name.
Compute: TypeAlias = Callable[[Floats, Groups, dict[str, Any]], dict[str, Floats]]

OF_A_GROUP = {"group_size": pl.Int64, "group_mean": pl.Float64, "group_std": pl.Float64}


def mapped(
    rewards: pl.Expr,
    by: By | None,
    compute: Compute,
    *,
    fields: Sequence[str] = (),
    null_ids: NullIds = "error",
    options: dict[str, Any] | None = None,
) -> pl.Expr:
    """Return the expression that computes from whole columns.

    Parameters
    ----------
    rewards : Expr
        One reward per row or, without `by`, a list of the rewards of a group.
    by : str, Expr, or sequence of these, optional
        The key columns.
    compute : callable
        What to compute; NaN becomes null.
    fields : sequence of str
        The names that `compute` returns, for a struct; none for a single column.
    null_ids : {"error", "drop"}
        See `gspo_rs.Groups`.
    options : dict, optional
        For `compute`; those that are expressions reach it as arrays.

    Returns
    -------
    Expr
        With its type declared, so that a lazy frame knows its schema.
    """
    columns = {name: v for name, v in (options or {}).items() if isinstance(v, pl.Expr)}
    constants = {name: v for name, v in (options or {}).items() if name not in columns}
    keys = [] if by is None else _keys(by)

    def call(inputs: Sequence[pl.Series]) -> pl.Series:
        reward, *others = inputs
        given, ids = others[: len(columns)], others[len(columns) :]
        named = dict(zip(columns, given, strict=True))
        if by is None:
            found = _by_list(reward, compute, constants, named)
        else:
            groups = _groups(ids, reward, null_ids)
            arrays = {name: series.to_numpy() for name, series in named.items()}
            found = _series(compute(rewards_of(reward), groups, constants | arrays))
        return pl.DataFrame(found).to_struct(reward.name) if fields else found[0]

    each = pl.Float64() if by is not None else pl.List(pl.Float64())
    of_fields = pl.Struct({name: OF_A_GROUP.get(name, each) for name in fields})
    inputs = [rewards, *columns.values(), *keys]
    return pl.map_batches(inputs, call, return_dtype=of_fields if fields else each)


def narrow(by: By, reward: str | pl.Expr) -> list[pl.Expr]:
    """Return what `describe` needs of a frame."""
    rewards = pl.col(reward) if isinstance(reward, str) else reward
    return [pl.struct(_entries(by)).alias("key"), rewards.alias("reward")]


def describe(frame: pl.DataFrame, null_ids: NullIds) -> pl.DataFrame:
    """Describe each group of a frame that `narrow` selected.

    Raises
    ------
    ValueError
        If a key has the name of a statistic, or as `gspo_rs.stats`.
    """
    keys, reward = frame["key"].struct.unnest(), frame["reward"]
    groups = _groups([frame["key"]], reward, null_ids)
    found = stats(rewards_of(reward), groups)
    names = [name for name in found.__dataclass_fields__ if name != "groups"]
    if clash := sorted(set(names) & set(keys.columns)):
        raise ValueError(f"the key {clash[0]!r} has the name of a statistic; use .alias() on it")
    firsts = groups.order[groups.offsets[:-1]]
    described = keys[firsts].with_columns(pl.Series(name, getattr(found, name)) for name in names)
    return described.with_columns(pl.col(names).exclude(pl.Boolean, pl.Int64).fill_nan(None))


def _keys(by: By) -> list[pl.Expr]:
    """Return one expression per key; one that stands for several columns becomes a struct.

    Polars would otherwise repeat the whole expression for each of these columns.
    """
    return [pl.struct(key) if key.meta.has_multiple_outputs() else key for key in _entries(by)]


def _entries(by: By) -> list[pl.Expr]:
    keys = [by] if isinstance(by, pl.Expr) else as_keys(by)
    return [pl.col(key) if isinstance(key, str) else key for key in keys]


def _groups(keys: Sequence[pl.Series], reward: pl.Series, null_ids: NullIds) -> Groups:
    """Cut by the columns together."""
    ids = [_as_long(column, len(reward)) for key in keys for column in _unnested(key)]
    if reward.dtype == pl.List:
        lists = f"the rewards {reward.name!r} are {reward.dtype}, a list in each row"
        raise TypeError(f"{lists}; leave out `by` if each is a group, or explode them")
    if len(ids) == 1:
        return Groups(ids[0], null_ids)
    return Groups(pl.DataFrame([s.alias(f"key{i}") for i, s in enumerate(ids)]), null_ids)


def _unnested(key: pl.Series) -> list[pl.Series]:
    if key.dtype != pl.Struct:
        return [key]
    return [column for field in key.struct.unnest() for column in _unnested(field)]


def _as_long(key: pl.Series, n: int) -> pl.Series:
    """Repeat a literal key for each of `n` rows."""
    return key.new_from_index(0, n) if len(key) == 1 != n else key


def _series(found: dict[str, Floats]) -> list[pl.Series]:
    """Turn arrays into columns, NaN into null; the dictionary is emptied to free each at once."""
    columns = []
    for name in list(found):
        values = found.pop(name)
        column = pl.Series(name, values)
        if np.isnan(values).any():
            column = column.fill_nan(None)
        columns.append(column.cast(OF_A_GROUP.get(name, pl.Float64)))
    return columns


def _by_list(
    reward: pl.Series, compute: Compute, constants: dict[str, Any], named: dict[str, pl.Series]
) -> list[pl.Series]:
    """Compute from lists, each of them a group: a null list gives null, an empty one is empty."""
    # As in `rewards_of`.
    name, reward = reward.name, reward.alias("rewards")
    if isinstance(reward.dtype, pl.Array):
        reward = reward.arr.to_list()
    if reward.dtype != pl.List:
        rows = f"the rewards {name!r} are {reward.dtype}, one in each row"
        raise TypeError(f"{rows}; name their groups with `by`, or use lists of rewards")
    lengths = reward.list.len()
    full = (lengths > 0).fill_null(False)
    sizes = lengths.filter(full).to_numpy().astype(np.int64)
    groups = Groups.from_offsets(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    flat = rewards_of(reward.filter(full).explode())
    _refuse_infinite(flat, name, np.repeat(full.arg_true().to_numpy(), sizes))
    arrays = {name: _flattened(series, full, sizes) for name, series in named.items()}
    found = _series(compute(flat, groups, constants | arrays))
    return [_relisted(column, lengths, groups) for column in found]


def _flattened(option: pl.Series, full: pl.Series, sizes: NDArray[np.int64]) -> NDArray[Any]:
    lists = option.filter(full)
    if lists.dtype != pl.List or not np.array_equal(lists.list.len(), sizes):
        raise ValueError(f"the option {option.name!r} needs one list per row, as long as its group")
    return lists.explode().to_numpy()


def _refuse_infinite(flat: Floats, name: str, row_of: NDArray[Any]) -> None:
    if (infinite := np.isinf(flat)).any():
        row = row_of[infinite.argmax()]
        raise ValueError(f"a reward of {name!r} at row {row} is infinite; use null or NaN")


def _relisted(column: pl.Series, lengths: pl.Series, groups: Groups) -> pl.Series:
    """Bring a column of members back to one row per list."""
    if column.name == "group_size":
        return lengths.alias(column.name).cast(pl.Int64)
    # Said to be sorted, lest Polars hash what lies side by side.
    group = pl.Series("group", np.repeat(np.arange(groups.n_groups), groups.sizes)).set_sorted()
    members = pl.DataFrame([group, column]).group_by("group", maintain_order=True)
    value = pl.col(column.name)
    lists = members.agg(value.first() if column.name in OF_A_GROUP else value)[column.name]
    # The k-th list with members belongs to the k-th row that has some.
    full = (lengths > 0).fill_null(False)
    place = pl.select(pl.when(full).then(full.cum_sum() - 1)).to_series().cast(pl.Int64)
    placed = lists.gather(place)
    if column.name in OF_A_GROUP:
        return placed
    empty = pl.lit([], dtype=pl.List(pl.Float64))
    return (
        placed.to_frame()
        .select(pl.when(lengths == 0).then(empty).otherwise(value).alias(column.name))
        .to_series()
    )
