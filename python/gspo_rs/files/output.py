"""One file written from frames that come one after the other, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from gspo_rs import atomic
from gspo_rs.source import Source

__all__ = ["FORMATS", "Written", "checked_target", "write_frames"]

# A row group is held in memory while it is written.
ROW_GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    rows : int
        Rows of the file.
    groups : int
        Groups that gave at least one of them.
    dropped : dict of str to int
        Rows of the source that each rule of `keep` dropped; see `gspo_rs.files.keep`.
    """

    rows: int
    groups: int
    dropped: dict[str, int]


FORMATS: Mapping[str, Callable[[pl.LazyFrame, Path, int], Any]] = {
    ".parquet": lambda rows, path, size: rows.sink_parquet(path, row_group_size=size),
    ".jsonl": lambda rows, path, _: rows.sink_ndjson(path),
    ".ndjson": lambda rows, path, _: rows.sink_ndjson(path),
}


def checked_target(target: str | Path, source: Source) -> Path:
    """Return the file to write.

    Raises
    ------
    ValueError
        If its suffix is not known, or it is one of the files that are read.
    IsADirectoryError
        If it is a folder.
    """
    path = Path(target)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder; name a file in it, such as {path}/out.parquet"
        )
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(f"cannot tell the format of {str(path)!r} by its suffix; known: {known}")
    if path.resolve() in {Path(file).resolve() for file in source.files}:
        raise ValueError(f"{path} is one of the files to read; write to another one")
    return path


def write_frames(frames: Iterable[pl.DataFrame], schema: pl.Schema, target: Path) -> int:
    """Write frames of one schema to a file and return the number of rows.

    The file takes the place of an old one at the end, or nothing changes. About two row groups
    of 32 MiB and what Polars has under way are in memory.
    """
    written = 0
    iterator = iter(frames)
    first = next(iterator, schema.to_frame())
    n_bytes = max(int(first.estimated_size()), 1)
    size = min(max(ROW_GROUP_BYTES * first.height // n_bytes, 256), 1 << 18)

    def rows(*_: object) -> Iterator[pl.DataFrame]:
        nonlocal written
        for frame in chain([first], iterator):
            written += frame.height
            yield frame

    with atomic.file(target) as partial:
        lazy = register_io_source(rows, schema=schema, validate_schema=True)
        FORMATS[target.suffix.lower()](lazy, partial, size)
    return written
