"""An output that is one file, of a source that is one file or frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gspo_rs.data.formats import SUFFIXES, suffix_of
from gspo_rs.files.scoring.inputs import Input
from gspo_rs.files.target import refuse_read

__all__ = ["as_one_file", "is_one_file"]

PARQUET = ".parquet"


def is_one_file(target: Path) -> bool:
    """Tell whether an output is to be one file: by its suffix, unless there is a folder.

    Raises
    ------
    ValueError
        If the suffix is that of rows in another format; says what to do instead.

    Examples
    --------
    >>> is_one_file(Path("/scored.parquet")), is_one_file(Path("/scored"))
    (True, False)
    """
    if target.is_dir():
        return False
    suffix = suffix_of(target)
    if suffix in SUFFIXES and suffix != PARQUET:
        name = str(target)[: -len(suffix)]
        copy = f"; `gspo-rs scan {name}.parquet -o {target}` copies its rows"
        raise ValueError(
            f"{target}: scores are written as Parquet; name {name}.parquet or a folder"
            f"{copy if suffix in ('.jsonl', '.ndjson') else ''}"
        )
    return suffix == PARQUET


def as_one_file(inputs: list[Input], target: Path) -> list[Input]:
    """Return the only input, whose output gets the name of the target.

    Raises
    ------
    ValueError
        If there are several, or folders name columns of the rows, or the target is read.
    """
    folder = target.with_suffix("")
    if len(inputs) > 1:
        raise ValueError(
            f"{target} is one file, and there are {len(inputs)} to score; name a folder, such as "
            f"{folder}"
        )
    given = inputs[0]
    if given.hive is not None:
        names = ", ".join(given.hive.columns)
        raise ValueError(
            f"the folders above {given.path} say {names}, which one file would lose; name a "
            f"folder, such as {folder}"
        )
    refuse_read(target, given.source)
    return [replace(given, name=target.name)]
