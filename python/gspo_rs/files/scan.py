"""The rows of a source as they are: scanned, described, or copied into another file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import polars as pl

from gspo_rs.data.formats.unions import refuse_partial
from gspo_rs.data.progress import counted
from gspo_rs.data.source import ANYTHING, Source, SourceLike
from gspo_rs.files.notebook import as_html
from gspo_rs.files.resolve import resolve_source
from gspo_rs.files.target import checked_target
from gspo_rs.files.writer import WriteSummary, as_written, write_frames

__all__ = ["Contents", "contents", "scan"]


@dataclass(frozen=True)
class Contents:
    """What a source holds.

    Attributes
    ----------
    name : str
        What errors call the source.
    container : str
        What holds the rows, such as ``3 files .parquet``.
    rows : int
        How many there are.
    columns : dict of str to str
        The type of each column, as Polars names it.
    first : list of dict
        The first rows.
    """

    name: str
    container: str
    rows: int
    columns: dict[str, str]
    first: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dumps` takes, if the values of the first rows are plain."""
        return asdict(self)

    def _repr_html_(self) -> str:
        head = ["column", "type", *(f"row {number}" for number in range(len(self.first)))]
        rows = [
            [name, kind, *(row[name] for row in self.first)] for name, kind in self.columns.items()
        ]
        return as_html(head, rows)


@overload
def scan(
    source: SourceLike,
    target: None = None,
    *,
    columns: Sequence[str] | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> pl.LazyFrame: ...


@overload
def scan(
    source: SourceLike,
    target: str | Path,
    *,
    columns: Sequence[str] | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary: ...


def scan(
    source: SourceLike,
    target: str | Path | None = None,
    *,
    columns: Sequence[str] | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
) -> pl.LazyFrame | WriteSummary:
    """Scan the rows of a source, or copy them into another file.

    Parameters
    ----------
    source : path, glob, folder, address, sequence of these, LazyFrame or DataFrame
        What `gspo_rs.data.scan` takes; an output of `gspo_rs.score`, whose rows come with their
        scores (those of a narrow one are joined lazily to the files that were scored, row by
        row); or a selection.
    target : path, optional
        The file to write: ``.parquet``, ``.jsonl`` or ``.ndjson``.
    columns : sequence of str, optional
        The columns to take; all by default.
    dry_run : bool
        Whether to read and check, and write nothing.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    LazyFrame or WriteSummary
        Without a target the rows, in their order; the groups of the summary are None.

    Raises
    ------
    FileNotFoundError
        If a file is missing, or one that was scored is gone.
    ValueError
        If a column is missing; if a file of an output is not what was written, one that was
        scored has changed since, or rows of a LazyFrame were scored narrow.
    OSError
        If the source can't be read, or the target not written.

    Notes
    -----
    All bytes of an output are read for their digests, and of files that were scored narrow the ids
    and the rewards; everything else is left to the LazyFrame.

    Examples
    --------
    >>> import tempfile, gspo_rs as gs
    >>> frame = pl.DataFrame({"prompt_id": ["a", "a"], "reward": [0.0, 1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = gs.score(frame, Path(folder) / "out", by="prompt_id")
    ...     gs.scan(Path(folder) / "out", columns=["reward", "percentile"]).collect().rows()
    [(0.0, 0.0), (1.0, 1.0)]
    """
    located = resolve_source(source)
    located.check([(name, ANYTHING) for name in columns or ()])
    if target is None:
        return located.frame if columns is None else located.frame.select(_of(located, columns))
    refuse_partial(located.rows)
    path = checked_target(target, located, overwrite=overwrite)
    rows, written = as_written(located, path)
    wanted = _of(rows, columns)
    with located.reading():
        schema = rows.frame.select(wanted).collect_schema()
    total = located.count()
    frames = counted(rows.batches(wanted, total), "rows", total)
    n_rows = write_frames(
        frames, schema, path, written=written, overwrite=overwrite, dry_run=dry_run
    )
    return WriteSummary(rows=n_rows, groups=None, dropped={})


def contents(
    source: SourceLike, *, columns: Sequence[str] | None = None, rows: int = 5
) -> Contents:
    """Tell what a source holds: its container, its rows, its columns and the first rows.

    Parameters
    ----------
    source, columns
        As `scan`.
    rows : int
        How many of the first rows to read.

    Returns
    -------
    Contents

    Raises
    ------
    ValueError, OSError
        As `scan`.

    Examples
    --------
    >>> found = contents(pl.DataFrame({"id": [1, 2], "reward": [0.0, 1.0]}))
    >>> found.rows, found.columns
    (2, {'id': 'Int64', 'reward': 'Float64'})
    """
    located = resolve_source(source)
    schema = located.check([(name, ANYTHING) for name in columns or ()])
    wanted = _of(located, columns)
    with located.reading():
        first = located.frame.select(wanted).head(rows).collect()
    names = list(schema) if columns is None else columns
    types = {name: str(located.type_of(name)) for name in names}
    values = [located.objects(column) for column in first]
    return Contents(
        name=located.name,
        container=_container(located),
        rows=located.count(),
        columns=types,
        first=[dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)],
    )


def _of(located: Source, columns: Sequence[str] | None) -> list[pl.Expr]:
    names = list(located.check([])) if columns is None else columns
    return [located.column(name).alias(name) for name in names]


def _container(located: Source) -> str:
    given = located.files or located.behind
    if not given:
        return "rows without a file"
    kinds = sorted({"".join(Path(file).suffixes[-2:]) or "no suffix" for file in given})
    files = "file" if len(given) == 1 else f"{len(given)} files"
    return f"{files}: {', '.join(kinds)}"
