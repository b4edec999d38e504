"""The rows that rules keep, written whole or as their row numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from gspo_rs.data.formats.unions import refuse_partial
from gspo_rs.data.group_index import read_keys
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.progress import counted
from gspo_rs.data.source import ANYTHING, Source, SourceLike, locate
from gspo_rs.files.filters import Chosen, filter_rows, parse, refuse_empty
from gspo_rs.files.in_memory import frame_without_target
from gspo_rs.files.selection import select
from gspo_rs.files.target import checked_target
from gspo_rs.files.writer import WriteSummary, as_written, write_frames
from gspo_rs.groups.synonyms import listed

__all__ = ["filter"]


@with_known_columns
@frame_without_target
def filter(  # noqa: A001 - the word of pandas, Polars and `datasets`
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str] | None = None,
    keep: str,
    reward: str = "reward",
    threshold: float | None = None,
    columns: Sequence[str] | None = None,
    layout: Literal["wide", "narrow"] = "wide",
    allow_empty: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary:
    """Write the rows that rules keep, in their order.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        Scored completions, one a row; see `gspo_rs.data.scan`. The rows of a group may lie
        anywhere.
    target : path, optional
        The file to write: ``.parquet``, ``.jsonl`` or ``.ndjson``; without one the rows are
        returned.
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    keep : str
        Rules of `gspo_rs.files.filters`, such as ``"informative,top:0.25"``.
    reward : str
        Column of the rewards.
    threshold : float, optional
        For the rule ``pass-rate``: a completion is right from this reward on; 0.5 by default.
    columns : sequence of str, optional
        The columns to write; all by default.
    layout : {"wide", "narrow"}
        Whether the file has the rows, or their row numbers and the digests of the files that they
        lie in: a selection, for `gspo_rs.files.selection.apply`.
    allow_empty : bool
        Whether the rules may leave no row.
    dry_run : bool
        Whether to read and check, and write nothing.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    WriteSummary or DataFrame

    Raises
    ------
    ValueError
        If a column is missing, no row is left, or as `gspo_rs.data.index_groups` and, with row
        numbers, as `gspo_rs.files.selection.write_selection`.
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be found or read, or the target not written.

    Examples
    --------
    >>> rows = {"id": ["a", "a", "b"], "reward": [1.0, 0.0, 1.0]}
    >>> filter(pl.DataFrame(rows), by="id", keep="informative,best:1").rows()
    [('a', 1.0)]
    """
    rules = parse(keep, threshold)
    if layout not in ("wide", "narrow"):
        raise ValueError(f"layout is {layout!r}; use one of {listed(layout, ('wide', 'narrow'))}")
    if layout == "narrow":
        if columns is not None:
            raise ValueError(f"columns={columns!r}: row numbers come without columns; leave it out")
        return select(
            source,
            target,
            by=by,
            keep=keep,
            reward=reward,
            threshold=threshold,
            allow_empty=allow_empty,
            dry_run=dry_run,
            overwrite=overwrite,
        )
    located, keys = by_member(
        locate(source), by, [reward], beside=columns or (), every=columns is None
    )
    path = checked_target(target, located, overwrite=overwrite)
    refuse_partial(located.rows)
    located.check([(name, ANYTHING) for name in columns or ()])
    narrow = read_keys(located, keys, reward)
    kept = filter_rows(narrow.rewards, narrow.groups, rules)
    rows = np.flatnonzero(kept.mask)
    refuse_empty(len(rows), kept.dropped, located.name, allow_empty=allow_empty)
    _write(located, path, kept, columns, dry_run=dry_run, overwrite=overwrite)
    groups = len(np.unique(narrow.groups.codes[rows]))
    return WriteSummary(
        rows=len(rows), groups=groups, dropped=kept.dropped, exploded=located.exploded
    )


def _write(
    located: Source,
    path: Path,
    kept: Chosen,
    columns: Sequence[str] | None,
    *,
    dry_run: bool,
    overwrite: bool,
) -> None:
    rows, written = as_written(located, path)
    names = list(rows.check([])) if columns is None else list(columns)
    wanted = [rows.column(name).alias(name) for name in names]
    with located.reading():
        schema = rows.frame.select(wanted).collect_schema()

    def frames() -> Iterator[pl.DataFrame]:
        start = 0
        n_rows = len(kept.mask)
        for frame in counted(rows.batches(wanted, n_rows), "rows", n_rows):
            mask = kept.mask[start : start + frame.height]
            start += frame.height
            if mask.any():
                yield frame.filter(pl.Series(mask))

    write_frames(frames(), schema, path, written=written, overwrite=overwrite, dry_run=dry_run)
