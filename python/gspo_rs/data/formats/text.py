"""JSON Lines, JSON arrays and CSV: every line is checked, and no value changes when it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import polars as pl
from polars.io.plugins import register_io_source

from gspo_rs._core import TextFiles as Survey
from gspo_rs.data.hive import refuse_hidden

__all__ = ["Asked", "TextFiles"]

Asked: TypeAlias = Literal["key", "text", "number"]

# Kinds of JSON values that are of one type, by the words of the core, and what errors call them.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "a bool": ("bool", "title", "upper"),
    "an integer": ("int", "wide", "unsigned", "huge", "odd"),
    "a float": ("float", "rough"),
    "text": ("text",),
    "a list": ("list",),
    "an object": ("object",),
}
NUMBERS = ("a bool", "an integer", "a float")
ROUNDED = ("wide", "unsigned", "huge", "rough")


class TextFiles:
    r"""Files of one text format, scanned once for types and errors.

    Parameters
    ----------
    files : sequence of str
        In the order of their rows; ``.gz`` and ``.zst`` are unpacked.
    delimiter : str or None
        What lies between the fields of CSV; None for JSON Lines, or for an array of JSON where the
        file is not called ``.jsonl`` or ``.ndjson`` and begins with ``[``.
    hive : DataFrame, optional
        What the folders say of each file; see `gspo_rs.data.hive.partitions`.
    names : sequence of str, optional
        What errors call the files; their paths by default.

    Raises
    ------
    OSError
        If a file can't be read or a line is wrong, with its number.

    Notes
    -----
    A column has the type of its values in all files: integers, floats (bools and integers among
    them as numbers), bools, text, lists and structs. Fields of CSV are numbers only if no text is
    lost by it: ``007`` beside ``7``, or ``TRUE`` beside ``true``, are text. What a column is asked
    to be decides where both would do: keys and texts of CSV are text, rewards are numbers.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.csv"
    ...     _ = path.write_text("id,reward\n07,1\n7,0.5\n")
    ...     TextFiles([str(path)], ",").frame().collect().rows()
    [('07', 1.0), ('7', 0.5)]
    """

    def __init__(
        self,
        files: Sequence[str],
        delimiter: str | None,
        hive: pl.DataFrame | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> None:
        self._survey = Survey(
            list(files),
            delimiter=None if delimiter is None else ord(delimiter),
            names=None if names is None else list(names),
        )
        self._is_json = delimiter is None
        self._numbers = range(len(files))
        self._asked: dict[str, set[Asked]] = {}
        self._written: dict[str, str] = {}
        # Columns of which a field is wanted.
        self._fields: set[str] = set()
        self._hive = hive
        if hive is not None:
            refuse_hidden(self._survey_names(), files[0], hive)

    @property
    def n_rows(self) -> int:
        """The number of rows of all files."""
        return sum(map(self._survey.rows, self._numbers))

    def only(self, number: int) -> TextFiles:
        """Return one of the files, whose columns keep the types that they have in all of them."""
        one = self._copy()
        one._numbers = range(number, number + 1)
        return one

    def as_written(self, items: Iterable[str] = (), typed: Iterable[str] = ()) -> TextFiles | None:
        """Return the rows with nested values as the JSON that they are written in, as binary.

        So a message keeps the keys that it has, and no others. Of the columns `items`, which are
        lists, the items are; the columns `typed` are structs. None if the files are no JSON.
        """
        if not self._is_json:
            return None
        one = self._copy()
        names = pl.DataFrame(self._survey.schema({})).columns
        words = dict.fromkeys(names, "json") | dict.fromkeys(items, "items")
        one._written = {name: words[name] for name in words.keys() - set(typed)}
        return one

    def objects(self, column: pl.Series) -> list[Any]:
        """Return values that were read, what is written as JSON as the objects that it is."""
        if not self._written or column.dtype != pl.Binary:
            return column.to_list()
        return [None if value is None else json.loads(value) for value in column]

    def alike(self, column: pl.Series) -> pl.Series:
        """Return values that are equal where those that were read say the same, as JSON does."""
        if not self._written or column.dtype != pl.Binary:
            return column
        written = [
            None if value is None else json.dumps(value, sort_keys=True)
            for value in self.objects(column)
        ]
        return pl.Series(column.name, written, dtype=pl.String)

    def ask(self, name: str, asked: Asked) -> None:
        """Note what a column is to be, for all frames from now on."""
        self._asked.setdefault(name, set()).add(asked)

    def take_field(self, name: str) -> None:
        """Note that a field of a column is wanted: no frame has it as it is written."""
        self._fields.add(name)

    def refuse_mixed(self, path: Sequence[str], asked: Asked) -> None:
        """Raise if a column, or a field of it, can't be what it is asked to be, naming the line.

        Raises
        ------
        TypeError
            If a key or text of JSON is of several types, or a number is none.
        ValueError
            If a file has rows and not this column, or float64 would round a number.
        """
        if self._hive is not None and path[0] in self._hive.columns:
            return
        name = ".".join(path)
        if (lacking := self._survey.lacking(path[0])) is not None:
            raise ValueError(f"{lacking} has no column {path[0]!r}, which other files have")
        found = self._found(path)
        if asked == "number":
            refused = [family for family in found if family not in NUMBERS]
            must = "a number or a bool"
        else:
            refused, must = list(found)[1:] if self._is_json else [], "of one type"
        if refused:
            place = found[refused[0]]
            others = (f", but {k} in {p}" for k, p in found.items() if k != refused[0])
            raise TypeError(
                f"column {name!r} is {refused[0]} in {place}{next(others, '')}; it must be {must}"
            )
        if asked == "number":
            self._refuse_rounded(path)

    def frame(self) -> pl.LazyFrame:
        """Scan the rows."""
        asked = self._words()
        schema = pl.DataFrame(self._survey.schema(asked)).schema
        if self._hive is not None:
            schema = pl.Schema({**schema, **self._hive.schema})

        def rows(
            columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
        ) -> Iterator[pl.DataFrame]:
            wanted = list(schema) if columns is None else columns
            left = self.n_rows if n_rows is None else n_rows
            for frame in self._frames(wanted, asked):
                part = frame.head(left)
                left -= part.height
                yield part if predicate is None else part.filter(predicate)
                # Read to the end where all rows are asked for: it tells a file that grew.
                if left <= 0 and n_rows is not None:
                    return

        return register_io_source(rows, schema=schema, is_pure=True)

    def _frames(self, columns: list[str], asked: dict[str, str]) -> Iterator[pl.DataFrame]:
        ours = () if self._hive is None else self._hive.columns
        # One of the file at least, because it tells the number of rows.
        read = [name for name in columns if name not in ours] or self._survey_names()[:1]
        for number in self._numbers:
            folders = self._folders(number, columns)
            for batches in self._survey.read(number, read, asked):
                for batch in batches:
                    # Not `select`, to which a name may be a pattern.
                    yield pl.DataFrame(batch).with_columns(folders)[columns]

    def _folders(self, number: int, columns: list[str]) -> list[pl.Expr]:
        """Return what the folders say of a file."""
        if self._hive is None:
            return []
        asked = [one for one in self._hive if one.name in columns]
        return [pl.lit(one[number], one.dtype).alias(one.name) for one in asked]

    def _survey_names(self) -> list[str]:
        return pl.DataFrame(self._survey.schema({})).columns

    def _copy(self) -> TextFiles:
        one = object.__new__(TextFiles)
        one.__dict__.update(self.__dict__)
        return one

    def _words(self) -> dict[str, str]:
        """Return what each column is asked to be, where that is one thing."""
        words = {name: w for name, w in self._written.items() if name not in self._fields}
        for name, asked in self._asked.items():
            if asked == {"number"}:
                words[name] = "number"
            elif "number" not in asked:
                words[name] = "text" if "text" in asked else "key"
        return words

    def _found(self, path: Sequence[str]) -> dict[str, str]:
        """Return the families of the values of a column, each with the place of the first."""
        found: dict[str, str] = {}
        for kind, place in self._survey.kinds(list(path)):
            for family, kinds in FAMILIES.items():
                if kind in kinds:
                    found.setdefault(family, place)
        return found

    def _refuse_rounded(self, path: Sequence[str]) -> None:
        for kind, place in self._survey.kinds(list(path)):
            if kind in ROUNDED:
                raise ValueError(
                    f"the number {'.'.join(path)!r} in {place} has more digits than float64 holds, "
                    "or is too near to 0 for it, and rewards that differ would tie; round it"
                )
