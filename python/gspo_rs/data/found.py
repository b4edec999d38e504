"""Where the rows of a source are: in memory, in files, at addresses or in a stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gspo_rs.data.formats import SUFFIXES, Rows
from gspo_rs.data.hub import hub_files, is_hub_name, refuse_other
from gspo_rs.data.lakes import lake_table
from gspo_rs.data.paths import files_of, files_of_split, names_of, remote
from gspo_rs.data.standard_input import DASH, NAME, standard_input
from gspo_rs.data.tables import is_splits, paths_of, table_of
from gspo_rs.data.written import read_written, refuse_outputs

__all__ = ["Found", "find"]


@dataclass(frozen=True)
class Found:
    """Where the rows of a source are: one of `rows`, `files` and `addresses` says it.

    `name` is what errors call the source, `names` has the files as they lie below the folder that
    was searched; `behind` has those that `rows` are in, as far as they are known.
    """

    name: str
    rows: Rows | None = None
    files: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()


def find(source: object, split: str | None = None) -> Found:
    """Find where the rows of a source are, without reading them.

    Parameters
    ----------
    source : object
        What `gspo_rs.data.source.locate` takes.
    split : str, optional
        Which part of a data set that has several.

    Raises
    ------
    ValueError, TypeError, OSError
        As `gspo_rs.data.source.locate`.

    Examples
    --------
    >>> find([{"reward": 1.0}]).name
    'the list of rows'
    """
    if split is not None and is_splits(source):
        name = refuse_other(f"the {type(source).__name__}", list(source), split)
        source, split = source[name], None
    if (table := table_of(source)) is not None:
        _refuse_split(split, table[1])
        return Found(table[1], rows=table[0])
    given = paths_of(source)
    if DASH in given:
        if len(given) > 1:
            raise ValueError(f"{DASH} is standard input, which is a source by itself")
        _refuse_split(split, NAME)
        return Found(NAME, rows=standard_input())
    if len(given) == 1:
        found = _one(given[0], split)
        if found is not None:
            return found
    _refuse_split(split, " and ".join(given[:2]))
    if any(map(remote, given)):
        return Found(given[0], addresses=tuple(given))
    files = files_of(given)
    refuse_outputs(files)
    name = given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more"
    return Found(name, files=tuple(files), names=tuple(names_of(given, files)))


def _one(path: str, split: str | None) -> Found | None:
    """Find what one path or name stands for, if that is more than files."""
    folder = Path(path)
    if not folder.exists() and is_hub_name(path, SUFFIXES):
        files, dataset = hub_files(path, split)
        if files:
            return Found(path, files=tuple(files), names=tuple(names_of(files, files)))
        rows, _ = table_of(dataset) or (None, "")
        return Found(path, rows=rows)
    if (table := lake_table(folder)) is not None:
        _refuse_split(split, path)
        return Found(path, rows=table)
    if (written := read_written(folder)) is not None:
        _refuse_split(split, path)
        return Found(path, rows=written[0], behind=tuple(written[1]))
    if split is not None and folder.is_dir():
        files = files_of_split(folder, split)
        return Found(f"{path} ({split})", files=tuple(files), names=tuple(names_of([path], files)))
    return None


def _refuse_split(split: str | None, name: str) -> None:
    if split is not None:
        raise ValueError(
            f"split={split!r} is for data sets and folders that have splits, which {name} is not"
        )
