"""External sort on disk, for data larger than memory whose groups are scattered."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

__all__ = ["sort_on_disk"]

# Memory that rows may take before they are written, and that a part may take when it is read.
BUDGET = 64 << 20
# Parts per level: each is written BUDGET / FANOUT bytes at a time, long enough to read fast, and
# a second level is needed only beyond BUDGET * FANOUT = 4 GiB.
FANOUT = 64


@dataclass
class Part:
    """The rows of a range of positions, as pieces of one temporary file."""

    start: int
    stop: int
    n_bytes: float = 0.0
    pieces: list[tuple[int, int]] = field(default_factory=list)


def sort_on_disk(
    frames: Iterable[pl.DataFrame],
    start: int,
    stop: int,
    *,
    directory: str | Path | None = None,
    budget: int = BUDGET,
) -> Iterator[pl.DataFrame]:
    """Sort rows by their column ``position``, keeping the order of those that share one.

    Parameters
    ----------
    frames : iterable of DataFrame
        The rows in their first order.
    start, stop : int
        Every position lies in ``range(start, stop)``.
    directory : path, optional
        Where the temporary file is made; the system's folder for temporary files by default.
        It has no name there, so that it is gone when this process is, however that ends.
    budget : int
        Bytes of rows that may be held in memory at a time.

    Yields
    ------
    DataFrame
        Rows in order of position. All rows of one position come in the same frame, so one
        position may take more memory than the budget.

    Raises
    ------
    OSError
        If the temporary file can't be made or written, as when the disk is full.

    Notes
    -----
    Rows go to parts of consecutive positions, and a part that is small enough is sorted in
    memory; one that is not goes through this again. Every row is written once for each 64-fold
    of the budget that the rows take.

    Examples
    --------
    >>> frames = [pl.DataFrame({"position": [2, 0]}), pl.DataFrame({"position": [1, 0]})]
    >>> pl.concat(sort_on_disk(frames, 0, 3))["position"].to_list()
    [0, 0, 1, 2]
    """
    with tempfile.TemporaryFile(dir=directory, prefix="gspo_rs-") as file:
        parts = _parts(start, stop)
        held: list[pl.DataFrame] = []
        n_bytes = 0.0
        for frame in frames:
            if frame.is_empty():
                continue
            held.append(frame)
            n_bytes += frame.estimated_size()
            if n_bytes > budget:
                _write(file, parts, pl.concat(held))
                held, n_bytes = [], 0.0
        if held and any(part.pieces for part in parts):
            _write(file, parts, pl.concat(held))
            held = []
        if held:
            yield _sorted(held)
        for part in parts:
            if part.n_bytes <= budget or part.stop - part.start == 1:
                if part.pieces:
                    yield _sorted(_read(file, part))
            else:
                rows = _read(file, part)
                yield from sort_on_disk(
                    rows, part.start, part.stop, directory=directory, budget=budget
                )


def _parts(start: int, stop: int) -> list[Part]:
    borders = np.unique(np.linspace(start, stop, FANOUT + 1).astype(np.int64)).tolist()
    return [Part(low, high) for low, high in pairwise(borders)]


def _sorted(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).sort("position", maintain_order=True)


def _write(file: IO[bytes], parts: list[Part], rows: pl.DataFrame) -> None:
    """Append `rows` to `file`, part by part."""
    positions = rows["position"].to_numpy()
    number = np.searchsorted([part.stop for part in parts], positions, side="right")
    rows = rows[np.argsort(number, kind="stable")]
    start = 0
    for part, n_rows in zip(parts, np.bincount(number, minlength=len(parts)), strict=True):
        piece = rows.slice(start, n_rows)
        start += n_rows
        if not piece.is_empty():
            part.n_bytes += piece.estimated_size()
            part.pieces.append(_append(file, piece))


def _append(file: IO[bytes], piece: pl.DataFrame) -> tuple[int, int]:
    """Write `piece` and return its place and length in `file`."""
    data = piece.write_ipc_stream(
        None, compression="lz4", compat_level=pl.CompatLevel.oldest()
    ).getbuffer()
    place = file.seek(0, os.SEEK_END)
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        problem = f"cannot write rows to be sorted: {error.strerror} after {place} bytes"
        raise OSError(error.errno, f"{problem}; choose another spill_directory") from error
    return place, len(data)


def _read(file: IO[bytes], part: Part) -> Iterator[pl.DataFrame]:
    for place, length in part.pieces:
        file.seek(place)
        yield pl.read_ipc_stream(file.read(length))
