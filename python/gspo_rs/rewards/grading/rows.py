"""The rows to grade: their keys, what is handed on of them, and how they are cut into parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs._core import file_digest
from gspo_rs.data.column_names import path_to
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.messages import conversation_in, decoded
from gspo_rs.data.source import ANYTHING, KEY, SAID, Source
from gspo_rs.data.turns import Turn, turn, turns
from gspo_rs.files.resolve import resolve_source
from gspo_rs.files.scoring.inputs import Input, inputs_of
from gspo_rs.groups.groups import Groups
from gspo_rs.rewards.functions import refuse_names
from gspo_rs.rewards.grading.engine import Slice

__all__ = ["Piece", "Rows", "Wanted", "cuts_of", "rows_of"]

# What is graded at once: a worker that hangs at its end keeps the others waiting.
PIECE = 1 << 14
# A part is what a killed run may lose: about a thousandth, of so many rows.
FEWEST, MOST, SHARE = 1 << 10, 1 << 16, 1_000


@dataclass(frozen=True)
class Wanted:
    """The columns that are wanted, by their names in the source.

    `columns` has the name under which a column is handed on first.
    """

    by: tuple[str, ...]
    key: tuple[str, ...]
    prompt: str | None
    completion: str | None
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Piece:
    """Some rows of one part: their keys, and those that have a completion, with their places."""

    keys: pl.DataFrame
    slice: Slice
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows of a source, in their order.

    Attributes
    ----------
    source : Source
    files : list of str
        Names of the files.
    firsts : ndarray of int64
        The number of the first row of each file.
    n_rows : int
    keys : tuple of str
        Names of the key columns, those of the groups first.
    n_by : int
        How many of them name the group.
    said : tuple of Turn
        The columns of prompt, if there is one, and completion.
    columns : mapping of str to str
        As in `Wanted`.
    inputs : list of dict
        The inputs for the manifest.
    """

    source: Source
    files: list[str]
    firsts: NDArray[np.int64]
    n_rows: int
    keys: tuple[str, ...]
    n_by: int
    said: tuple[Turn, ...]
    columns: Mapping[str, str]
    inputs: list[dict[str, Any]]

    @property
    def prompts(self) -> bool:
        """Whether there are prompts."""
        return len(self.said) > 1

    def groups(self) -> Groups:
        """Return the groups of all rows.

        Raises
        ------
        ValueError
            If a key is null.
        """
        return self._identities(self.keys[: self.n_by])

    def check_keys(self) -> None:
        """Raise a ValueError if two rows have the same key, naming both."""
        if len(self.keys) == self.n_by:
            return
        groups = self._identities(self.keys)
        if groups.n_groups < self.n_rows:
            twice = int(np.argmax(groups.sizes > 1))
            one, other = groups.order[groups.offsets[twice] :][:2]
            names = ", ".join(self.keys)
            raise ValueError(
                f"{self.place(one)} and {self.place(other)} have the same key, of {names}; name"
                " columns that differ with --key (key=…), or leave it out to have file and row"
            )

    def _identities(self, names: Sequence[str]) -> Groups:
        found = self.source.collect([self.source.key(name).alias(name) for name in names])
        for column in found:
            if column.null_count():
                row = int(column.is_null().arg_max() or 0)
                raise ValueError(f"the key {column.name!r} is null at {self.place(row)}")
        return Groups(found.to_series() if found.width == 1 else found)

    def place(self, row: int) -> str:
        """Name a row for errors."""
        return self._named(np.array([row]))[0]

    def _named(self, rows: NDArray[np.int64]) -> list[str]:
        """Name several rows as `place` does one."""
        files = np.searchsorted(self.firsts, rows, "right") - 1
        numbers = (rows - self.firsts[files]).tolist()
        names = [self.files[file] for file in files.tolist()]
        return [f"row {n} of {name}" for n, name in zip(numbers, names, strict=True)]

    def pieces(self, cuts: NDArray[np.int64], first: int, *, whole: bool) -> Iterator[Piece]:
        """Read the rows of the parts from number `first`, some of one part at a time.

        Parameters
        ----------
        cuts : ndarray of int64
            Where parts begin, and the end.
        first : int
        whole : bool
            Whether all rows of a part come together.
        """
        rows = self.source.as_written() or self.source
        read = [one.said(self.source).alias(f"said{i}") for i, one in enumerate(self.said)]
        read += [
            rows.column(name).alias(f"more{i}") for i, name in enumerate(self.columns.values())
        ]
        read += [self.source.key(name).alias(f"key{i}") for i, name in enumerate(self.keys)]
        start = int(cuts[first])
        batches = rows.batches(read, self.n_rows, first=start) if start < self.n_rows else ()
        held: list[pl.DataFrame] = []
        for frame in _divided(batches, start, cuts):
            held.append(frame)
            start += frame.height
            if not whole or start in cuts:
                whole_frame = pl.concat(held)
                yield self._piece(rows, whole_frame, start - whole_frame.height)
                held = []

    def _read(self, rows: Source) -> list[pl.Expr]:
        """Return what is read of the rows, which are those of the source as they are written."""
        more = enumerate(self.columns.values())
        return [
            *(one.said(self.source).alias(f"said{i}") for i, one in enumerate(self.said)),
            *(rows.column(name).alias(f"more{i}") for i, name in more),
            *(self.source.key(name).alias(f"key{i}") for i, name in enumerate(self.keys)),
        ]

    def content(self) -> str:
        """Return a digest of what is graded, of rows that are in no file here."""
        digest = hashlib.sha256()
        for frame in self.source.batches(self._read(self.source), self.n_rows):
            digest.update(frame.hash_rows(0).to_numpy().tobytes())
        return digest.hexdigest()

    def _piece(self, rows: Source, frame: pl.DataFrame, start: int) -> Piece:
        there = frame[f"said{len(self.said) - 1}"].is_not_null()
        numbers = np.flatnonzero(there.to_numpy()) + start
        keys = frame.select(pl.col(f"key{i}").alias(n) for i, n in enumerate(self.keys))
        if len(self.keys) == self.n_by:
            keys = pl.DataFrame([*keys, *self._places(start, frame.height)])
        kept = frame if len(numbers) == frame.height else frame.filter(there)
        places = self._named(numbers)
        texts = [
            decoded(rows.objects(kept[f"said{i}"]), places.__getitem__)
            for i in range(len(self.said))
        ]
        columns = {n: rows.objects(kept[f"more{i}"]) for i, n in enumerate(self.columns)}
        ids = kept.select(f"key{i}" for i in range(self.n_by))
        groups = Groups(ids.to_series() if ids.width == 1 else ids) if self.n_by else None
        numbered = None if groups is None else groups.codes.tolist()
        prompts = texts[0] if self.prompts else None
        return Piece(keys, Slice(prompts, texts[-1], columns, numbered, places), numbers - start)

    def _places(self, start: int, n: int) -> list[pl.Series]:
        """Return the keys that all rows have: file and row number."""
        rows = np.arange(start, start + n)
        files = np.searchsorted(self.firsts, rows, "right") - 1
        names = pl.Series(self.files, dtype=pl.String).gather(files)
        return [names.alias("file"), pl.Series("row", rows - self.firsts[files])]


