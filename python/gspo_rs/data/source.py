"""Sources of rows, whatever holds them, checked and read in batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.addresses import scan_addresses
from gspo_rs.data.column_names import column_in, nearest, path_to, type_in
from gspo_rs.data.formats import Rows, rows_of, scan_files, scanned
from gspo_rs.data.formats.parquet import check_pages
from gspo_rs.data.formats.text import Asked, TextFiles
from gspo_rs.data.formats.unions import UnionFiles
from gspo_rs.data.found import find
from gspo_rs.data.frames import UNREADABLE, frames_of, reading
from gspo_rs.data.hive import partitions
from gspo_rs.data.list_columns import inner_type
from gspo_rs.data.messages import (
    as_role_and_content,
    before_answer,
    is_messages,
    is_sharegpt,
)
from gspo_rs.data.nested_keys import has_exact_text, key_column, key_text
from gspo_rs.data.tables import MixedRows

__all__ = ["READ_AHEAD", "Source", "SourceLike", "locate"]


class _Exported(Protocol):
    """An object of any library that exports Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


SourceLike: TypeAlias = (
    "Source | str | Path | Sequence[str | Path] | pl.LazyFrame | pl.DataFrame | _Exported | "
    "Mapping[str, Any] | Sequence[Mapping[str, Any]]"
)

# Bytes of rows that Polars may read before they are taken, and the number of rows that it is
# asked for while their size is not known.
READ_AHEAD = 128 << 20
FIRST_WINDOW = 1 << 14

# Files that say at their end how many rows they have.
COUNTED = (".parquet", ".arrow", ".arrows", ".ipc", ".feather")

# What a column is asked to be, in the words of the error.
TEXT = "text"
SAID = "text or a list of messages {role, content}"
NUMBER = "a number or a bool"
KEY = "an integer, string, category, bool, binary or date, or messages or lists of these"
FLOATS = "a list of floats"
INTEGERS = "a list of integers"
MASK = "a list of bools, or of 0 and 1"
NUMBERS = "a list of numbers"
ENDING = "a bool, or text such as 'stop' and 'length'"
ANYTHING = "anything"

ASKED: Mapping[str, Asked] = {TEXT: "text", SAID: "text", NUMBER: "number", KEY: "key"}
KEY_TYPES = (pl.String, pl.Categorical, pl.Enum, pl.Binary, pl.Boolean, pl.Date, pl.Datetime)
EXPECTED: Mapping[str, Callable[[pl.DataType], bool]] = {
    TEXT: lambda found: found in (pl.String, pl.Categorical, pl.Enum),
    NUMBER: lambda found: found.is_numeric() or found in (pl.Boolean, pl.Null),
    KEY: lambda found: found.is_integer() or found in KEY_TYPES or has_exact_text(found),
    SAID: lambda found: EXPECTED[TEXT](found) or is_messages(found),
    FLOATS: lambda found: inner_type(found).is_float(),
    INTEGERS: lambda found: inner_type(found).is_integer(),
    MASK: lambda found: inner_type(found).is_integer() or inner_type(found) == pl.Boolean,
    NUMBERS: lambda found: inner_type(found).is_numeric(),
    ENDING: lambda found: found == pl.Boolean or EXPECTED[TEXT](found),
    ANYTHING: lambda _: True,
}


