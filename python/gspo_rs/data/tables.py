"""In-memory data of other libraries, such as frames and tables, as a LazyFrame."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Number
from typing import Any, TypeGuard

import polars as pl

from gspo_rs.groups.checks import DIGITS, EXACT

__all__ = ["MixedRows", "is_splits", "paths_of", "table_of"]

# What can be numbers of one column.
NUMBERS = {"integer", "float", "bool", "decimal"}
# What no column can hold beside something else.
LOST = {"fields", "date", "datetime", "timedelta", "time"}
# What begins the kind of numbers that float64 would round: integers from `EXACT` on, and decimals
# of more than `DIGITS` digits.
LARGE = "large "

WANTED = (
    "a source is a path, a list of paths, a DataFrame or LazyFrame of Polars, a DataFrame of "
    "pandas, a Table of Arrow, a Dataset of Hugging Face, a dict of columns or a list of rows"
)


def table_of(source: object) -> tuple[pl.LazyFrame | MixedRows, str] | None:
    """Return the rows of a source that is in memory, and what errors call it.

    Parameters
    ----------
    source : object
        A frame, table or data set of any library that exports Arrow, a dict of columns, or a list
        of rows as dicts. A NaN of pandas is null, as everywhere in pandas.

    Returns
    -------
    tuple of LazyFrame or MixedRows and str, or None
        None for what is not in memory, such as a path.

    Raises
    ------
    TypeError
        For what has no rows, or cannot be read twice, or is no table; says what it is.

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
        mixed = _mixed(source)
        frame, name = _built(list(source), "the list of rows")
        return (MixedRows(frame, mixed) if mixed else frame), name
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


def is_splits(source: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether a source is a dict of data sets by the names of their splits.

    Examples
    --------
    >>> is_splits({"reward": [1.0]})
    False
    """
    return isinstance(source, Mapping) and _of(source, "datasets")


def _dataset(source: Any) -> tuple[pl.LazyFrame, str]:
    kind = type(source).__name__
    if isinstance(source, Mapping):
        splits = list(map(repr, source))
        raise TypeError(
            f"the {kind} holds the splits {', '.join(splits)}; give one, as dataset[{splits[0]}], "
            f"or name it: split={splits[0]}"
        )
    if not hasattr(source, "with_format") or not hasattr(source, "__len__"):
        raise TypeError(
            f"the {kind} streams its rows, which are read twice here; write it to a file, as "
            "dataset.to_parquet(…)"
        )
    return _built(source.with_format("arrow")[:], f"the {kind}")


Path = tuple[str, ...]


@dataclass(frozen=True)
class MixedRows:
    """A list of rows whose values of a column, or of a field of one, are of several kinds.

    `kinds` has these, each with the row where it comes first and its value there.
    """

    rows: pl.LazyFrame
    kinds: Mapping[Path, Mapping[str, tuple[int, Any]]]

    def frame(self) -> pl.LazyFrame:
        """Return the rows, with texts in place of numbers that stand beside texts."""
        return self.rows

    def refuse_mixed(self, path: Path, *, number: bool) -> None:
        """Raise a TypeError if what is asked for is mixed: "1" and 1, or True and 1, become equal.

        A `number` may be an integer, a float or a bool, unless one of them would be rounded.
        """
        found = self.kinds.get(path, {})
        kinds = {kind.removeprefix(LARGE): first for kind, first in found.items()}
        if not number or not kinds.keys() <= NUMBERS:
            _refuse(path, kinds)
            return
        large = [first for kind, first in found.items() if kind.startswith(LARGE)]
        if large and len(kinds.keys() - {"bool"}) > 1:
            row, value = large[0]
            raise TypeError(
                f"column {'.'.join(path)!r} of the list of rows is {value} in row {row}, which "
                "float64 would round, and other numbers in other rows; round it"
            )


def _mixed(rows: Sequence[Mapping[str, Any]]) -> Mapping[Path, Mapping[str, tuple[int, Any]]]:
    """Return the kinds of values that each column and field has, where it has several."""
    found: dict[Path, dict[str, tuple[int, Any]]] = {}

    def note(values: Mapping[str, Any], above: Path, place: int) -> None:
        for name, value in values.items():
            if value is not None:
                found.setdefault((*above, name), {}).setdefault(_kind(value), (place, value))
            if isinstance(value, Mapping):
                note(value, (*above, name), place)

    for place, row in enumerate(rows):
        note(row, (), place)
    mixed = {path: kinds for path, kinds in found.items() if len(kinds) > 1}
    for path, kinds in mixed.items():
        # Polars makes null, or a number, of one of them.
        if kinds.keys() & LOST:
            _refuse(path, kinds)
    return mixed


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "fields"
    if isinstance(value, Decimal):
        return f"{LARGE}decimal" if len(value.as_tuple().digits) > DIGITS else "decimal"
    if isinstance(value, bool) or not isinstance(value, Number):
        return type(value).__name__.rstrip("_")
    if isinstance(value, Integral):
        return f"{LARGE}integer" if abs(int(value)) >= EXACT else "integer"
    return "float"


def _refuse(path: Path, kinds: Mapping[str, tuple[int, Any]]) -> None:
    if len(kinds) < 2:
        return
    (here, first), (there, other), *_ = kinds.values()
    raise TypeError(
        f"column {'.'.join(path)!r} of the list of rows is {first!r:.40} in row {here}, but "
        f"{other!r:.40} in row {there}; it must be of one type"
    )


def _built(rows: Any, name: str) -> tuple[pl.LazyFrame, str]:
    try:
        return pl.DataFrame(rows, infer_schema_length=None).lazy(), name
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        # What Polars adds is of its own options.
        message = str(error).partition("\n")[0]
        raise TypeError(f"{name} is no table: {message}") from error


def _of(source: object, library: str) -> bool:
    """Return whether an object's class belongs to a library, without importing it."""
    return any(base.__module__.split(".")[0] == library for base in type(source).__mro__)


def _called(source: object) -> str:
    if source is None or isinstance(source, bool | int | float):
        return repr(source)
    return f"a {type(source).__module__}.{type(source).__qualname__}"
