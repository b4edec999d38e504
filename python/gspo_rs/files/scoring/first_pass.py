"""Ids and rewards alone: read, and every group of them computed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import polars as pl

from gspo_rs._core import Scores
from gspo_rs.data.column_names import nearest, path_to, type_in
from gspo_rs.data.formats.parquet import largest_row_group, packed
from gspo_rs.data.formats.unions import refuse_mixed_keys
from gspo_rs.data.nested_keys import key_column
from gspo_rs.data.source import READ_AHEAD, Source, next_window
from gspo_rs.files.filters import filter_rows
from gspo_rs.files.scoring.inputs import Input, checked
from gspo_rs.files.scoring.nested_inputs import refuse_unfit
from gspo_rs.files.scoring.options import LEAST, Options
from gspo_rs.files.scoring.progress import Progress
from gspo_rs.groups.advantages import columns_and_advantage
from gspo_rs.groups.estimators import estimator_named
from gspo_rs.groups.groups import Groups

__all__ = [
    "Read",
    "Tally",
    "all_scores_of",
    "check_columns",
    "compute",
    "narrow_columns",
    "narrow_frames",
    "read",
    "refuse_nothing",
    "scores_of",
    "with_reading",
]

# Columns computed for each row besides its advantage.
ROW_COLUMNS: Final = (("rank", {"method": "average"}), "group_mean", "group_std")
# Rows of whole groups that are computed at a time.
CHUNK = 1 << 16
# How often the packed bytes of a row group are held: a part of it is read while those that the two
# before it were unpacked from are given back, which takes longer on a busy machine.
COPIES = 3
# Packed bytes that the buffers have room for.
UNREPORTED = 32 << 20
# Rows of one row group that are decoded at a time: at first, and at most. They take so much less
# than what is read ahead of whole rows.
FIRST = 1 << 16
WINDOW = 1 << 20
SMALLER = 8


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
    """Check that the files have the columns that are named, with ids of one kind in all of them.

    Raises
    ------
    ValueError, TypeError, OSError
        Naming the file and the column.
    """
    keys = options.by if options.rollouts is None else (*options.by, options.rollouts)
    found: dict[str, dict[pl.DataType, str]] = {key: {} for key in keys}
    unknown = set(options.drop)
    taken = [name for name in options.columns if name not in options.drop]
    for given in inputs:
        with given.reading():
            schema = checked(given, keys, options.reward, taken)
        unknown -= set(schema)
        for key, types in found.items():
            kind = type_in(schema, key_column(schema, key))
            assert kind is not None  # checked
            types.setdefault(kind, given.source.name)
    for key, types in found.items():
        refuse_mixed_keys(key, types)
    for name in options.drop:
        if name in unknown:
            problem = f"there is no column {name!r} to drop in {inputs[0].source.name}"
            raise ValueError(f"{problem}; {nearest(name, schema)}")
        if any(given.hive is not None and name in given.hive.columns for given in inputs):
            raise ValueError(f"column {name!r} is in the names of folders; it cannot be dropped")


def with_reading(inputs: list[Input], options: Options) -> Options:
    """Return the options with the bytes that reading the largest row group takes.

    Raises
    ------
    MemoryError
        If the memory limit is smaller; names the file, the row group and what is needed.
    OSError
        If a file can't be read.
    """
    most = 0
    for given in inputs:
        if not given.is_parquet:
            continue
        with given.reading():
            number, size = packed(str(given.path), _asked(given, options))
        # All columns are decoded in larger pieces than ids and rewards are.
        held = COPIES * size + (2 * READ_AHEAD if options.layout == "wide" else 0)
        if COPIES * size <= UNREPORTED or held <= most:
            continue
        most = held
        if options.memory_limit < LEAST + most:
            columns = "columns" if options.layout == "wide" else "ids and rewards"
            raise MemoryError(
                f"row group {number} of {given.path} has {_mib(size)} MiB of packed {columns}, "
                f"which are read at once; raise memory_limit from {_mib(options.memory_limit)}MiB "
                f"to {_mib(LEAST + most)}MiB, or write the file in smaller row groups"
            )
    return replace(options, reading=most)


def _asked(given: Input, options: Options) -> list[str] | None:
    """Return the columns that are read of a file; None for all."""
    if options.layout == "wide" and not options.drop:
        return None
    schema = given.source.frame.collect_schema()
    keys = () if options.nested == "rows" else options.by
    held = [key_column(schema, key) for key in keys]
    paths = [path_to(schema, name) for name in (*held, options.reward)]
    kept = set(schema) - set(options.drop) if options.layout == "wide" else set()
    return [*kept.union(path[0] for path in paths if path)]


def _mib(size: int) -> int:
    return -(-size >> 20)


def refuse_nothing(inputs: list[Input], n_rows: int) -> None:
    """Raise a ValueError if no file has a row."""
    if not n_rows:
        names = inputs[0].source.name if len(inputs) == 1 else f"all {len(inputs)} files"
        raise ValueError(f"{names}: no rows to score")


def scores_of(
    options: Options, folder: Path, *, checked: bool, taken: int = 0, rows: int = 0
) -> Scores:
    """Make scores that go to `folder` beyond the memory, of which `taken` bytes are another's.

    With `checked`, rows can be compared with a second reading. Of so many `rows` that they cannot
    stay in memory, none are kept there first; 0 if the number is not known.
    """
    return Scores(
        list(options.by),
        options.reward,
        checked=checked,
        refuse_negative=any(estimator_named(name).non_negative for name in options.estimators),
        rows=rows,
        budget=options.budget - taken,
        directory=str(folder),
    )


def all_scores_of(options: Options, folder: Path, *, checked: bool, rows: int = 0) -> list[Scores]:
    """Make scores for each estimator, which share the memory; the first have all columns."""
    n = len(options.estimators)
    taken = options.budget - options.budget // n
    first = [True, *[False] * (n - 1)]
    return [
        scores_of(options, folder, checked=checked and one, taken=taken, rows=rows) for one in first
    ]


def read(
    inputs: list[Input], options: Options, scores: Sequence[Scores], progress: Progress
) -> list[Read]:
    """Feed the ids and rewards of all files to all `scores`.

    Raises
    ------
    ValueError, TypeError, OSError
        Naming the file, the column and the row.
    """
    found: list[Read] = []
    for given in inputs:
        start, row = scores[0].n_rows, 0
        for frame in narrow_frames(given, options):
            with given.reading():
                taken, *_ = [one.push(frame, row) for one in scores]
                row += taken
            progress.advance(frame.height)
        digest, *_ = [one.end_file() for one in scores]
        found.append(Read(start, row, digest))
    refuse_nothing(inputs, scores[0].n_rows)
    return found


def narrow_frames(given: Input, options: Options) -> Iterator[pl.DataFrame]:
    """Yield the key columns and the reward of one file, some rows at a time.

    Polars decodes row groups whole, which takes what is left of the memory; a huge one is read a
    part at a time. Within one it passes over the pages that are not asked for, so that each part
    unpacks them again.
    """
    with given.reading():
        found, columns = 0, narrow_columns(given, options)
        huge = (
            given.is_parquet and not options.nested and largest_row_group(str(given.path)) > WINDOW
        )
        rows = given.count() if huge else 0
        start, window = 0, min(FIRST, WINDOW) if huge else sys.maxsize
        while not start or start < rows:
            # The last part is open, so that rows that should not be there are seen.
            stop, n_bytes = start + window, 0
            for frame in given.source.stream(columns, start, stop if stop < rows else None):
                if options.nested:
                    refuse_unfit(given, frame, found, options)
                found += frame.height
                n_bytes += int(frame.estimated_size())
                yield frame
            start, window = stop, min(WINDOW, next_window(window, window, SMALLER * n_bytes))
        given.source.refuse_missing(found)


def narrow_columns(given: Input, options: Options) -> list[pl.Expr]:
    """Return the key columns and the reward, named as `Scores` takes them."""
    source = given.source
    keys = [_held(source, key, pl.String()).alias(f"key{i}") for i, key in enumerate(options.by)]
    return [*keys, _held(source, options.reward, pl.Int64()).alias("reward")]


def _held(source: Source, name: str, instead: pl.DataType) -> pl.Expr:
    """Return a column; one of nulls alone, and integers of 128 bits, which Arrow lacks, as others.

    Polars gives a column without a type to Arrow as none that can be read.
    """
    found, column = source.type_of(name), source.key(name)
    if found in (pl.Int128, pl.UInt128):
        return column.cast(instead)
    return column.cast(pl.Float64) if found == pl.Null else column


def compute(scores: Sequence[Scores], options: Options, progress: Progress | None = None) -> Tally:
    """Compute every group by each estimator, some at a time, and count them once."""
    pairs = zip(scores, options.estimators, strict=True)
    tally, *_ = [_computed(one, name, options, progress) for one, name in pairs]
    return tally


def _computed(scores: Scores, estimator: str, options: Options, progress: Progress | None) -> Tally:
    tally = Tally()
    chunk = CHUNK
    if estimator_named(estimator).scope == "batch":
        chunk = scores.n_rows
        if scores.spilled:
            needed = (100 * scores.n_rows >> 20) + 256
            raise MemoryError(
                f"{estimator} needs all rewards at once; raise memory_limit to {needed}MiB"
            )
    while (taken := scores.take(chunk)) is not None:
        rewards, offsets = taken
        groups = Groups.from_offsets(offsets)
        rank, mean, std, gain = columns_and_advantage(
            rewards, groups, ROW_COLUMNS, estimator, options.estimators[estimator]
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