def rows_of(source: Any, target: Path, wanted: Wanted) -> Rows:
    """Find the rows of a source and check the columns that are wanted.

    Raises
    ------
    ValueError, TypeError, OSError
        If a column is missing or of the wrong type, there is no row, or a file can't be read.
    """
    located = resolve_source(source)
    refuse_names(wanted.columns, located.name)
    prompt, completion = _known(located, prompt=wanted.prompt, completion=wanted.completion)
    said = _turns(located, prompt, completion or "completion")
    names = (*wanted.by, *wanted.key)
    located.check(
        [
            *((one.name, SAID) for one in said),
            *((name, ANYTHING) for name in wanted.columns.values()),
            *((name, KEY) for name in names),
        ]
    )
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"{twice[0]!r} is a key twice; name it once, with --by or --key")
    inputs = inputs_of(located, target, "wide")
    counts = [one.count() for one in inputs]
    n_rows = sum(counts)
    if not n_rows:
        raise ValueError(f"{located.name} has no rows, so there is nothing to grade")
    files = [_name(located, one, i) for i, one in enumerate(inputs)]
    firsts = np.cumsum([0, *counts[:-1]])
    found = Rows(located, files, firsts, n_rows, names, len(wanted.by), said, wanted.columns, [])
    entries = [_entry(one, name, n) for one, name, n in zip(inputs, files, counts, strict=True)]
    if any(one.path is None for one in inputs):
        entries[0]["digest"] = found.content()
    found.inputs.extend(entries)
    return found


