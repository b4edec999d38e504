"""One row per group with lists, from one row per completion, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs

from gspo_rs.data.column_names import column
from gspo_rs.data.external_sort import sort_on_disk
from gspo_rs.data.formats.unions import refuse_partial
from gspo_rs.data.group_index import KeyedRewards, read_keys
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.list_columns import LISTS, inner_type
from gspo_rs.data.messages import is_messages
from gspo_rs.data.nested_keys import key_column
from gspo_rs.data.nested_source import by_member, is_nested, split_rows
from gspo_rs.data.progress import counted
from gspo_rs.data.source import Source, SourceLike, locate
from gspo_rs.files.in_memory import frame_without_target
from gspo_rs.files.target import checked_target
from gspo_rs.files.writer import WriteSummary, as_written, write_frames

__all__ = ["explode", "nest"]

POSITION = "position"


@with_known_columns
@frame_without_target
def nest(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str] | None = None,
    once: Sequence[str] = (),
    reward: str = "reward",
    spill_directory: str | Path | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary:
    """Write one row per group, its columns as lists.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        One row per completion; the rows of a group may lie anywhere.
    target : path, optional
        The file to write: ``.parquet``, ``.jsonl`` or ``.ndjson``; without one the rows are
        returned.
    by : str or sequence of str, optional
        The columns that name the group of a row; they come once for each group. Of the files of a
        known tool they are known. The prompt of conversations is no column, and not written.
    once : sequence of str
        Columns that are the same in all rows of a group, such as ``prompt``: they come once, too.
    reward : str
        Column of the rewards, only checked.
    spill_directory : path, optional
        Where rows are put in order, in a nameless temporary file of about the size of the
        source; the system's folder for temporary files by default.
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
        If a column is missing, or one of `once` differs within a group (names two rows); and as
        `gspo_rs.data.index_groups`.
    TypeError
        If a column has the wrong type.
    OSError
        If the source can't be found or read, or the target not written.

    Notes
    -----
    Groups come by first appearance, members in the order of their rows, columns in their order.
    `explode` gives back every value and type, group after group. Memory grows with ids and
    rewards; 64 MiB of rows and the largest group are held.

    Examples
    --------
    >>> rows = {"prompt": ["b", "a", "b"], "text": ["x", "y", "z"], "reward": [1.0, 0.0, None]}
    >>> nest(pl.DataFrame(rows), by="prompt").rows()
    [('b', ['x', 'z'], [1.0, None]), ('a', ['y'], [0.0])]
    """
    located = locate(source)
    if is_nested(located, reward):
        raise ValueError(
            f"{located.name} is nested already: {reward!r} is a list for each row; `gspo-rs "
            "explode` makes one row of each value"
        )
    refuse_partial(located.rows)
    path = checked_target(target, located, overwrite=overwrite)
    _, keys = by_member(located, by, [reward])
    given = located.check([(name, "anything") for name in once])
    # A prompt that is cut out of conversations is no column: these are lists of the group.
    single = [*(key for key in keys if key_column(given, key) == key), *once]
    located.check([(name, "anything") for name in single])
    narrow = read_keys(located, keys, reward)
    located, written = as_written(located, path)
    schema = located.check([])
    lists = [name for name in schema if name not in single]
    ordered = sort_on_disk(
        _numbered(located, narrow), 0, narrow.groups.n_groups, directory=spill_directory
    )
    frames = (_grouped(located, frame, list(schema), lists, once) for frame in ordered)
    types = {name: pl.List(kind) if name in lists else kind for name, kind in schema.items()}
    rows = write_frames(
        frames, pl.Schema(types), path, written=written, overwrite=overwrite, dry_run=dry_run
    )
    return WriteSummary(rows=rows, groups=rows, dropped={})


@frame_without_target
def explode(
    source: SourceLike,
    target: str | Path,
    *,
    once: Sequence[str] = (),
    reward: str = "reward",
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary:
    """Write one row per completion from rows with lists; the inverse of `nest`.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        One row per group. If its rewards are lists, those that have as many values in every row
        are split (see `gspo_rs.data.nested_source.split_rows`); else the lists and arrays of a row
        are all of one length, at least one.
    target : path, optional
        The file to write: ``.parquet``, ``.jsonl`` or ``.ndjson``; without one the rows are
        returned.
    once : sequence of str
        Columns that are lists or arrays, but of the group as a whole, such as a prompt of messages.
        What is neither is repeated for each member anyway, and so are the messages of one text.
    reward : str
        Column of the rewards, if there is one.
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
        If no column is a list, or a list is null, empty, or of another length than the others of
        its row (names the row).
    OSError
        If the source can't be found or read, or the target not written.

    Examples
    --------
    >>> lists = {"prompt": ["b", "a"], "reward": [[1.0, None], [0.0]]}
    >>> explode(pl.DataFrame(lists)).rows()
    [('b', 1.0), ('b', None), ('a', 0.0)]
    """
    located = locate(source)
    refuse_partial(located.rows)
    path = checked_target(target, located, overwrite=overwrite)
    schema = located.check([(name, "anything") for name in once])
    if is_nested(located, reward):
        return _one_per_reward(located, path, reward, once, dry_run=dry_run, overwrite=overwrite)
    single = {*once, *(name for name in schema if is_messages(schema[name]))}
    inner = [name for name in schema if name not in single and isinstance(schema[name], LISTS)]
    if not inner:
        raise ValueError(
            f"no column of {located.name} is a list; it has {', '.join(schema)}. A row is one "
            "completion already, of which `gspo-rs nest` makes lists"
        )
    located, written = as_written(located, path, inner)
    schema = located.check([])
    types = {name: inner_type(kind) if name in inner else kind for name, kind in schema.items()}
    n_groups = located.count()
    frames = _exploded(located, inner, n_groups)
    rows = write_frames(
        frames, pl.Schema(types), path, written=written, overwrite=overwrite, dry_run=dry_run
    )
    return WriteSummary(rows=rows, groups=n_groups, dropped={}, exploded=tuple(inner))


def _one_per_reward(
    located: Source,
    path: Path,
    reward: str,
    once: Sequence[str],
    *,
    dry_run: bool,
    overwrite: bool,
) -> WriteSummary:
    found = split_rows(located, [reward], once=once, every=True)
    rows, written = as_written(found, path)
    wanted = [rows.column(name).alias(name) for name in rows.check([])]
    with located.reading():
        schema = rows.frame.select(wanted).collect_schema()
    frames = rows.batches(wanted, rows.count())
    n_rows = write_frames(
        frames, schema, path, written=written, overwrite=overwrite, dry_run=dry_run
    )
    return WriteSummary(rows=n_rows, groups=len(found.sizes), dropped={}, exploded=found.exploded)


def _numbered(source: Source, narrow: KeyedRewards) -> Iterator[pl.DataFrame]:
    """Yield the rows with the number of their group."""
    start, codes = 0, narrow.groups.codes
    for frame in counted(source.batches([pl.all()], len(codes)), "rows", len(codes)):
        stop = start + frame.height
        # Numbers for names, because a column may be called as the position is, or like a pattern.
        rows = pl.struct(frame.rename(_numbers(frame.columns))).alias("row")
        yield pl.select(
            pl.Series(POSITION, codes[start:stop]),
            pl.Series("number", np.arange(start, stop)),
            rows,
        )
        start = stop


def _grouped(
    source: Source, frame: pl.DataFrame, names: list[str], lists: list[str], once: Sequence[str]
) -> pl.DataFrame:
    """Make one row of each group of a frame that holds them whole."""
    numbers = _numbers(names)

    def field(name: str) -> pl.Expr:
        return pl.col("row").struct.field(numbers[name])

    for name in once:
        values = frame["row"].struct.field(numbers[name])
        differ = _differing(frame, values)
        if differ["differ"].any():
            differ = _differing(frame, source.alike(values))
        if differ["differ"].any():
            row = differ.row(int(np.argmax(differ["differ"].to_numpy())), named=True)
            start = differ.filter(pl.col(POSITION) == row[POSITION])["number"][0]
            where = f"rows {start} and {row['number']} of {source.name}"
            raise ValueError(f"{where} are of one group but differ in {name!r}")
    parts = [
        (field(name) if name in lists else field(name).first()).alias(f"part{i}")
        for i, name in enumerate(names)
    ]
    grouped = frame.group_by(POSITION, maintain_order=True).agg(parts)
    return grouped.select(pl.col(f"part{i}").alias(name) for i, name in enumerate(names))


def _differing(frame: pl.DataFrame, values: pl.Series) -> pl.DataFrame:
    """Tell for each row whether it has something else than the first of its group."""
    found = frame.select(POSITION, "number", values.alias("value"))
    first = pl.col("value").first().over(POSITION)
    return found.select(pl.col("value").ne_missing(first).alias("differ"), POSITION, "number")


def _numbers(names: Sequence[str]) -> dict[str, str]:
    return {name: f"c{i}" for i, name in enumerate(names)}


def _exploded(source: Source, lists: list[str], n_groups: int) -> Iterator[pl.DataFrame]:
    start = 0
    for whole in counted(source.batches([pl.all()], n_groups), "groups", n_groups):
        arrays = [name for name in lists if isinstance(whole.schema[name], pl.Array)]
        frame = whole.with_columns(column(name).arr.to_list() for name in arrays)
        # Numbers for names: methods of a Series select it by its name, as if that were a pattern.
        lengths_of = [column(name).list.len().alias(f"c{i}") for i, name in enumerate(lists)]
        lengths = dict(zip(lists, frame.select(lengths_of), strict=True))
        first = lengths[lists[0]]
        for name in lists:
            wrong = ((lengths[name] != first) | (lengths[name] == 0)).fill_null(True)
            if wrong.any():
                row = int(np.argmax(wrong.to_numpy()))
                found = f"{name!r} has {lengths[name][row]} values, {lists[0]!r} {first[row]}"
                where = f"row {start + row} of {source.name}"
                raise ValueError(
                    f"{where}: {found}; all lists need the same number, at least 1, but those of "
                    "the group as a whole (--once)"
                )
        yield frame.explode(cs.by_name(lists))
        start += frame.height
