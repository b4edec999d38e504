"""Write one file from a stream of frames, completely or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from gspo_rs.data.formats.unions import is_wide
from gspo_rs.data.source import Source
from gspo_rs.files import atomic
from gspo_rs.files.json_lines import LINE, lines
from gspo_rs.files.notebook import facts_html
from gspo_rs.files.target import JSON

__all__ = ["WriteSummary", "as_written", "parts_of", "write_frames"]

# A row group is held in memory while it is written.
ROW_GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class WriteSummary:
    """What was written.

    Attributes
    ----------
    rows : int
        Rows of the file.
    groups : int or None
        Groups that gave at least one of them; None where nobody asked for groups.
    dropped : dict of str to int
        Rows of the source that each rule of `keep` dropped; see `gspo_rs.files.filters`.
    lowest, alike : int or None
        Of the best of groups: rows that have the lowest reward of their group, and those of them
        in groups whose rewards are all equal. None where nothing is the best.
    exploded : tuple of str
        The columns whose lists were read as one value for each completion; of a source with one
        row per completion none.
    same_text : int
        Of pairs: those that were left out because both completions are the same text.
    """

    rows: int
    groups: int | None
    dropped: dict[str, int]
    lowest: int | None = None
    alike: int | None = None
    exploded: tuple[str, ...] = ()
    same_text: int = 0

    def _repr_html_(self) -> str:
        return facts_html("written", vars(self))


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn any Polars error while writing `target` into an OSError that names it.

    What is raised by whoever reads the rows passes. Polars panics where it can't write a type,
    and a panic is no `Exception`.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise OSError(f"cannot write {target}: {error}") from error


def refuse_unwritable(schema: pl.Schema, target: Path) -> None:
    """Raise a TypeError for the first column whose type the format of `target` does not have."""
    json = target.suffix.lower() in JSON
    for name, kind in schema.items():
        for depth, part in parts_of(kind):
            binary = json and isinstance(part, pl.Binary)
            # Parquet has no struct without fields, Polars writes no nested extension type to it.
            nested = isinstance(part, pl.Extension) and depth > 0
            parquet = not json and (nested or (isinstance(part, pl.Struct) and not part.fields))
            if is_wide(part):
                raise TypeError(f"column {name!r} is {kind}, which is not read here; drop it")
            if binary or parquet or isinstance(part, pl.Object):
                other = "a .parquet file" if binary else "a .jsonl file" if parquet else "none"
                raise TypeError(
                    f"column {name!r} is {kind}, which {target} cannot hold ({other} can); "
                    "write another format, or drop or cast the column"
                )


def parts_of(kind: pl.DataType, depth: int = 0) -> Iterator[tuple[int, pl.DataType]]:
    """Yield a type and its nested types, each with its depth."""
    yield depth, kind
    inner: list[Any] = []
    if isinstance(kind, pl.List | pl.Array):
        inner = [kind.inner]
    elif isinstance(kind, pl.Struct):
        inner = [field.dtype for field in kind.fields]
    elif isinstance(kind, pl.Extension):
        inner = [kind.ext_storage()]
    for part in inner:
        yield from parts_of(part, depth + 1)


def as_written(
    source: Source, target: Path, items: Iterable[str] = (), typed: Iterable[str] = ()
) -> tuple[Source, bool]:
    """Return the rows as they go from JSON to JSON: with what is nested as it is written.

    Of the columns `items` what their lists hold; the columns `typed` stay structs.

    Returns
    -------
    source : Source
        The same one if it or the `target` is something else.
    written : bool
        Whether binary is JSON, for `write_frames`.
    """
    found = source.as_written(items, typed) if target.suffix.lower() in JSON else None
    return (source, False) if found is None else (found, True)


def write_frames(
    frames: Iterable[pl.DataFrame],
    schema: pl.Schema,
    target: Path,
    *,
    written: bool,
    overwrite: bool,
    dry_run: bool = False,
) -> int:
    """Write frames of one schema to a file and return the number of rows.

    With `written`, which is for lines of JSON, binary is JSON that is written as it is.
    The file takes the place of an old one at the end, if it may `overwrite`, or nothing changes;
    a `dry_run` takes all frames and writes none. About two row groups of 32 MiB and what Polars
    has under way are in memory.
    """
    n_rows = 0
    if written:
        frames, schema = map(lines, frames), pl.Schema({LINE: pl.String()})
    refuse_unwritable(schema, target)
    if dry_run:
        return sum(frame.height for frame in frames)
    iterator = iter(frames)
    first = next(iterator, schema.to_frame())
    n_bytes = max(int(first.estimated_size()), 1)
    size = min(max(ROW_GROUP_BYTES * first.height // n_bytes, 256), 1 << 18)

    def rows(*_: object) -> Iterator[pl.DataFrame]:
        nonlocal n_rows
        for frame in chain([first], iterator):
            n_rows += frame.height
            yield frame

    with atomic.file(target, overwrite=overwrite) as partial, writing(target):
        lazy = register_io_source(rows, schema=schema, validate_schema=True)
        if written:
            lazy.sink_csv(partial, include_header=False, quote_style="never")
        elif target.suffix.lower() in JSON:
            lazy.sink_ndjson(partial)
        else:
            lazy.sink_parquet(partial, row_group_size=size)
    return n_rows