def cuts_of(rows: Rows, *, whole_groups: bool) -> NDArray[np.int64]:
    """Return at which rows parts begin, and where the last one ends.

    Parameters
    ----------
    rows : Rows
    whole_groups : bool
        Whether no part may begin within a group.

    Raises
    ------
    ValueError
        If the rows of a group are not consecutive; names two of them.
    """
    size = min(max(FEWEST, -(-rows.n_rows // SHARE)), PIECE // 2 if whole_groups else MOST)
    cuts = np.append(np.arange(0, rows.n_rows, size), rows.n_rows)
    if not whole_groups:
        return cuts
    groups = rows.groups()
    if not groups.clustered:
        _refuse_scattered(rows, groups)
    return np.unique(groups.offsets[np.searchsorted(groups.offsets, cuts)])


def _refuse_scattered(rows: Rows, groups: Groups) -> None:
    codes = groups.codes
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    again = next(row for at, row in enumerate(starts) if codes[row] in codes[starts[:at]])
    first = int(np.argmax(codes == codes[again]))
    raise ValueError(
        f"{rows.place(first)} and {rows.place(int(again))} are of one group, and rows of other"
        " groups lie between them; sort the rows by their groups, which are compared whole"
    )


@with_known_columns
def _known(
    _source: Source, *, prompt: str | None = None, completion: str | None = None
) -> tuple[str | None, str | None]:
    """Return the columns of prompt and completion, those of a tool that is known among them."""
    return prompt, completion


def _turns(source: Source, prompt: str | None, completion: str) -> tuple[Turn, ...]:
    """Return the columns of prompt and completion; only that where nobody knows of a prompt."""
    schema = source.check([])
    if prompt is None and (path_to(schema, "prompt") or conversation_in(schema)):
        prompt = "prompt"
    return (
        (turn(source, "completion", completion),)
        if prompt is None
        else turns(source, prompt, completion)
    )


def _divided(frames: Any, start: int, cuts: NDArray[np.int64]) -> Iterator[pl.DataFrame]:
    """Divide frames where parts begin, and those that are too long to be graded at once."""
    for frame in frames:
        while frame.height:
            stop = int(cuts[np.searchsorted(cuts, start, "right")])
            size = min(stop - start, PIECE)
            yield frame[:size]
            frame, start = frame[size:], start + min(size, frame.height)


def _name(source: Source, one: Input, place: int) -> str:
    """Return the name of a file below the folder that was searched, or of other rows."""
    if one.path is None:
        return one.source.name
    return source.names[place] if source.names else Path(one.path).name


def _entry(one: Input, name: str, rows: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": one.place, "name": name, "rows": rows}
    if one.path is not None and one.stamp is not None:
        entry |= {"size": one.stamp.size, "mtime_ns": one.stamp.mtime_ns}
        entry["digest"] = file_digest(one.path)
    return entry
