"""Selections: small files that list selected rows of other files by row number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from gspo_rs.data.column_names import free_name
from gspo_rs.data.formats import scan_files
from gspo_rs.data.group_index import read_keys
from gspo_rs.data.hive import partitions
from gspo_rs.data.known_schemas import with_known_columns
from gspo_rs.data.nested_source import by_member, is_nested, split_rows
from gspo_rs.data.paths import spelled
from gspo_rs.data.source import Source, SourceLike, locate
from gspo_rs.data.written import SELECTION
from gspo_rs.files import atomic
from gspo_rs.files.filters import filter_rows, parse, refuse_empty
from gspo_rs.files.target import checked_target
from gspo_rs.files.writer import WriteSummary, writing

__all__ = [
    "Selection",
    "SourceFile",
    "apply",
    "is_selection",
    "read_selection",
    "rows_and_files",
    "select",
    "write_selection",
]

VERSION = 1
# Of files with one row per prompt, which the reader before would have cut at other rows.
NESTED = 2


@dataclass(frozen=True)
class SourceFile:
    """A file that rows were chosen from: its path, bytes and SHA-256."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Selection:
    """Some rows of some files.

    Attributes
    ----------
    files : tuple of SourceFile
        In the order in which their rows are counted.
    n_rows : int
        Rows of all of them.
    rows : ndarray of int64, shape (m,)
        The chosen ones, rising, counted over the files from 0.
    names : tuple of str
        The files as they lie below the folder that was searched, whose folders may name columns.
    reward : str or None
        Of files with one row per prompt, the lists of rewards: the rows are their completions.
    """

    files: tuple[SourceFile, ...]
    n_rows: int
    rows: NDArray[np.int64]
    names: tuple[str, ...] = ()
    reward: str | None = None


@with_known_columns
def select(
    source: SourceLike,
    target: str | Path,
    *,
    by: str | Sequence[str] | None = None,
    keep: str,
    reward: str = "reward",
    threshold: float | None = None,
    allow_empty: bool = True,
    dry_run: bool = False,
    overwrite: bool = False,
) -> WriteSummary:
    """Select rows by rules and write their row numbers.

    Parameters
    ----------
    source : path, glob, or sequence of these
        Scored completions; see `gspo_rs.data.scan`.
    target : path
        The selection file, ``.parquet``.
    by : str or sequence of str, optional
        The columns that name the group of a row. May be left out where each row is a group.
    keep : str
        Rules of `gspo_rs.files.filters`.
    reward : str
        Column of the rewards.
    threshold : float, optional
        For the rule ``pass-rate``: a completion is right from this reward on; 0.5 by default.
    allow_empty : bool
        Whether the rules may leave no row.
    dry_run : bool
        Whether to read and check, and write nothing.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Returns
    -------
    WriteSummary

    Raises
    ------
    ValueError, TypeError, OSError
        As `write_selection` and `gspo_rs.data.index_groups`.
    """
    located, keys = by_member(locate(source), by, [reward])
    rules = parse(keep, threshold)
    path = _target(target, located, overwrite=overwrite)
    narrow = read_keys(located, keys, reward)
    kept = filter_rows(narrow.rewards, narrow.groups, rules)
    rows = np.flatnonzero(kept.mask)
    refuse_empty(len(rows), kept.dropped, located.name, allow_empty=allow_empty)
    if not dry_run:
        write_selection(path, source, rows, len(kept.mask), reward=reward, overwrite=overwrite)
    groups = len(np.unique(narrow.groups.codes[rows]))
    return WriteSummary(
        rows=len(rows), groups=groups, dropped=kept.dropped, exploded=located.exploded
    )


