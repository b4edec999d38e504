"""Gather the texts of some rows in one pass over a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.group_index import KeyedRewards
from gspo_rs.data.progress import counted
from gspo_rs.data.source import Source

__all__ = ["gather_rows", "refuse_null"]

# Bytes of rows given at a time: a row that is picked often must not fill the memory.
FRAME_BYTES = 32 << 20


def gather_rows(
    source: Source,
    narrow: KeyedRewards,
    columns: Sequence[pl.Expr],
    reward: str,
    rows: NDArray[np.int64],
) -> Iterator[tuple[slice, pl.DataFrame]]:
    """Read some columns of some rows, and the reward.

    Parameters
    ----------
    source : Source
        Is read once, in windows.
    narrow : KeyedRewards
        What was read of it before.
    columns : sequence of Expr
        What to read.
    reward : str
        The column of the rewards; comes as ``reward``, and must be what it was.
    rows : ndarray of int64, shape (m,)
        Row numbers, in rising order; one may come several times.

    Yields
    ------
    slice, DataFrame
        Which of the `rows`, and their values.

    Raises
    ------
    ValueError
        If the source has other rows or rewards than before.
    OSError
        If it can't be read.
    """
    start = 0
    wide = [*columns, source.column(reward).cast(pl.Float64).alias("reward")]
    n_rows = len(narrow.rewards)
    for frame in counted(source.batches(wide, n_rows), "texts", n_rows):
        low, high = np.searchsorted(rows, [start, start + frame.height]).tolist()
        each = max(int(frame.estimated_size()) // max(frame.height, 1), 1)
        step = max(FRAME_BYTES // each, 1)
        for first in range(low, high, step):
            part = slice(first, min(first + step, high))
            found = frame[rows[part] - start]
            rewards = found["reward"].fill_null(np.nan).to_numpy()
            source.refuse_change("reward", narrow.rewards[rows[part]], rewards)
            yield part, found
        start += frame.height


def refuse_null(source: Source, column: pl.Series, rows: NDArray[np.int64], given: str) -> None:
    """Raise for the first text that is null, naming its row."""
    if column.null_count():
        row = rows[column.is_null().arg_max()]
        raise ValueError(f"the {given} is null at {source.place(int(row))} of {source.name}")
