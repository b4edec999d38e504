"""Arrow files: the file format, which has a footer, and the stream format, which has none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from gspo_rs.data.frames import reading

__all__ = ["scan_arrow"]

# What a file in the file format begins with.
MAGIC = b"ARROW1"
# What each message of a stream begins with, but for streams of Arrow before 0.15.
MARK = b"\xff\xff\xff\xff"
# What a stream ends with: the length of no message.
END = b"\0\0\0\0"


def scan_arrow(files: Sequence[str]) -> pl.LazyFrame:
    """Scan Arrow files, each in the format detected from its first bytes.

    Parameters
    ----------
    files : sequence of str
        With the suffix of either format: `datasets` writes streams as ``.arrow``.

    Returns
    -------
    LazyFrame
        Of a stream, the columns that are asked for are in memory, one file at a time.

    Raises
    ------
    OSError
        If a file can't be opened or is empty, or a stream has no schema or no end, as one that was
        cut between two of its batches.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/stream.arrow"
    ...     _ = pl.DataFrame({"reward": [0.0, 1.0]}).write_ipc_stream(file)
    ...     scan_arrow([file]).collect()["reward"].to_list()
    [0.0, 1.0]
    """
    streams = [_is_stream(file) for file in files]
    if not any(streams):
        return pl.scan_ipc(list(files), glob=False)
    pairs = zip(files, streams, strict=True)
    return pl.concat(
        [_scan_stream(file) if stream else pl.scan_ipc(file, glob=False) for file, stream in pairs]
    )


def _is_stream(file: str) -> bool:
    with Path(file).open("rb") as handle:
        start = handle.read(len(MAGIC))
    if not start:
        raise OSError(f"cannot read {file}: it has no bytes")
    return start != MAGIC


def _scan_stream(file: str) -> pl.LazyFrame:
    _refuse_cut(file)
    with reading(lambda: file):
        schema = pl.read_ipc_stream(file, n_rows=0).schema

    def rows(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _: int | None,
    ) -> Iterator[pl.DataFrame]:
        frame = pl.read_ipc_stream(file, columns=with_columns, n_rows=n_rows)
        yield frame if predicate is None else frame.filter(predicate)

    return register_io_source(rows, schema=schema, validate_schema=True)


def _refuse_cut(file: str) -> None:
    with Path(file).open("rb") as handle:
        end = (MARK if handle.read(len(MARK)) == MARK else b"") + END
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(size - len(end), 0))
        found = handle.read()
    if found != end:
        raise OSError(
            f"cannot read {file}: the stream has no end; it was cut, or is still being written"
        )
