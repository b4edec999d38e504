"""Write files with their scores: wide with all checked columns, or the scores alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import polars as pl
import polars.selectors as cs

from gspo_rs._core import Scores, file_digest
from gspo_rs.data.column_names import column, free_name, path_to
from gspo_rs.data.formats.parquet import row_groups
from gspo_rs.data.formats.unions import is_wide
from gspo_rs.data.hive import without
from gspo_rs.data.nested_keys import key_column
from gspo_rs.files.atomic import sync
from gspo_rs.files.scoring.first_pass import Read, narrow_columns
from gspo_rs.files.scoring.inputs import Input, unchanged
from gspo_rs.files.scoring.manifest import OutputEntry
from gspo_rs.files.scoring.options import Options
from gspo_rs.files.scoring.progress import Progress
from gspo_rs.files.writer import parts_of, refuse_unwritable, writing

__all__ = ["copied", "decoded", "write_narrow", "write_read", "write_wide"]

ROW_GROUP = 1 << 17
# Row groups that are copied at most.
ROW_GROUPS = (1 << 15) - 1


def write_wide(
    given: Input,
    seen: Read,
    target: Path,
    *,
    options: Options,
    scores: Sequence[Scores],
    progress: Progress,
) -> OutputEntry:
    """Write one file with all its columns and the scores.

    The column chunks of a Parquet file are copied byte for byte, after all of them have been
    read once; anything else is decoded and written anew.

    Raises
    ------
    ValueError
        If a row is not what it was in the first pass; names the file and the row.
    OSError
        If the file can't be read, or the disk is full.
    """
    if copied(given, options):
        unchanged(given)
        _check(given, seen, options, scores[0], progress)
        return write_read(given, seen, target, options=options, scores=scores)
    entry = write_read(given, seen, target, options=options, scores=scores)
    progress.advance(seen.rows)
    return entry


def copied(given: Input, options: Options) -> bool:
    """Tell whether the bytes of the columns are copied, not decoded and written anew."""
    if not given.is_parquet or options.rules or options.nested:
        return False
    assert given.path is not None
    # More have numbers that Parquet's own metadata cannot hold.
    if row_groups(given.path) > ROW_GROUPS:
        return False
    # What Polars says in a file of its integers of 128 bits can't be copied: Arrow has none.
    types = given.source.frame.collect_schema().dtypes()
    parts = (part for kind in types for _, part in parts_of(kind))
    return not any(isinstance(part, pl.Int128 | pl.UInt128) for part in parts)


def decoded(given: Input, options: Options) -> list[pl.Expr]:
    """Return the columns that are read to be checked: all but decimals that Polars has not.

    Those that are left out of the output are not read, but for ids and rewards.
    """
    schema = given.source.frame.collect_schema()
    held = [*(key_column(schema, key) for key in options.by), options.reward]
    needed = {(path_to(schema, name) or (name,))[0] for name in held}
    return [
        column(name)
        for name, kind in schema.items()
        if (name in needed or name not in options.drop)
        and not any(is_wide(p) for _, p in parts_of(kind))
    ]


def write_read(
    given: Input, seen: Read, target: Path, *, options: Options, scores: Sequence[Scores]
) -> OutputEntry:
    """Write one file with all its columns, which have been read if they are `copied`.

    Raises
    ------
    ValueError
        If the file has changed since it was listed, or a row that is decoded is not what it was.
    OSError
        If the file can't be read, or the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if copied(given, options):
        assert given.path is not None
        with given.reading():
            rows, size, digest = scores[0].write_beside(
                given.path,
                target,
                (seen.start, seen.rows),
                (list(options.columns), list(scores[1:])),
                list(options.drop),
            )
        unchanged(given)
        return OutputEntry(given.name, rows, size, digest)
    schema = given.source.frame.collect_schema()
    left = pl.Schema({name: schema[name] for name in schema if name not in options.drop})
    refuse_unwritable(left, Path(given.name))
    rows = _rewrite(given, seen, target, options, scores)
    unchanged(given)
    return _entry(given, target, rows)


