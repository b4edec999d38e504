"""The files that paths, globs and folders stand for."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from gspo_rs.formats import SUFFIXES, suffix_of
from gspo_rs.saved import saved_files

__all__ = ["files_of", "remote", "spelled"]


def files_of(paths: Sequence[str]) -> list[str]:
    """List the files that paths, globs and folders stand for.

    Raises
    ------
    FileNotFoundError
        If a file is not there, or no file matches.
    ValueError
        If no path is given.
    """
    files = [file for path in paths for file in _matches(path)]
    if not files:
        raise ValueError("the list of files is empty")
    return files


def remote(path: str) -> bool:
    """Tell whether `path` is an address, such as ``s3://bucket/file.parquet``."""
    return "://" in path


def spelled(path: str | Path) -> str:
    """Return an absolute path of the names that were given: links stay, whatever they point at.

    Only what stands before ``..`` is resolved, because the parent of a link is that of its target.
    """
    parts = (Path.cwd() / path).parts
    if ".." not in parts:
        return str(Path(*parts))
    stop = len(parts) - parts[::-1].index("..")
    return str(Path(os.path.realpath(Path(*parts[:stop])), *parts[stop:]))


def _matches(path: str) -> list[str]:
    """Return the file `path`, or the files that it matches as a glob."""
    if Path(path).is_dir():
        return saved_files(Path(path)) or _below(Path(path))
    # First, because brackets are legal in file names.
    if Path(path).is_file():
        return [path]
    if not glob.has_magic(path):
        raise FileNotFoundError(f"no such file: {path}")
    # Not `Path.glob`, which takes no absolute pattern.
    matches = glob.glob(path, recursive=True)  # noqa: PTH207
    found = sorted(file for file in matches if Path(file).is_file())
    if not found:
        raise FileNotFoundError(f"no file matches {path}")
    return found


def _below(folder: Path) -> list[str]:
    """Return the files of known formats below a folder; hidden ones are not looked at."""
    found = []
    for file in sorted(folder.rglob("*")):
        hidden = any(part[0] in "._" for part in file.relative_to(folder).parts)
        if suffix_of(file) in SUFFIXES and file.is_file() and not hidden:
            found.append(str(file))
    if not found:
        raise FileNotFoundError(f"no file below {folder} is one of {', '.join(SUFFIXES)}")
    return found
