"""Whole groups of a source, streamed, or sorted on disk first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.external_sort import sort_on_disk
from gspo_rs.data.schema import GroupBatch
from gspo_rs.data.source import Source
from gspo_rs.groups.groups import Groups

__all__ = ["stream_groups"]


def stream_groups(
    source: Source,
    columns: Sequence[pl.Expr],
    groups: Groups,
    wanted: range,
    *,
    batch_groups: int,
    order: NDArray[np.int64] | None = None,
    directory: str | Path | None = None,
) -> Iterator[GroupBatch]:
    """Read some of the groups of a source, whole, a batch at a time.

    Parameters
    ----------
    source : Source
    columns : sequence of Expr
        What to read: the keys as key0, key1, … first, then anything but ``row`` and ``position``.
    groups : Groups
        Those of all rows, as the index found them.
    wanted : range
        Which positions of `order` to read.
    batch_groups : int
        Groups per batch; the last one may hold fewer.
    order : ndarray of int64, optional
        The groups in the order wanted, all or some; by default all in that of their first rows.
    directory : path, optional
        Where rows that are scattered or not in order are sorted; see `sort_on_disk`.

    Returns
    -------
    iterator of Cut

    Raises
    ------
    ValueError
        If `batch_groups` is less than 1; while reading, if the source is not what it was.
    OSError
        If the directory is none, the source can't be read, or the disk is full.

    Examples
    --------
    >>> from gspo_rs.data.source import locate
    >>> frame = pl.DataFrame({"id": ["a", "b", "a"], "x": [1, 2, 3]})
    >>> columns = [pl.col("id").alias("key0"), pl.col("x")]
    >>> cuts = stream_groups(locate(frame), columns, Groups(frame["id"]), range(2), batch_groups=1)
    >>> [cut.frame["x"].to_list() for cut in cuts]
    [[1, 3], [2]]
    """
    if batch_groups < 1:
        raise ValueError(f"batch_groups is {batch_groups}; it must be at least 1")
    if directory is not None and not Path(directory).is_dir():
        raise NotADirectoryError(f"spill_directory {directory} is no folder; make it first")
    if groups.clustered and order is None:
        first, last = groups.offsets[[wanted.start, wanted.stop]].tolist()
        frames = _numbered(source, columns, groups.n_rollouts, first=first, last=last)
        sizes = groups.sizes[wanted.start : wanted.stop]
    else:
        order = np.arange(groups.n_groups) if order is None else order
        placed = _placed(source, columns, groups, order, wanted)
        frames = sort_on_disk(placed, wanted.start, wanted.stop, directory=directory)
        sizes = groups.sizes[order[wanted.start : wanted.stop]]
    return _gathered(source, frames, sizes, batch_groups)


def _numbered(
    source: Source,
    columns: Sequence[pl.Expr],
    n_rows: int,
    *,
    first: int = 0,
    last: int | None = None,
) -> Iterator[pl.DataFrame]:
    """Read rows as `Source.batches` does, each with its number."""
    row = first
    for frame in source.batches(columns, n_rows, first=first, last=last):
        yield frame.with_columns(pl.Series("row", np.arange(row, row + frame.height)))
        row += frame.height


def _placed(
    source: Source,
    columns: Sequence[pl.Expr],
    groups: Groups,
    order: NDArray[np.int64],
    wanted: range,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of the wanted groups with the position of their group."""
    position = np.full(groups.n_groups, -1)
    position[order] = np.arange(len(order))
    within = pl.col("position").is_between(wanted.start, wanted.stop, closed="left")
    for frame in _numbered(source, columns, groups.n_rollouts):
        places = position[groups.codes[frame["row"].to_numpy()]]
        yield frame.with_columns(pl.Series("position", places)).filter(within)


def _gathered(
    source: Source, frames: Iterable[pl.DataFrame], sizes: NDArray[np.int64], batch_groups: int
) -> Iterator[GroupBatch]:
    """Cut rows that come in the order of their groups, whose sizes are known."""
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    held: pl.DataFrame | None = None
    group = came = 0
    for frame in frames:
        # With the row that is held last, whose group may go on.
        new = frame if held is None else pl.concat([held.tail(1), frame])
        held = frame if held is None else pl.concat([held, frame])
        came += frame.height
        codes = np.searchsorted(bounds, np.arange(came - new.height, came), side="right")
        found = Groups(new.select(pl.col("^key\\d+$"))).codes
        source.refuse_change("order of groups", codes - codes[:1], found)
        while group < len(sizes):
            stop = min(group + batch_groups, len(sizes))
            offsets = bounds[group : stop + 1] - bounds[group]
            if held.height < offsets[-1]:
                break
            cut, held = held[: offsets[-1]], held[offsets[-1] :]
            yield GroupBatch(cut, offsets, cut["row"].to_numpy())
            group = stop
