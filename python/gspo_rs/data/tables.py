"""Rows in memory: frames, tables and data sets of other libraries, each as a LazyFrame."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

__all__ = ["paths_of", "table_of"]

WANTED = (
    "a source is a path, a list of paths, a DataFrame or LazyFrame of Polars, a DataFrame of "
    "pandas, a Table of Arrow, a Dataset of Hugging Face, a dict of columns or a list of rows"
)


def table_of(source: object) -> tuple[pl.LazyFrame, str] | None:
    """Return the rows of a source that is in memory, and what errors call it.

    Parameters
    ----------
    source : object
        A frame, table or data set of any library that exports Arrow, a dict of columns, or a list
        of rows as dicts. A NaN of pandas is null, as everywhere in pandas.

    Returns
    -------
    tuple of LazyFrame and str, or None
        None for what is not in memory, such as a path.

    Raises
    ------
    TypeError
        For what has no rows, or cannot be read twice; says what it is.

    Examples
    --------
    >>> frame, name = table_of([{"id": "a", "reward": 1.0}])
    >>> name, frame.collect().rows()
    ('the list of rows', [('a', 1.0)])
    >>> table_of("in.parquet") is None
    True
    """
    if isinstance(source, pl.LazyFrame | pl.DataFrame):
        return source.lazy(), f"the {type(source).__name__}"
    if isinstance(source, str | os.PathLike):
        return None
    if _of(source, "datasets"):
        return _dataset(source)
    if isinstance(source, Mapping):
        return _built(dict(source), "the dict of columns")
    if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
        library = type(source).__module__.split(".")[0]
        return _built(source, f"the {type(source).__name__} of {library}")
    if not isinstance(source, Sequence) or isinstance(source, bytes | bytearray):
        raise TypeError(f"{_called(source)} has no rows to read; {WANTED}")
    rows = [isinstance(item, Mapping) for item in source]
    if rows and all(rows):
        _refuse_mixed(source)
        return _built(list(source), "the list of rows")
    return None


def paths_of(source: object) -> list[str]:
    """Return the paths of a source that is not in memory.

    Raises
    ------
    TypeError
        If one is no path; names it and its place.
    """
    if isinstance(source, str | os.PathLike):
        return [os.fspath(source)]
    assert isinstance(source, Sequence)
    for place, item in enumerate(source):
        if not isinstance(item, str | os.PathLike):
            raise TypeError(f"item {place} of the source, {_called(item)}, is no path; {WANTED}")
    return [os.fspath(item) for item in source]


def _dataset(source: Any) -> tuple[pl.LazyFrame, str]:
    kind = type(source).__name__
    if isinstance(source, Mapping):
        splits = list(map(repr, source))
        raise TypeError(
            f"the {kind} holds the splits {', '.join(splits)}; give one, as dataset[{splits[0]}]"
        )
    if not hasattr(source, "with_format") or not hasattr(source, "__len__"):
        raise TypeError(
            f"the {kind} streams its rows, which are read twice here; write it to a file, as "
            "dataset.to_parquet(…)"
        )
    return _built(source.with_format("arrow")[:], f"the {kind}")


def _refuse_mixed(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise for a column of texts and others: Polars makes texts of them, and "1" and 1 equal."""
    firsts: dict[str, tuple[bool, int, Any]] = {}
    for place, row in enumerate(rows):
        for name, value in row.items():
            if value is None:
                continue
            text = isinstance(value, str)
            first, other, given = firsts.setdefault(name, (text, place, value))
            if text is not first:
                raise TypeError(
                    f"column {name!r} of the list of rows is {given!r:.40} in row {other}, but "
                    f"{value!r:.40} in row {place}; it must be of one type"
                )


def _built(rows: Any, name: str) -> tuple[pl.LazyFrame, str]:
    try:
        return pl.DataFrame(rows, infer_schema_length=None).lazy(), name
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise TypeError(f"{name} is no table: {error}") from error


def _of(source: object, library: str) -> bool:
    """Tell whether the class of an object is a library's, without importing it."""
    return any(base.__module__.split(".")[0] == library for base in type(source).__mro__)


def _called(source: object) -> str:
    if source is None or isinstance(source, bool | int | float):
        return repr(source)
    return f"a {type(source).__module__}.{type(source).__qualname__}"