def write_selection(
    target: str | Path,
    source: SourceLike,
    rows: ArrayLike,
    n_rows: int,
    *,
    reward: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a selection of rows of some files.

    Parameters
    ----------
    target : path
        The selection file, ``.parquet``: one column, ``row``, and the files in its metadata.
    source : path, glob, or sequence of these
        The files; all of their bytes are read for the digests.
    rows : array_like of int, shape (m,)
        Row numbers, strictly rising, counted over the files from 0.
    n_rows : int
        Rows of all files; of one row per prompt with lists, the completions in them.
    reward : str, optional
        Column of the rewards, which tells such files.
    overwrite : bool
        Whether a `target` that is there may be replaced; one that is read never is.

    Raises
    ------
    ValueError
        If the source is no file, the target's suffix is another, or the rows do not rise from 0
        to less than `n_rows`.
    TypeError
        If the rows are no integers.
    OSError
        If a file can't be read, or the target not written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data, chosen = Path(folder) / "a.parquet", Path(folder) / "chosen.parquet"
    ...     pl.DataFrame({"reward": [0.0, 1.0, 0.5]}).write_parquet(data)
    ...     write_selection(chosen, data, [1, 2], n_rows=3)
    ...     apply(read_selection(chosen)).collect().rows()
    [(1.0,), (0.5,)]
    """
    located = locate(source)
    path = _target(target, located, overwrite=overwrite)
    chosen = np.asarray(rows)
    if len(chosen) and chosen.dtype.kind not in "iu":
        raise TypeError(f"the rows are {chosen.dtype}; they are integers")
    chosen = chosen.astype(np.int64)
    risen = bool((np.diff(chosen) > 0).all())
    if len(chosen) and not (risen and chosen[0] >= 0 and chosen[-1] < n_rows):
        raise ValueError(f"the rows do not rise strictly from 0 to less than {n_rows}")
    record = {
        "version": VERSION,
        "n_rows": n_rows,
        "files": [vars(_described(Path(file))) for file in located.files],
        "names": list(located.names),
    }
    if reward is not None and is_nested(located, reward):
        record |= {"version": NESTED, "reward": reward}
    with atomic.file(path, overwrite=overwrite) as partial:
        frame = pl.DataFrame({"row": chosen})
        with writing(path):
            frame.write_parquet(partial, metadata={SELECTION: json.dumps(record)})


def read_selection(path: str | Path) -> Selection:
    """Read a selection file.

    Raises
    ------
    ValueError
        If the file is something else, or of a later version.
    OSError
        If it can't be read.
    """
    with _reading(path):
        metadata = pl.read_parquet_metadata(path)
        rows = pl.read_parquet(path).to_dict(as_series=True)
    if SELECTION not in metadata or list(rows) != ["row"]:
        raise ValueError(f"{path} is no selection file; `write_selection` makes one")
    record: dict[str, Any] = json.loads(metadata[SELECTION])
    if record["version"] > NESTED:
        raise ValueError(f"{path} is of version {record['version']}; this reads up to {NESTED}")
    files = tuple(SourceFile(**file) for file in record["files"])
    names = tuple(record.get("names", ()))
    return Selection(files, record["n_rows"], rows["row"].to_numpy(), names, record.get("reward"))


def is_selection(path: str | Path) -> bool:
    """Tell whether a Parquet file is a selection, from its metadata.

    Raises
    ------
    OSError
        If it can't be read.
    """
    with _reading(path):
        return SELECTION in pl.read_parquet_metadata(path)


def apply(selection: Selection, source: SourceLike | None = None) -> pl.LazyFrame:
    """Scan the chosen rows, with all of their columns, in their order.

    Parameters
    ----------
    selection : Selection
        What `read_selection` returns.
    source : path, glob, or sequence of these, optional
        Where the files are now; by default where they were. All of their bytes are read to
        compare the digests, at about a gigabyte a second.

    Returns
    -------
    LazyFrame
        One byte of memory per row of the source, beside what Polars needs.

    Raises
    ------
    ValueError
        If there are more or fewer files, or one is not what it was; names it.
    OSError
        If a file can't be read.
    """
    located = None if source is None else locate(source)
    given = located.files if located else [file.path for file in selection.files]
    if len(given) != len(selection.files):
        raise ValueError(f"the selection is of {len(selection.files)} files, not {len(given)}")
    for file, expected in zip(given, selection.files, strict=True):
        _refuse_change(Path(file), expected)
    mask = np.zeros(selection.n_rows, dtype=np.bool_)
    mask[selection.rows] = True
    frame = located.frame if located else scan_files(given, partitions(selection.names))
    if selection.reward is not None:
        rows = located or Source(frame, given[0], tuple(given))
        frame = split_rows(rows, [selection.reward], every=True).frame
    row = free_name(frame.collect_schema(), "row")
    chosen = pl.col(row).map_batches(
        lambda rows: pl.Series(mask[rows.to_numpy()]), pl.Boolean, is_elementwise=True
    )
    return frame.with_row_index(row).filter(chosen).drop(row)


def rows_and_files(path: Path) -> tuple[pl.LazyFrame, list[str]]:
    """Scan the rows of a selection file, and list the files that are read."""
    selection = read_selection(path)
    return apply(selection), [*(file.path for file in selection.files), str(path)]


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise OSError(f"cannot read {path}: {error}") from error


def _target(given: str | Path, source: Source, *, overwrite: bool) -> Path:
    if not source.files:
        raise ValueError(
            f"{source.name} is no file; rows can be chosen only from files: write the rows "
            "themselves (layout='wide')"
        )
    return checked_target(given, source, [".parquet"], overwrite=overwrite)


def _described(path: Path) -> SourceFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return SourceFile(spelled(path), path.stat().st_size, digest)


def _refuse_change(path: Path, expected: SourceFile) -> None:
    """Raise if a file is not what it was; its size is asked first, because that is quick."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}; it may have moved: say where with `source`")
    size = path.stat().st_size
    if size != expected.size:
        raise ValueError(f"{path} has {size} bytes; it had {expected.size} when it was selected")
    if _described(path).digest != expected.digest:
        raise ValueError(f"{path} has other content than when its rows were selected")