@dataclass(frozen=True)
class Source:
    """Rows that can be read any number of times, in the same order.

    `name` is what errors call them; `files` is empty for a LazyFrame, `names` has the files as they
    lie below the folder that was searched; `behind` has those that the rows of a narrow output or
    of a selection are in.
    """

    rows: Rows
    name: str
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()

    @property
    def frame(self) -> pl.LazyFrame:
        """The rows, scanned; columns of text files are what they have been checked to be."""
        return scanned(self.rows)

    @property
    def exploded(self) -> tuple[str, ...]:
        """The columns whose lists are read as one value a row; none, but of a `NestedSource`."""
        return ()

    def as_written(self, items: Iterable[str] = (), typed: Iterable[str] = ()) -> Source | None:
        """Return the rows of JSON Lines with what is nested as binary JSON; see `TextFiles`."""
        rows = self.rows.as_written(items, typed) if isinstance(self.rows, TextFiles) else None
        return None if rows is None else replace(self, rows=rows)

    def check(self, columns: Iterable[tuple[str, str]]) -> pl.Schema:
        """Check that each of `columns`, a name and what is `EXPECTED`, is there and of its type.

        Raises
        ------
        ValueError
            If a column is missing; names the nearest ones.
        TypeError
            If a column has another type.
        OSError
            If the source can't be read.
        """
        columns = list(columns)
        text = self.rows if isinstance(self.rows, TextFiles) else None
        for name, expected in columns:
            if text and expected in ASKED:
                text.ask(name, ASKED[expected])
        with self.reading():
            schema = self.frame.collect_schema()
        columns = [(key_column(schema, n) if kind == KEY else n, kind) for n, kind in columns]
        for name, expected in columns:
            if isinstance(self.rows, UnionFiles):
                self.rows.refuse_differing(name, key=expected == KEY)
            path, found = path_to(schema, name), type_in(schema, name)
            if path is None or found is None:
                if text and not text.n_rows:
                    raise ValueError(f"{self.name} has no rows")
                usual = name == "reward" and expected == NUMBER
                remedy = "name the rewards with --reward (reward=…); " if usual else ""
                raise ValueError(
                    f"{self.name} has no column {name!r}; {remedy}{nearest(name, schema)}"
                )
            inner = inner_type(found)
            fits = EXPECTED[expected](found)
            if not fits and inner != pl.Null and EXPECTED[expected](inner) and expected in ASKED:
                raise TypeError(
                    f"column {name!r} of {self.name} is {found}, a list for each row; make one "
                    "row of each value with `gspo-rs explode`"
                )
            if isinstance(self.rows, MixedRows) and expected in ASKED:
                self.rows.refuse_mixed(path, number=expected == NUMBER)
            if text and len(path) > 1:
                text.take_field(path[0])
            if text and expected in ASKED:
                text.refuse_mixed(path, ASKED[expected])
            if not fits:
                problem = f"column {name!r} of {self.name} is {found}"
                raise TypeError(f"{problem}; it must be {expected}")
        paths = [path_to(schema, name) for name, _ in columns]
        check_pages(self.files if columns else (), [path[0] for path in paths if path])
        return schema

    def column(self, name: str) -> pl.Expr:
        """Return the column, or the field of one, that is called `name`; its name is no pattern."""
        return column_in(self.check([]), name)

    def key(self, name: str) -> pl.Expr:
        """Return a column as a key: what is nested, such as messages, as the JSON of its values.

        The key ``prompt`` of rows that have no such column but a conversation is what comes before
        the answer that ends it.
        """
        held = key_column(self.check([]), name)
        if held != name:
            return key_text(before_answer(self.said(held)))
        value = self.column(name)
        return key_text(value) if has_exact_text(self.type_of(name)) else value

    def said(self, name: str) -> pl.Expr:
        """Return what is said in a column: text as text, or messages {role, content}."""
        value, kind = self.column(name), self.type_of(name)
        if is_sharegpt(kind):
            return as_role_and_content(value)
        return value if is_messages(kind) else value.cast(pl.String)

    def place(self, row: int) -> str:
        """Name a row, counted from 0, in an error."""
        rows, members = self.places(np.array([row]))
        return f"row {rows[0]}" if members is None else f"row {rows[0]}, member {members[0]}"

    def both(self, one: int, other: int) -> str:
        """Name two rows in an error."""
        rows, members = self.places(np.array([one, other]))
        if members is None:
            return f"rows {rows[0]} and {rows[1]}"
        return f"{self.place(one)} and {self.place(other)}"

    def places(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return where rows stand in the source, and their place in a row that has lists."""
        return rows, None

    def type_of(self, name: str) -> pl.DataType:
        """Return the type of a column, or of the field of one, that has been checked.

        That of the key ``prompt`` is the type of the conversation that it is cut from.
        """
        schema = self.check([])
        found = type_in(schema, key_column(schema, name))
        assert found is not None
        return found

    def objects(self, column: pl.Series) -> list[Any]:
        """Return values that were read, those of nested JSON with the keys that they have."""
        return self.rows.objects(column) if isinstance(self.rows, TextFiles) else column.to_list()

    def alike(self, column: pl.Series) -> pl.Series:
        """Return values of a column that are equal where two of nested JSON say the same."""
        return self.rows.alike(column) if isinstance(self.rows, TextFiles) else column

    def as_text(self, name: str) -> pl.DataType:
        """Return the type of a column once it is to be text; only fields of CSV become it."""
        if isinstance(self.rows, TextFiles):
            self.rows.ask(name, "text")
        return self.type_of(name)

    def collect(self, columns: Sequence[pl.Expr]) -> pl.DataFrame:
        """Read some narrow `columns` of every row."""
        with self.reading():
            found = self.frame.select(columns).collect(engine="streaming")
            self.refuse_missing(found.height)
        return found

    def stream(
        self, columns: Sequence[pl.Expr], start: int, stop: int | None
    ) -> Iterator[pl.DataFrame]:
        """Read `columns` of the rows from `start` to `stop`, or to the end, in order.

        To be used while `reading`.
        """
        rows = self.frame.slice(start, None if stop is None else stop - start)
        return frames_of(rows.select(columns))

    def count(self) -> int:
        """Return the number of rows; cheap where a footer says it."""
        with self.reading():
            return int(self.frame.select(pl.len()).collect(engine="streaming").item())

    def refuse_missing(self, found: int) -> None:
        """Raise an OSError if there are fewer or more rows than the footers of the files say."""
        suffix = Path(self.files[0]).suffix.lower() if self.files else ""
        if suffix not in COUNTED:
            return
        promised = self.count()
        if found != promised:
            raise OSError(
                f"cannot read {self.name}: it gave {found} rows where its footer says {promised}; "
                "the file is damaged"
            )

    def batches(
        self, columns: Sequence[pl.Expr], n_rows: int, *, first: int = 0, last: int | None = None
    ) -> Iterator[pl.DataFrame]:
        """Read `columns` of all `n_rows` rows, or of those from `first`, some at a time, in order.

        With `last` the rows end before that one.

        Raises
        ------
        ValueError
            If there are more or fewer rows.
        """
        end = n_rows if last is None else last
        # The last window is open, so that rows that should not be there are seen.
        bound = None if end == n_rows else end
        row, start, window = first, first, self.first_window
        while start < end:
            stop = start + window
            n_bytes = 0
            with self.reading():
                for frame in self.stream(columns, start, stop if stop < end else bound):
                    row += frame.height
                    self.refuse_change("number of rows", min(row, end), row)
                    n_bytes += int(frame.estimated_size())
                    yield frame
            start, window = stop, next_window(window, window, n_bytes)
        self.refuse_change("number of rows", end, row)

    def refuse_change(self, what: str, before: object, now: object) -> None:
        """Raise a ValueError if what was read before is not what is read now."""
        if not np.array_equal(before, now, equal_nan=True):  # type: ignore[arg-type]
            raise ValueError(
                f"{self.name} changed between two reads: another {what} than before; do not modify "
                "it while it is being read"
            )

    @property
    def first_window(self) -> int:
        """Rows to ask Polars for at first; all where a later start is not cheap.

        Polars decodes Parquet far ahead of whoever takes the rows (about a gigabyte with two
        threads, more with more), and nothing but the end of a query stops it. Parquet files are
        therefore read in one query after the other.
        """
        parquet = bool(self.files) and Path(self.files[0]).suffix.lower() == ".parquet"
        return FIRST_WINDOW if parquet else sys.maxsize

    def reading(self) -> AbstractContextManager[None]:
        """Turn whatever reading can raise into an OSError that names the file."""
        return reading(self._culprit)

    def _culprit(self) -> str:
        """Name the file that can't be read by itself, or the source as a whole."""
        if len(self.files) < 2:
            return self.name
        for file in self.files:
            try:
                for _ in frames_of(scan_files([file])):
                    pass
            except UNREADABLE:
                return file
        return self.name


def next_window(window: int, n_rows: int, n_bytes: int) -> int:
    """Return how many rows to ask for after `window`, of which `n_rows` took `n_bytes`.

    Examples
    --------
    >>> next_window(16384, n_rows=16384, n_bytes=16384 * 10_000)
    13421
    """
    # At most twice as many, in case the next texts are longer.
    return max(1, min(READ_AHEAD * n_rows // max(n_bytes, 1), 2 * window))


def locate(source: SourceLike, split: str | None = None) -> Source:
    """Find the rows of `source`, whatever holds them.

    Parameters
    ----------
    source : path, glob, sequence of these, or rows in memory
        Files of one format, recognised by suffix: ``.parquet``; ``.jsonl``, ``.ndjson``; ``.json``
        with an array of objects or with JSON Lines; ``.csv``, ``.tsv`` (all text also as ``.gz``
        and ``.zst``); ``.arrow``, ``.arrows``, ``.ipc`` or ``.feather``. The files of a glob or
        folder are read in the order of their names, each once; folders called ``key=value`` name
        columns (`gspo_rs.data.hive.partitions`).

        A folder stands for the files below it, for the data set that `datasets` has saved there,
        for the version that a folder of the hub's cache has, or for a table of Delta or Iceberg.
        A narrow output of `gspo-rs score` stands for the rows that were scored, with their scores,
        and a selection for the rows that it has the numbers of.
        Addresses such as ``s3://`` and ``hf://`` are Parquet, and go to Polars as they are.
        ``org/name`` is a data set of the hub, if there is no such path. ``-`` is JSON Lines on
        standard input. Rows in memory: see `gspo_rs.data.tables.table_of`.
    split : str, optional
        Which part of a data set that has several.

    Returns
    -------
    Source
        A source that has been found already is returned as it is.

    Raises
    ------
    FileNotFoundError
        If a file is not there, or no file matches a glob.
    ValueError
        If the suffixes differ or are not known, a file holds something else than its suffix says
        (names it, and what to do with it), or there are several splits and none is named.
    TypeError
        If it is nothing that has rows; says what it is.
    OSError
        If it can't be read, or takes a library that is not installed; names the extra.

    Examples
    --------
    >>> locate(pl.LazyFrame({"reward": [1.0]})).name
    'the LazyFrame'
    """
    if isinstance(source, Source):
        return source
    found = find(source, split)
    if found.rows is not None:
        return Source(found.rows, found.name, behind=found.behind)
    if found.addresses:
        return Source(scan_addresses(found.addresses), found.name)
    rows = rows_of(found.files, partitions(found.names))
    return Source(rows, found.name, found.files, found.names)
