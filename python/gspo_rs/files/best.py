"""The best completions of each prompt, written to a file for rejection sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gspo_rs.data.external_sort import sort_on_disk
from gspo_rs.data.group_index import KeyedRewards, read_keys
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member
from gspo_rs.data.source import SourceLike, locate
from gspo_rs.files.filters import filter_rows, parse, refuse_empty
from gspo_rs.files.gather import gather_rows, kept_columns, numbered, refuse_null
from gspo_rs.files.in_memory import frame_without_target
from gspo_rs.files.messages import texts
from gspo_rs.files.target import checked_target
from gspo_rs.files.writer import WriteSummary, as_written, write_frames
from gspo_rs.groups.checks import as_count
from gspo_rs.groups.statistics import stats

__all__ = ["best"]

COLUMNS = ("prompt", "completion", "reward")


@with_known_columns
@frame_without_target
def best(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str] | None = None,
    reward: str = "reward",
    prompt: str | None = None,
    completion: str | None = None,
    n: int = 1,
    columns: Sequence[str] = (),
    keep: str = "all",
    threshold: float | None = None,
    chat: bool = False,
    spill_directory: str | Path | None = None,
    allow_empty: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary:
    """Write the best completions of each group.

    Parameters
    ----------
    source, by, reward, prompt, completion, chat
        As `gspo_rs.files.pairs.pairs`.
    target : path, optional
        The file to write: ``.parquet``, ``.jsonl`` or ``.ndjson``; without one the rows are
        returned.
    n : int
        How many of each group; fewer, where fewer have a reward. Of tied ones, the first.
    columns : sequence of str
        More columns to write.
    keep : str
        Rules of `gspo_rs.files.filters` that a row has to pass as well, such as ``reward:1..``: the
        best of a group without a right completion is a wrong one.
    threshold : float, optional
        For the rule ``pass-rate``: a completion is right from this reward on; 0.5 by default.
    spill_directory : path, optional
        Where texts are put in order, as for pairs, if a better row comes after another one.
    allow_empty : bool
        Whether the rules may leave nothing to write.
    dry_run : bool
        Whether to read and check, and write nothing.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    WriteSummary or DataFrame

    Raises
    ------
    ValueError, TypeError, OSError
        As `gspo_rs.files.pairs.pairs`.

    Notes
    -----
    The columns are those of TRL's prompt-completion type, ``prompt`` and ``completion``, then
    ``reward``, the keys of the group, unless they are called as one of these, and `columns`. Groups
    come in the order of their first row that is written, in each the better row first, and of
    tied ones the first. Memory grows with the ids and rewards, about 40 bytes a row, and not with
    the texts.

    Examples
    --------
    >>> rows = {"prompt": ["1+1="] * 3, "response": ["3", "2", "?"], "reward": [0, 1, None]}
    >>> best(pl.DataFrame(rows), by="prompt").rows()
    [('1+1=', '2', 1.0)]
    """
    located, keys = by_member(
        locate(source), by, [reward], prompt=prompt, completion=completion, beside=columns
    )
    path = checked_target(target, located, overwrite=overwrite)
    rules = (*parse(keep, threshold), *parse(f"best:{as_count('n', n, lowest=1)}"))
    said = texts(located, prompt, completion, chat=chat)
    kept_too = kept_columns(located, keys, columns, COLUMNS)
    narrow = read_keys(located, keys, reward)
    kept = filter_rows(narrow.rewards, narrow.groups, rules)
    wanted = np.flatnonzero(kept.mask)
    refuse_empty(len(wanted), kept.dropped, located.name, allow_empty=allow_empty)
    position = _positions(narrow, wanted)
    rows, written = as_written(located, path)
    beside = numbered(rows, kept_too)
    read, names = [*said, *beside.values()], dict(zip(beside, kept_too, strict=True))

    def frames() -> Iterator[pl.DataFrame]:
        for part, frame in gather_rows(rows, narrow, read, reward, wanted):
            refuse_null(located, frame["prompt"], wanted[part], "prompt")
            refuse_null(located, frame["completion"], wanted[part], "completion")
            yield frame.with_columns(pl.Series("position", position[part]))

    ordered = frames()
    if (np.diff(position) < 0).any():
        ordered = sort_on_disk(ordered, 0, len(wanted), directory=spill_directory)
    with located.reading():
        types = rows.frame.select(read).collect_schema() | {"reward": pl.Float64()}
    chosen = (_named(frame, names) for frame in ordered)
    schema = _named(pl.DataFrame(schema=types), names).schema
    n_rows = write_frames(
        chosen, schema, path, written=written, overwrite=overwrite, dry_run=dry_run
    )
    counts = _counted(narrow, wanted)
    return WriteSummary(n_rows, dropped=kept.dropped, exploded=located.exploded, **counts)


def _positions(narrow: KeyedRewards, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each wanted row: groups by their first one, in each the best first."""
    codes = narrow.groups.codes[wanted]
    _, first, group = np.unique(codes, return_index=True, return_inverse=True)
    order = np.lexsort((-narrow.rewards[wanted], first[group]))
    position = np.empty(len(wanted), dtype=np.int64)
    position[order] = np.arange(len(wanted))
    return position


def _named(frame: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """Return the columns of a chosen row, those that are kept under their own names."""
    return frame.select(*COLUMNS, *names).rename(names)


def _counted(narrow: KeyedRewards, wanted: NDArray[np.int64]) -> dict[str, int]:
    """Count the groups of chosen rows, and the rows that have the lowest reward of their group."""
    codes, described = narrow.groups.codes[wanted], stats(narrow.rewards, narrow.groups)
    lowest = narrow.rewards[wanted] == described.min[codes]
    alike = lowest & ~described.informative[codes]
    return {"groups": len(np.unique(codes)), "lowest": int(lowest.sum()), "alike": int(alike.sum())}