def write_narrow(
    given: Input,
    seen: Read,
    target: Path,
    *,
    options: Options,
    scores: Sequence[Scores],
    progress: Progress,
) -> OutputEntry:
    """Write the scores of one file alone; of chosen rows with their numbers in the file.

    Raises
    ------
    OSError
        If the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unchanged(given)
    if not options.rules:
        columns = (list(options.columns), list(scores[1:]))
        rows, size, digest = scores[0].write_alone(target, (seen.start, seen.rows), columns)
        progress.advance(seen.rows)
        return OutputEntry(given.name, rows, size, digest)
    frames = list(_chosen(seen, options, scores))
    chosen = pl.concat(frames)
    with writing(target):
        chosen.write_parquet(target, compression="zstd", row_group_size=ROW_GROUP)
    sync(target)
    progress.advance(seen.rows)
    return _entry(given, target, chosen.height)


def _entry(given: Input, target: Path, rows: int) -> OutputEntry:
    return OutputEntry(given.name, rows, target.stat().st_size, file_digest(target))


def _chosen(seen: Read, options: Options, scores: Sequence[Scores]) -> Iterator[pl.DataFrame]:
    for start in range(0, max(seen.rows, 1), ROW_GROUP):
        stop = min(start + ROW_GROUP, seen.rows)
        frame = _values(scores, options, seen.start + start, seen.start + stop)
        row = pl.int_range(start, stop, dtype=pl.Int64).alias("row")
        yield frame.select(row, *options.columns, "keep").filter("keep").drop("keep")


def _values(scores: Sequence[Scores], options: Options, start: int, stop: int) -> pl.DataFrame:
    """Return the columns that are added, and what chooses rows."""
    first, *more = (one.columns(start, stop) for one in scores)
    advantages = [found["advantage"] for found in (first, *more)]
    names = ("group_size", "group_mean", "group_std", "keep")
    found = [first["rank"], first["percentile"], *advantages, *(first[name] for name in names)]
    types = _types(options)
    columns = dict(zip(types, found, strict=True))
    return pl.DataFrame(columns, schema=types).with_columns(pl.col(pl.Float64).fill_nan(None))


def _types(options: Options) -> pl.Schema:
    kinds = dict.fromkeys(options.columns, pl.Float64())
    return pl.Schema(kinds | {options.columns[-3]: pl.Int64(), "keep": pl.Boolean()})


def _check(given: Input, seen: Read, options: Options, scores: Scores, progress: Progress) -> None:
    """Read every column of every row, and compare ids and rewards with those of the first pass."""
    row, columns = 0, narrow_columns(given, options)
    with given.reading():
        for frame in given.source.batches(decoded(given, options), seen.rows):
            _compare(given, frame.select(columns), seen, row, scores=scores)
            row += frame.height
            progress.advance(frame.height)


def _compare(
    given: Input,
    frame: pl.DataFrame,
    seen: Read,
    row: int,
    *,
    scores: Scores,
) -> None:
    stop = row + frame.height
    given.source.refuse_change("number of rows", min(stop, seen.rows), stop)
    changed = scores.changed(frame, seen.start + row, row)
    if changed is not None:
        place = given.source.place(changed)
        raise ValueError(f"{given.source.name} changed at {place} while it was scored")


def _rewrite(
    given: Input, seen: Read, target: Path, options: Options, scores: Sequence[Scores]
) -> int:
    """Decode the rows, add their scores, and write them."""
    lock, kept, rows = Lock(), 0, 0
    problems: list[Exception] = []
    # The columns of the file may have any names but those that are added.
    schema = given.source.frame.collect_schema()
    names, types = [*schema, *options.columns], pl.Struct(_types(options))
    number, scored = free_name(names, "row"), free_name(names, "scored")

    def computed(columns: Sequence[pl.Series]) -> pl.Series:
        nonlocal kept, rows
        frame = pl.DataFrame(columns)
        if frame.is_empty():
            return pl.Series(scored, [], dtype=types)
        first = int(frame[number][0])
        with lock:
            try:
                _compare(given, frame.drop(number), seen, first, scores=scores[0])
                start = seen.start + first
                found = _values(scores, options, start, start + frame.height)
            except (ValueError, OSError) as error:
                problems.append(error)
                raise
            kept += int(found["keep"].sum())
            rows += frame.height
        return found.to_struct(scored)

    needed = [pl.col(number), *narrow_columns(given, options)]
    found = pl.map_batches(needed, computed, return_dtype=types, is_elementwise=True).alias(scored)
    frame = _with_scores(given.source.frame.with_row_index(number), found, options)
    try:
        with given.reading():
            without(frame.drop(number), given.hive).sink_parquet(
                target, compression="zstd", row_group_size=ROW_GROUP, maintain_order=True
            )
    except OSError:
        if problems:
            raise problems[0] from None
        raise
    given.source.refuse_change("number of rows", seen.rows, rows)
    sync(target)
    return kept


def _with_scores(rows: pl.LazyFrame, scores: pl.Expr, options: Options) -> pl.LazyFrame:
    """Put the fields of `scores` beside rows; leave out rows not kept, and columns to drop."""
    name = scores.meta.output_name()
    field = pl.col(name).struct.field
    rows = rows.with_columns(scores)
    if options.rules:
        rows = rows.filter(field("keep"))
    left = rows.drop(cs.by_name(*options.drop, require_all=False)) if options.drop else rows
    return left.with_columns(field(column) for column in options.columns).drop(name)
