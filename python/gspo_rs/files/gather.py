"""Gather the texts of some rows in one pass over a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.group_index import KeyedRewards
from gspo_rs.data.nested_source import NestedSource
from gspo_rs.data.progress import counted
from gspo_rs.data.source import ANYTHING, Source

__all__ = ["gather_rows", "kept_columns", "numbered", "refuse_null"]

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


def kept_columns(
    source: Source, keys: Sequence[str], columns: Sequence[str], taken: Sequence[str]
) -> list[str]:
    """Return the names of columns that chosen rows keep: their keys, and those asked for.

    Keys that are called as a column that is written anyway are not kept.

    Parameters
    ----------
    source : Source
    keys : sequence of str
        Of the group, or the one that was added for it.
    columns : sequence of str
        What is asked for.
    taken : sequence of str
        The columns that are written anyway.

    Raises
    ------
    ValueError
        If a column is not there, or is called as one of those `taken`.
    """
    source.check([(name, ANYTHING) for name in columns])
    for name in columns:
        if name in taken:
            raise ValueError(
                f"columns: {name!r} is the name of a column that is written anyway; leave it out"
            )
    added = source.group if isinstance(source, NestedSource) else None
    kept = [name for name in keys if name != added and name not in taken]
    return list(dict.fromkeys([*kept, *columns]))


def numbered(source: Source, names: Sequence[str]) -> dict[str, pl.Expr]:
    """Return columns under numbers, which are like no name that is given on the way."""
    return {f"kept{i}": source.column(name).alias(f"kept{i}") for i, name in enumerate(names)}


def refuse_null(source: Source, column: pl.Series, rows: NDArray[np.int64], given: str) -> None:
    """Raise for the first text that is null, naming its row."""
    if column.null_count():
        row = rows[column.is_null().arg_max()]
        raise ValueError(f"the {given} is null at {source.place(int(row))} of {source.name}")
