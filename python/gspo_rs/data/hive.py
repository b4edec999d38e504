"""Hive partitions: folders named ``key=value``, which are columns of the files in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import PurePath
from urllib.parse import unquote

import polars as pl

from gspo_rs.data.column_names import column
from gspo_rs.data.frames import reading

__all__ = ["partitions", "refuse_hidden", "within", "without"]

NULL = "__HIVE_DEFAULT_PARTITION__"
INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def partitions(names: Sequence[str]) -> pl.DataFrame | None:
    """Return the partition columns of some files, one row per file; None if there are none.

    Parameters
    ----------
    names : sequence of str
        The files, below the folder that was searched. ``%20`` in a folder is a space, and
        ``__HIVE_DEFAULT_PARTITION__`` null, as is a key that only other files have.

    Returns
    -------
    DataFrame or None
        A column is of one type for all files: integers or dates if every value is one, written in
        the one way that such a value has, so that ``01`` is not ``1``; text else.

    Raises
    ------
    ValueError
        If a key comes twice on the way to a file.

    Examples
    --------
    >>> partitions(["id=01/a.jsonl", "id=1/a.jsonl"])["id"].to_list()
    ['01', '1']
    >>> partitions(["day=2025-01-31/n=7/a.csv", "day=2025-02-01/n=10/a.csv"])["n"].to_list()
    [7, 10]
    """
    rows = [_keys(name) for name in names]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not keys:
        return None
    return pl.DataFrame([_typed(key, [row.get(key) for row in rows]) for key in keys])


def within(frame: pl.LazyFrame, file: str, values: pl.DataFrame) -> pl.LazyFrame:
    """Add the partition columns of a file to its rows: the one row of `values`.

    A column that the file has itself, as Polars writes it, is taken from there if it says the same
    in every row.

    Raises
    ------
    ValueError
        If the file has such a column itself, and it says something else.
    """
    names = frame.collect_schema().names()
    own = [one for one in values if one.name in names]
    same = [_is(one) for one in own]
    if own:
        with reading(lambda: file):
            agreed = frame.select(pl.all_horizontal(same).all()).collect().item()
        refuse_hidden([] if agreed else names, file, values)
    return frame.with_columns(
        pl.lit(one.item(), one.dtype).alias(one.name) for one in values if one.name not in names
    )


def _is(value: pl.Series) -> pl.Expr:
    """Tell of each row whether it has the one value of a folder, as text."""
    text = value.cast(pl.String).item()
    return column(value.name).cast(pl.String).eq_missing(pl.lit(text, pl.String))


def refuse_hidden(columns: Sequence[str], file: str, values: pl.DataFrame) -> None:
    """Raise a ValueError if a partition column is also a column of the file."""
    for name in values.columns:
        if name in columns:
            raise ValueError(
                f"{file} has a column {name!r}, and a folder {name}=… that would hide it; rename "
                "one of them"
            )


def without(frame: pl.LazyFrame, values: pl.DataFrame | None) -> pl.LazyFrame:
    """Drop the partition columns."""
    if values is None:
        return frame
    names = frame.collect_schema().names()
    return frame.select(column(name) for name in names if name not in values.columns)


def _keys(name: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in PurePath(name).parent.parts:
        key, equals, value = part.partition("=")
        if not (key and equals):
            continue
        key = _unquoted(key)
        if key in found:
            raise ValueError(f"{name} lies in two folders {key}=…; rename one of them")
        found[key] = None if value == NULL else _unquoted(value)
    return found


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _typed(key: str, values: list[str | None]) -> pl.Series:
    texts = [value for value in values if value is not None]
    if texts and all(INTEGER.fullmatch(text) for text in texts):
        numbers = [None if value is None else int(value) for value in values]
        return pl.Series(key, numbers, dtype=pl.Int64)
    if texts and all(map(_is_day, texts)):
        days = [None if value is None else date.fromisoformat(value) for value in values]
        return pl.Series(key, days, dtype=pl.Date)
    return pl.Series(key, values, dtype=pl.String)


def _is_day(text: str) -> bool:
    try:
        return bool(DAY.fullmatch(text)) and bool(date.fromisoformat(text))
    except ValueError:
        return False
