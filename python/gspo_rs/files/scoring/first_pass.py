"""Ids and rewards alone: read, and every group of them computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from gspo_rs._core import Scores
from gspo_rs.data.column_names import type_in
from gspo_rs.data.formats.parquet import largest_row_group
from gspo_rs.data.formats.unions import refuse_mixed_keys
from gspo_rs.data.source import Source
from gspo_rs.files.filters import filter_rows
from gspo_rs.files.scoring.inputs import Input, checked
from gspo_rs.files.scoring.options import COLUMNS, Options
from gspo_rs.files.scoring.progress import Progress
from gspo_rs.groups.advantages import columns_and_advantage
from gspo_rs.groups.estimators import estimator_named
from gspo_rs.groups.groups import Groups

__all__ = [
    "Read",
    "Tally",
    "check_columns",
    "compute",
    "narrow_columns",
    "narrow_frames",
    "read",
    "refuse_nothing",
    "scores_of",
]

# What is told of each row besides its advantage.
TOLD: Final = (("rank", {"method": "average"}), "group_mean", "group_std")
# Rows of whole groups that are computed at a time.
CHUNK = 1 << 16
# Rows of one row group that are decoded at a time.
WINDOW = 1 << 20


@dataclass(frozen=True)
class Read:
    """What was read of one file: its first row among all, its rows, and their digest."""

    start: int
    rows: int
    digest: str


@dataclass
class Tally:
    """What was found, counted."""

    groups: int = 0
    uninformative: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def plus(self, other: Tally, sign: int = 1) -> Tally:
        """Count what two have found together, no group of which is in both."""
        dropped = {
            rule: self.dropped.get(rule, 0) + sign * other.dropped.get(rule, 0)
            for rule in self.dropped | other.dropped
        }
        return Tally(
            self.groups + sign * other.groups,
            self.uninformative + sign * other.uninformative,
            self.kept + sign * other.kept,
            dropped,
        )

    def minus(self, other: Tally) -> Tally:
        """Count what is found besides the groups of `other`."""
        return self.plus(other, -1)


def check_columns(inputs: list[Input], options: Options) -> None:
    """Check that every file has the columns that are needed, with ids of one kind in all of them.

    Raises
    ------
    ValueError, TypeError, OSError
        Naming the file and the column.
    """
    found: dict[str, dict[pl.DataType, str]] = {key: {} for key in options.by}
    for given in inputs:
        with given.reading():
            schema = checked(given, options.by, options.reward, COLUMNS)
        for key, types in found.items():
            kind = type_in(schema, key)
            assert kind is not None  # checked
            types.setdefault(kind, given.source.name)
    for key, types in found.items():
        refuse_mixed_keys(key, types)


def refuse_nothing(inputs: list[Input], n_rows: int) -> None:
    """Raise a ValueError if no file has a row."""
    if not n_rows:
        names = inputs[0].source.name if len(inputs) == 1 else f"all {len(inputs)} files"
        raise ValueError(f"{names}: no rows to score")


def scores_of(options: Options, folder: Path, *, checked: bool, taken: int = 0) -> Scores:
    """Make scores that go to `folder` beyond the memory, of which `taken` bytes are another's.

    With `checked`, rows can be compared with a second reading.
    """
    return Scores(
        list(options.by),
        options.reward,
        checked=checked,
        refuse_negative=estimator_named(options.estimator).non_negative,
        budget=options.budget - taken,
        directory=str(folder),
    )


def read(inputs: list[Input], options: Options, scores: Scores, progress: Progress) -> list[Read]:
    """Feed the ids and rewards of all files to `scores`.

    Raises
    ------
    ValueError, TypeError, OSError
        Naming the file, the column and the row.
    """
    found: list[Read] = []
    for given in inputs:
        start, row = scores.n_rows, 0
        for frame in narrow_frames(given, options):
            with given.reading():
                row += scores.push(frame, row)
            progress.advance(frame.height)
        found.append(Read(start, row, scores.end_file()))
    refuse_nothing(inputs, scores.n_rows)
    return found


def narrow_frames(given: Input, options: Options) -> Iterator[pl.DataFrame]:
    """Yield the key columns and the reward of one file, some rows at a time."""
    with given.reading():
        found, columns = 0, narrow_columns(given, options)
        for start, stop in _windows(given):
            for frame in given.source.stream(columns, start, stop):
                found += frame.height
                yield frame
        given.source.refuse_missing(found)


def _windows(given: Input) -> Iterator[tuple[int, int | None]]:
    """Yield the rows that are read at a time: all, but for a huge row group.

    Polars decodes row groups whole, which takes what is left of the memory. Within one it passes
    over the pages that are not asked for, so that each window unpacks them again.
    """
    start = 0
    if given.is_parquet and largest_row_group(str(given.path)) > WINDOW:
        for start in range(WINDOW, given.count(), WINDOW):
            yield start - WINDOW, start
    yield start, None


def narrow_columns(given: Input, options: Options) -> list[pl.Expr]:
    """Return the key columns and the reward, named as `Scores` takes them."""
    source = given.source
    keys = [_held(source, key, pl.String()).alias(f"key{i}") for i, key in enumerate(options.by)]
    return [*keys, _held(source, options.reward, pl.Int64()).alias("reward")]


def _held(source: Source, name: str, instead: pl.DataType) -> pl.Expr:
    """Return a column; one of nulls alone, and integers of 128 bits, which Arrow lacks, as others.

    Polars gives a column without a type to Arrow as none that can be read.
    """
    found, column = source.type_of(name), source.column(name)
    if found in (pl.Int128, pl.UInt128):
        return column.cast(instead)
    return column.cast(pl.Float64) if found == pl.Null else column


def compute(scores: Scores, options: Options, progress: Progress | None = None) -> Tally:
    """Compute every group, some at a time."""
    tally = Tally()
    chunk = CHUNK
    if estimator_named(options.estimator).scope == "batch":
        chunk = scores.n_rows
        if scores.spilled:
            needed = (100 * scores.n_rows >> 20) + 256
            raise MemoryError(
                f"{options.estimator} needs all rewards at once; raise memory_limit to {needed}MiB"
            )
    while (taken := scores.take(chunk)) is not None:
        rewards, offsets = taken
        groups = Groups.from_offsets(offsets)
        rank, mean, std, gain = columns_and_advantage(
            rewards, groups, TOLD, options.estimator, options.estimator_options
        )
        mask = None
        tally.kept += len(rewards)
        if options.rules:
            chosen = filter_rows(rewards, groups, options.rules)
            mask = chosen.mask
            tally.kept += int(mask.sum()) - len(rewards)
            for reason, count in chosen.dropped.items():
                tally.dropped[reason] = tally.dropped.get(reason, 0) + count
        tally.uninformative += scores.put((rank, gain, mean, std), mask)
        tally.groups += groups.n_groups
        if progress:
            progress.advance(len(rewards))
    scores.settle()
    return tally
