"""Whole groups of a source, streamed, or sorted on disk first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs._core import WholeGroups
from gspo_rs.data.external_sort import sort_on_disk
from gspo_rs.data.schema import GroupBatch
from gspo_rs.data.source import Source, next_window
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
        return _clustered(source, columns, groups, wanted, batch_groups)
    order = np.arange(groups.n_groups) if order is None else order
    placed = _placed(source, columns, groups, order, wanted)
    frames = sort_on_disk(placed, wanted.start, wanted.stop, directory=directory)
    return _gathered(source, frames, groups.sizes[order[wanted.start : wanted.stop]], batch_groups)


def _keys(columns: Sequence[pl.Expr]) -> list[str]:
    names = [column.meta.output_name() for column in columns]
    return [name for name in names if name.startswith("key")]


def _clustered(
    source: Source, columns: Sequence[pl.Expr], groups: Groups, wanted: range, batch_groups: int
) -> Iterator[GroupBatch]:
    """Stream the groups of a source whose rows are already clustered by group."""
    start, window = wanted.start, source.first_window
    while start < wanted.stop:
        reach = int(groups.offsets[start]) + window
        held = int(np.searchsorted(groups.offsets, reach)) - start
        stop = min(start + max(held // batch_groups, 1) * batch_groups, wanted.stop)
        if reach >= groups.n_rollouts:
            # A last, smaller batch is no reason to read once more up to it.
            stop = wanted.stop
        n_bytes = 0
        for cut in _streamed(source, columns, groups, range(start, stop), batch_groups):
            n_bytes += int(cut.frame.estimated_size())
            yield cut
        n_rows = int(groups.offsets[stop] - groups.offsets[start])
        start, window = stop, next_window(window, n_rows, n_bytes)


def _streamed(
    source: Source, columns: Sequence[pl.Expr], groups: Groups, wanted: range, batch_groups: int
) -> Iterator[GroupBatch]:
    """Cut the groups `wanted`, which lie side by side."""
    first_row, stop_row = (int(groups.offsets[group]) for group in (wanted.start, wanted.stop))
    # The last stream is open, so that rows that should not be there are seen.
    end = stop_row if wanted.stop < groups.n_groups else None
    with source.reading():
        # The first frame says which columns there are, whether rows come or not.
        empty = source.frame.select(columns).collect_schema().to_frame()
        stream = chain([empty], source.stream(columns, first_row, end))
        batches = WholeGroups(stream, _keys(columns), batch_groups, first_row=first_row)
    group = wanted.start
    while True:
        with source.reading():
            batch = next(batches, None)
        if batch is None:
            break
        frame, offsets, row = batch
        expected = groups.offsets[group : group + len(offsets)]
        source.refuse_change("order of groups", expected, row + offsets)
        yield GroupBatch(pl.DataFrame(frame), offsets, row + np.arange(offsets[-1]))
        group += len(offsets) - 1
    source.refuse_change("number of groups", wanted.stop, group)


def _placed(
    source: Source,
    columns: Sequence[pl.Expr],
    groups: Groups,
    order: NDArray[np.int64],
    wanted: range,
) -> Iterator[pl.DataFrame]:
    """Add to every row of the wanted groups its number and the position of its group."""
    position = np.full(groups.n_groups, -1)
    position[order] = np.arange(len(order))
    within = pl.col("position").is_between(wanted.start, wanted.stop, closed="left")
    row = 0
    for frame in source.batches(columns, groups.n_rollouts):
        rows = np.arange(row, row + frame.height)
        row += frame.height
        numbers = pl.Series("row", rows), pl.Series("position", position[groups.codes[rows]])
        yield frame.with_columns(*numbers).filter(within)


def _gathered(
    source: Source, frames: Iterable[pl.DataFrame], sizes: NDArray[np.int64], batch_groups: int
) -> Iterator[GroupBatch]:
    """Cut rows that come in the order of their groups, whose sizes are known."""
    held: pl.DataFrame | None = None
    group = 0
    for frame in frames:
        held = frame if held is None else pl.concat([held, frame])
        while group < len(sizes):
            offsets = np.cumsum([0, *sizes[group : group + batch_groups]])
            if held.height < offsets[-1]:
                break
            cut, held = held[: offsets[-1]], held[offsets[-1] :]
            ids = cut.select(pl.col("^key\\d+$"))
            source.refuse_change("order of groups", offsets, Groups(ids).offsets)
            yield GroupBatch(cut, offsets, cut["row"].to_numpy())
            group += batch_groups
