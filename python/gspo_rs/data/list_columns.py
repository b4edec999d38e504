"""Columns of one row per prompt: which hold a list with one value for each completion.

A column, or a field of a struct, is known by its path: the names that lead to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.column_names import path_to, type_in

__all__ = [
    "LISTS",
    "Path",
    "inner_type",
    "lengths",
    "list_paths",
    "member_path",
    "split",
    "split_type",
]

Path: TypeAlias = tuple[str, ...]
LISTS = (pl.List, pl.Array)


def inner_type(kind: pl.DataType | None) -> pl.DataType:
    """Return the type of a list's values, or Null if there is no list."""
    if isinstance(kind, LISTS) and isinstance(kind.inner, pl.DataType):
        return kind.inner
    return pl.Null()


def member_path(schema: Mapping[str, pl.DataType], name: str) -> tuple[Path, pl.DataType] | None:
    """Return the path of the list that has a value called `name` for each member, and their type.

    None if `name` is no column, or no list.

    Examples
    --------
    >>> samples = pl.List(pl.Struct({"reward": pl.Float64()}))
    >>> schema = {"rewards": pl.List(pl.Int64()), "samples": samples}
    >>> member_path(schema, "rewards")
    (('rewards',), Int64)
    >>> member_path(schema, "samples.reward")
    (('samples',), Float64)
    """
    path, kind = path_to(schema, name), type_in(schema, name)
    if path is not None:
        return (path, inner_type(kind)) if isinstance(kind, LISTS) else None
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        head = ".".join(parts[:length])
        found = type_in(schema, head)
        if isinstance(found, LISTS):
            kind = type_in({"": inner_type(found)}, ".".join(["", *parts[length:]]))
            path = path_to(schema, head)
            if kind is not None and path is not None:
                return path, kind
    return None


def list_paths(schema: Mapping[str, pl.DataType], inside: Iterable[str]) -> dict[Path, pl.DataType]:
    """Return the paths and types of all lists: columns, and fields of the structs `inside`."""
    found: dict[Path, pl.DataType] = {}

    def note(path: Path, kind: object) -> None:
        if isinstance(kind, LISTS):
            found[path] = kind
        elif isinstance(kind, pl.Struct) and path[0] in inside:
            for one in kind.fields:
                note((*path, one.name), one.dtype)

    inside = set(inside)
    for name, kind in schema.items():
        note((name,), kind)
    return found


def lengths(values: pl.Series) -> pl.Series:
    """Return the number of values of each list, null where the list is."""
    # Methods of a Series select it by its name, as if that were a pattern.
    values = values.alias("values")
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    return values.list.len()


def split_type(kind: pl.DataType, paths: Sequence[Path]) -> pl.DataType:
    """Return the type of a column whose lists at `paths`, below it, have been split."""
    if () in paths:
        return inner_type(kind)
    if not paths:
        return kind
    assert isinstance(kind, pl.Struct)
    fields = {one.name: one.dtype for one in kind.fields if isinstance(one.dtype, pl.DataType)}
    return pl.Struct(
        {name: split_type(inner, _below(paths, name)) for name, inner in fields.items()}
    )


def split(values: pl.Series, paths: Sequence[Path], rows: NDArray[np.int64]) -> pl.Series:
    """Return one value for each member: of the lists at `paths` theirs, of all else the row's.

    Parameters
    ----------
    values : Series
        A column. Its lists at `paths` hold as many values as `rows` says.
    paths : sequence of Path
        Below the column; the empty one is the column itself.
    rows : ndarray of int64
        The row of each member, rising.

    Examples
    --------
    >>> column = pl.Series([{"reward": [1.0, 0.0], "task": "sum"}])
    >>> split(column, [("reward",)], np.array([0, 0])).to_list()
    [{'reward': 1.0, 'task': 'sum'}, {'reward': 0.0, 'task': 'sum'}]
    """
    name, values = values.name, values.alias("values")
    if () in paths:
        return values.explode().alias(name)
    if not paths:
        return values.gather(rows).alias(name)
    fields = [values.struct[number] for number in range(len(values.struct.fields))]
    parts = [split(field, _below(paths, field.name), rows) for field in fields]
    return pl.DataFrame(parts).to_struct(name)


def _below(paths: Sequence[Path], field: str) -> list[Path]:
    return [path[1:] for path in paths if path[0] == field]
