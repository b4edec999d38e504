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

from gspo_rs import _core
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
    valid = reward.is_not_null().to_numpy() if reward.null_count() else None
    lengths = reward.list.len().fill_null(0).to_numpy()
    full = lengths > 0
    all_full = bool(full.all())
    sizes = lengths if all_full else lengths[full]
    groups = Groups.from_offsets(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))
    flat = rewards_of((reward if all_full else reward.filter(pl.Series(full))).explode())
    arrays = {name: _flattened(series, full, sizes) for name, series in named.items()}
    try:
        found = compute(flat, groups, constants | arrays)
    except ValueError:
        _refuse_infinite(flat, name, groups, np.flatnonzero(full))
        raise
    return [
        _one_each(name, found.pop(name)[groups.offsets[:-1]], reward, full)
        if name in OF_A_GROUP
        else _lists(name, found.pop(name), lengths, valid)
        for name in list(found)
    ]


def _lists(
    name: str, values: Floats, lengths: NDArray[np.uint32], valid: NDArray[np.bool_] | None
) -> pl.Series:
    # Every member has an advantage; without a reward it has no rank.
    gaps = name != "advantage"
    return pl.Series(_core.lists(values, lengths, valid, gaps)).alias(name)


def _flattened(
    option: pl.Series, full: NDArray[np.bool_], sizes: NDArray[np.uint32]
) -> NDArray[Any]:
    lists = option.filter(pl.Series(full))
    if lists.dtype != pl.List or not np.array_equal(lists.list.len(), sizes):
        raise ValueError(f"the option {option.name!r} needs one list per row, as long as its group")
    return lists.explode().to_numpy()


def _refuse_infinite(flat: Floats, name: str, groups: Groups, row_of: NDArray[np.int64]) -> None:
    """Name the row of the list in which a reward is infinite."""
    if (infinite := np.isinf(flat)).any():
        group = np.searchsorted(groups.offsets, infinite.argmax(), "right") - 1
        message = f"a reward of {name!r} at row {row_of[group]} is infinite; use null or NaN"
        raise ValueError(message) from None


def _one_each(name: str, values: Floats, reward: pl.Series, full: NDArray[np.bool_]) -> pl.Series:
    """Return what a list is told as a whole; of an empty one, only its size is known."""
    if name == "group_size":
        return reward.list.len().alias(name).cast(pl.Int64)
    column = np.full(len(full), np.nan)
    column[full] = values
    return pl.Series(name, column).fill_nan(None)
