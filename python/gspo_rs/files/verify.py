"""Whether an output is what was written."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from gspo_rs._core import file_digest
from gspo_rs.files.manifest import Manifest, load
from gspo_rs.files.workplace import foreign_files

__all__ = ["verify"]


def verify(target: str | Path) -> Manifest:
    """Check every file of an output of `gspo_rs.score` against its manifest.

    Parameters
    ----------
    target : path
        The folder.

    Returns
    -------
    Manifest
        What was made of what.

    Raises
    ------
    FileNotFoundError
        If it has no manifest.
    ValueError
        If a file is missing, changed or foreign; names all of them.

    Examples
    --------
    >>> verify("/nowhere")
    Traceback (most recent call last):
        ...
    FileNotFoundError: /nowhere has no manifest.json; it is no output of `gspo-rs score`
    """
    folder = Path(target)
    manifest = load(folder)
    problems = []
    for entry in manifest.outputs:
        path = folder / entry.name
        if not path.is_file():
            problems.append(f"{entry.name} is missing")
        elif (size := path.stat().st_size) != entry.size:
            problems.append(f"{entry.name} has changed: {size} bytes instead of {entry.size}")
        elif file_digest(path) != entry.digest:
            problems.append(f"{entry.name} has changed: its digest differs")
        elif (rows := _rows(path)) != entry.rows:
            problems.append(f"{entry.name} has {rows} rows instead of {entry.rows}")
    problems += [f"{name} is foreign" for name in foreign_files(folder, manifest)]
    if problems:
        raise ValueError(f"{folder}: {'; '.join(problems)}")
    return manifest


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
