"""What this package wrote that has rows only with other files: narrow scores and selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from gspo_rs.data.frames import UNREADABLE
from gspo_rs.data.outputs import has_note, layout_of, output_of

__all__ = ["SELECTION", "kind_of", "read_written", "refuse_outputs"]

Kind: TypeAlias = Literal["scores", "selection"]

SELECTION = "gspo_rs_selection"
"""Where in the metadata of a Parquet file a selection says what it is of."""

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
    return "scores" if layout_of(path) == "narrow" else None


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


def refuse_outputs(files: Sequence[str]) -> None:
    """Raise if files have rows only with others, or those of an output come beside others.

    Raises
    ------
    ValueError
        Naming what is to be given instead.
    """
    known: dict[tuple[Path, bool], bool] = {}
    outputs = [output_of(Path(file), known) for file in files]
    found = dict.fromkeys(output for output in outputs if output is not None)
    if found and None in outputs:
        raise ValueError(
            f"{next(iter(found))} is an output of `gspo-rs score`, whose rows would come twice "
            f"beside {files[outputs.index(None)]}; give one of them, or move the output away"
        )
    narrow = {output for output in found if layout_of(output) == "narrow"}
    for file, output in zip(files, outputs, strict=True):
        path = Path(file)
        if output in narrow:
            part = "" if output == path else f"part of {output}, "
            whole = "it" if output == path else output
            raise ValueError(f"{file} is {part}{CALLED['scores']}; give {whole} by itself")
        if path.suffix.lower() == ".parquet" and has_note(path, SELECTION) and _is_selection(path):
            raise ValueError(f"{file} is {CALLED['selection']}; give it by itself")


def _is_selection(path: Path) -> bool:
    try:
        return SELECTION in pl.read_parquet_metadata(path)
    except UNREADABLE:
        return False
