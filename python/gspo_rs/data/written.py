"""What this package wrote that has rows only with other files: narrow scores and selections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from gspo_rs.data.frames import UNREADABLE

__all__ = ["MANIFEST", "SELECTION", "kind_of", "manifest_in", "read_written", "refuse_parts"]

Kind: TypeAlias = Literal["scores", "selection"]

SELECTION = "gspo_rs_selection"
"""Where in the metadata of a Parquet file a selection says what it is of."""

MANIFEST = "manifest.json"
"""The file in an output of `gspo-rs score` that says what was made of what."""

# Bytes at the end of a Parquet file that its own notes are likely in.
END = 1 << 16
# Who reads them: the rooms that write them are above this one, and loaded when one is met.
READERS: Mapping[Kind, tuple[str, str]] = {
    "scores": ("gspo_rs.files.scoring.read_back", "rows_and_files"),
    "selection": ("gspo_rs.files.selection", "rows_and_files"),
}
CALLED: Mapping[Kind, str] = {
    "scores": "a narrow output of `gspo-rs score`, which has scores without their rows",
    "selection": "a selection, which has row numbers without their rows",
}


def kind_of(path: Path) -> Kind | None:
    """Tell what a path is, if its rows are in other files.

    Examples
    --------
    >>> kind_of(Path("/nowhere")) is None
    True
    """
    if path.is_file() and path.suffix.lower() == ".parquet" and _is_selection(path):
        return "selection"
    note = manifest_in(path)
    if note is None:
        return None
    try:
        layout = json.loads(note)["options"]["layout"]
    except (ValueError, TypeError, LookupError):
        # Damaged: whoever reads it says so.
        return "scores"
    return "scores" if layout == "narrow" else None


def read_written(path: Path) -> tuple[pl.LazyFrame, list[str]] | None:
    """Return the rows of a narrow output or selection, and the files that they are in.

    None for any other path.

    Raises
    ------
    ValueError, OSError
        If a file is missing or not what it was; names it.
    """
    kind = kind_of(path)
    if kind is None:
        return None
    module, function = READERS[kind]
    found: tuple[pl.LazyFrame, list[str]] = getattr(import_module(module), function)(path)
    return found


def refuse_parts(files: Iterable[str]) -> None:
    """Raise if a file has rows only with others, and so not beside others or by itself.

    Raises
    ------
    ValueError
        Naming what is to be given instead.
    """
    outputs: dict[Path, bool] = {}
    for file in files:
        path = Path(file)
        for folder in path.parents:
            if folder not in outputs:
                outputs[folder] = kind_of(folder) == "scores"
            if outputs[folder]:
                raise ValueError(
                    f"{file} is part of {folder}, {CALLED['scores']}; give {folder} by itself"
                )
        if path.suffix.lower() == ".parquet" and _has_note(path) and (kind := kind_of(path)):
            raise ValueError(f"{file} is {CALLED[kind]}; give it by itself")


def manifest_in(folder: Path) -> str | None:
    """Return the manifest of an output of `gspo-rs score`; None for any other folder."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    found = path.read_bytes()
    # Its own keys, because other programs have files of this name.
    return found.decode(errors="replace") if b'"uninformative":' in found else None


def _has_note(path: Path) -> bool:
    """Tell whether a note of ours may be at the end of a file: quickly, for there may be many."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - END, 0))
        found = file.read()
    return SELECTION.encode() in found


def _is_selection(path: Path) -> bool:
    try:
        return SELECTION in pl.read_parquet_metadata(path)
    except UNREADABLE:
        return False
