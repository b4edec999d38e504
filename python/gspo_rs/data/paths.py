"""Expansion of paths, globs and folders into files."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gspo_rs.data.formats import SUFFIXES, suffix_of
from gspo_rs.data.hub import of_split, snapshot_of
from gspo_rs.data.lakes import lake_of
from gspo_rs.data.ledgers import is_of_parts, refuse_unfinished
from gspo_rs.data.outputs import is_manifest
from gspo_rs.data.save_to_disk import saved_files
from gspo_rs.data.walk import matching, place, tree

__all__ = ["files_of", "files_of_split", "names_of", "remote", "spelled"]

# Formats that describe files of others, where they lie beside such.
DESCRIPTIONS = (".json", ".json.gz", ".json.zst")
# Files that describe others, and hold no rows.
DESCRIBING = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")

_log = logging.getLogger("gspo_rs")


def files_of(paths: Sequence[str]) -> list[str]:
    """List the files that paths, globs and folders stand for.

    A file that is found twice, under one name in one folder, is read once, and a warning says so.

    Raises
    ------
    FileNotFoundError
        If a file is not there, or no file matches, or one that does is a link to nothing.
    ValueError
        If no path is given, a name is no UTF-8, or among the files are those of an output of
        `gspo-rs score`, whose rows would come twice, or a manifest alone, or those of a run that
        is not over, or of a table that says elsewhere which of their rows are still there.
    """
    files: dict[str, str] = {}
    again: list[tuple[str, str]] = []
    for file in (file for path in paths for file in _matches(path)):
        first = files.setdefault(place(file), file)
        if first is not file:
            again.append((file, first))
    if not files:
        raise ValueError("the list of files is empty")
    found = _with_rows(list(files.values()))
    for file in found:
        _refuse_unreadable(file)
    _refuse_lakes(found)
    if again:
        file, first = again[0]
        # `repr` escapes what a terminal would obey.
        alias = f"{first!r} twice" if file == first else f"{first!r} also as {file!r}"
        more = f" and {len(again) - 1} more" if len(again) > 1 else ""
        _log.warning("the files that are given name %s%s; each is read once", alias, more)
    return found


def files_of_split(folder: Path, split: str) -> list[str]:
    """List the files of one split of a folder: of a saved data set, or by their names.

    Raises
    ------
    FileNotFoundError
        If there are no files.
    ValueError
        If the folder has no such split; names those that it has.
    """
    found = saved_files(folder, split)
    if found is not None:
        return found
    root = snapshot_of(folder) or folder
    return of_split(_below(root), root, split)


def names_of(given: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return the names of files below the folder that was searched, or that all of them share."""
    spelt = [spelled(file) for file in files]
    base = _base(given, spelt)
    return [os.path.relpath(file, base) for file in spelt]


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
        return _in_folder(Path(path))
    # First, because brackets are legal in file names.
    if Path(path).is_file():
        return [path]
    if Path(path).exists():
        raise ValueError(
            f"{path} is a pipe or a device, which cannot be read twice; give - and JSON Lines on "
            "standard input, or a file"
        )
    if not glob.has_magic(path):
        raise FileNotFoundError(f"no such file: {path}")
    found = [file for file in matching(path) if _is_file(Path(file))]
    if not found:
        raise FileNotFoundError(f"no file matches {path}")
    return found


def _in_folder(folder: Path) -> list[str]:
    if (found := saved_files(folder)) is not None:
        return found
    if (snapshot := snapshot_of(folder)) is not None:
        return of_split(_below(snapshot), snapshot, None)
    return _below(folder)


def _below(folder: Path) -> list[str]:
    """Return the files of known formats below a folder; hidden ones are not looked at.

    Files of JSON beside those of other formats describe these, and are passed over.
    """
    found = sorted(
        path
        for below in tree(folder, "._")
        for path in below.iterdir()
        if path.name[0] not in "._" and suffix_of(path) in SUFFIXES and _is_file(path)
    )
    found = [path for path in found if path.name not in DESCRIBING and not is_of_parts(path)]
    found = [path for path in found if suffix_of(path) not in DESCRIPTIONS] or found
    if not found:
        raise FileNotFoundError(f"no file below {folder} is one of {', '.join(SUFFIXES)}")
    return list(map(str, found))


def _is_file(path: Path) -> bool:
    """Return whether a path is a file; raise for a broken link, whose rows would be missing."""
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path} is a link to {path.readlink()}, which is not there")
    return path.is_file()


def _base(given: Sequence[str], files: Sequence[str]) -> str:
    """Return the folder that names start below: that of the glob, or the common one."""
    if len(given) == 1:
        path = Path(given[0])
        if path.is_dir():
            return spelled(path)
        if not path.is_file():
            parts = []
            for part in path.parts:
                if glob.has_magic(part):
                    break
                parts.append(part)
            return spelled(Path(*parts))
    return os.path.commonpath([os.path.dirname(file) for file in files])  # noqa: PTH120


def _with_rows(files: Sequence[str]) -> list[str]:
    """Pass over manifests of outputs, which a glob finds; raise if there is nothing else."""
    refuse_unfinished({Path(file).parent: None for file in files})
    found = [f for f in files if not (is_manifest(Path(f)) or is_of_parts(Path(f)))]
    if not found:
        raise ValueError(
            f"{files[0]} is the manifest of an output or its ledger, and has no rows; give the "
            f"folder {Path(files[0]).parent}"
        )
    return found


def _refuse_lakes(files: Sequence[str]) -> None:
    """Raise if a file is of a table whose log says which rows of it are still there."""
    known: dict[Path, str | None] = {}
    for file in files:
        for folder in Path(file).parents:
            if folder not in known:
                known[folder] = lake_of(folder)
            if (kind := known[folder]) is not None:
                raise ValueError(
                    f"{file} is of the {kind.title()} table {folder}, and may hold rows that were "
                    "deleted; give the folder of the table, by itself"
                )


def _refuse_unreadable(file: str) -> None:
    try:
        file.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the name of the file {file!r} is no UTF-8; rename it") from error
