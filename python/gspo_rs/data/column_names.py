"""Columns by exact name, never as a pattern; a dot selects a struct field."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import polars as pl
import polars.selectors as cs

__all__ = ["column", "column_in", "free_name", "nearest", "path_to", "type_in"]


def column(name: str) -> pl.Expr:
    """Return the column named `name`; `pl.col` would read ``*`` and ``^re.*$`` as patterns.

    Examples
    --------
    >>> frame = pl.DataFrame({"^re.*$": [1], "reward": [2]})
    >>> frame.select(column("^re.*$").alias("found")).to_series().to_list()
    [1]
    """
    return cs.by_name(name).as_expr() if _is_pattern(name) else pl.col(name)


def column_in(schema: Mapping[str, pl.DataType], name: str) -> pl.Expr:
    """Return the column or struct field named `name`, such as ``scores.correctness``.

    Examples
    --------
    >>> frame = pl.DataFrame({"scores": [{"correctness": 0.5}]})
    >>> frame.select(column_in(frame.schema, "scores.correctness")).to_series().to_list()
    [0.5]
    """
    head, *fields = path_to(schema, name) or (name,)
    found, kind = column(head), schema.get(head)
    for field in fields:
        assert isinstance(kind, pl.Struct)
        found, kind = _field(found, kind, field), _fields(kind)[field]
    return found


def path_to(schema: Mapping[str, pl.DataType], name: str) -> tuple[str, ...] | None:
    """Return the path of names to a column or a field, or None if there is neither.

    A column that has the dots in its own name comes first.
    """
    if name in schema:
        return (name,)
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        head, rest = ".".join(parts[:length]), ".".join(parts[length:])
        kind = schema.get(head)
        if isinstance(kind, pl.Struct):
            below = path_to(_fields(kind), rest)
            if below is not None:
                return (head, *below)
    return None


def type_in(schema: Mapping[str, pl.DataType], name: str) -> pl.DataType | None:
    """Return the type of a column or a field, or None if there is neither."""
    path = path_to(schema, name)
    if path is None:
        return None
    kind = schema[path[0]]
    for field in path[1:]:
        assert isinstance(kind, pl.Struct)
        kind = _fields(kind)[field]
    return kind


def _is_pattern(name: str) -> bool:
    return name == "*" or (name.startswith("^") and name.endswith("$"))


def _fields(kind: pl.Struct) -> dict[str, pl.DataType]:
    return {one.name: one.dtype for one in kind.fields if isinstance(one.dtype, pl.DataType)}


def _field(found: pl.Expr, kind: pl.Struct, field: str) -> pl.Expr:
    if not _is_pattern(field):
        return found.struct.field(field)
    # Under a number for a name.
    names = [one.name for one in kind.fields]
    numbers = list(map(str, range(len(names))))
    return found.struct.rename_fields(numbers).struct.field(numbers[names.index(field)])


def nearest(name: str, schema: pl.Schema) -> str:
    """Describe the columns there are, and those that `name` may stand for.

    Examples
    --------
    >>> nearest("rewrad", pl.Schema({"id": pl.Int64(), "reward": pl.Float64()}))
    "did you mean 'reward'? it has 'id', 'reward'"
    """
    names = {column.lower(): column for column in schema}
    near = [names[match] for match in difflib.get_close_matches(name.lower(), names)]
    meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{meant}it has {', '.join(map(repr, schema)) or 'no columns'}"


def free_name(taken: Iterable[str], wanted: str) -> str:
    """Return `wanted`, or a longer name that no column has: frames of others have any names.

    Examples
    --------
    >>> free_name(["id", "row", "row_"], "row")
    'row__'
    """
    names = set(taken)
    while wanted in names:
        wanted += "_"
    return wanted
