"""Outputs of `gspo-rs score`: whether a path is one, and where its manifest is kept.

That of a single file is in its metadata. That of a folder is in the metadata of one more file,
which has the columns of the output and no rows: what reads a folder of Parquet finds nothing in
it, or passes over it. Where folders name columns it is in the first of them: Polars and DuckDB
would not see these columns beside a file that does not have them.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

import polars as pl

from gspo_rs._core import MANIFEST_KEY
from gspo_rs.data.frames import UNREADABLE
from gspo_rs.data.ledgers import is_of_parts

__all__ = [
    "MANIFEST",
    "OLD_MANIFEST",
    "first_partition",
    "has_note",
    "is_manifest",
    "layout_of",
    "manifest_file",
    "manifest_in",
    "output_of",
]

MANIFEST: Final = "_manifest.parquet"
"""The file in an output that says what was made of what."""

OLD_MANIFEST: Final = "manifest.json"
"""What it was before, over which pandas, Polars and `datasets` stumbled."""

# Bytes at the end of a Parquet file that notes of ours are likely in.
END = 1 << 16


def manifest_file(output: Path) -> Path | None:
    """Return the file that has the manifest of an output, or None where there is none.

    An output that is one file has it itself.

    Parameters
    ----------
    output : Path
        Any path.

    Examples
    --------
    >>> manifest_file(Path("/nowhere")) is None
    True
    """
    if output.is_file():
        rows = output.suffix.lower() == ".parquet" and output.name != MANIFEST
        return output if rows and has_note(output, MANIFEST_KEY) else None
    if not output.is_dir():
        return None
    return _in_folder(output) or _in_folder(first_partition(output))


def manifest_in(output: Path) -> str | None:
    """Return the manifest of an output, as it is written there; None for any other path.

    That of a damaged one is empty.
    """
    path = manifest_file(output)
    if path is None:
        return None
    if path.name == OLD_MANIFEST:
        found = path.read_bytes()
        # Its own keys, because other programs have files of this name.
        return found.decode(errors="replace") if b'"uninformative":' in found else None
    try:
        return pl.read_parquet_metadata(path).get(MANIFEST_KEY)
    except UNREADABLE:
        return ""


def layout_of(output: Path) -> str | None:
    """Return the layout of an output, ``"wide"`` or ``"narrow"``; None for any other path.

    That of a damaged one is ``"narrow"``, so that whoever reads its manifest says so.
    """
    text = manifest_in(output)
    if text is None:
        return None
    try:
        return str(json.loads(text)["options"]["layout"])
    except (ValueError, TypeError, LookupError):
        return "narrow"


def output_of(file: Path, known: MutableMapping[tuple[Path, bool], bool]) -> Path | None:
    """Return the output that a file is, or lies in; None if there is none.

    Parameters
    ----------
    file : Path
    known : mapping
        What was found of folders above other files, and is added to.
    """
    if manifest_in(file) is not None:
        return file
    child = file
    for folder in file.parents:
        # Only then is there more to look at than a name.
        named = "=" in child.name
        if (folder, named) not in known:
            here = named or _in_folder(folder) is not None
            known[folder, named] = here and manifest_in(folder) is not None
        if known[folder, named]:
            return folder
        child = folder
    return None


def is_manifest(file: Path) -> bool:
    """Tell whether a file is the manifest of a folder, and so has no rows."""
    return file.name == MANIFEST and has_note(file, MANIFEST_KEY)


def has_note(file: Path, key: str) -> bool:
    """Tell whether a note of ours may be at the end of a file: quickly, for there may be many."""
    with file.open("rb") as opened:
        opened.seek(max(file.stat().st_size - END, 0))
        return key.encode() in opened.read()


def first_partition(folder: Path) -> Path:
    """Return the first of the deepest folders ``key=value`` below one, or itself."""
    names = [path.name for path in folder.iterdir() if "=" in path.name and path.is_dir()]
    return first_partition(folder / min(names)) if names else folder


def _in_folder(folder: Path) -> Path | None:
    places = [folder / MANIFEST, folder / OLD_MANIFEST]
    return next((path for path in places if path.is_file() and not is_of_parts(path)), None)
