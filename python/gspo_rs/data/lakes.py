"""Folders of Delta and Iceberg, whose log says which rows of their files are still there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import polars as pl

__all__ = ["lake_of", "lake_table"]

VERSION = re.compile(r"v?(\d+).*\.metadata\.json")


def lake_of(folder: Path) -> str | None:
    """Return ``delta`` or ``iceberg`` for the folder of such a table, else None.

    Examples
    --------
    >>> lake_of(Path()) is None
    True
    """
    if (folder / "_delta_log").is_dir():
        return "delta"
    return "iceberg" if _metadata(folder) else None


def lake_table(folder: Path) -> pl.LazyFrame | None:
    """Scan the table of a folder as it is now, or return None for any other folder.

    Raises
    ------
    OSError
        If the library is not installed; names the extra that brings it.
    """
    kind = lake_of(folder)
    if kind is None:
        return None
    library, scan = READERS[kind]
    if find_spec(library) is None:
        raise OSError(
            f"cannot read {folder}: it is a table of {kind.title()}, whose files also hold deleted "
            f"rows; to read the table: pip install 'gspo_rs[{kind}]'"
        )
    return scan(folder)


def _iceberg(folder: Path) -> pl.LazyFrame:
    return pl.scan_iceberg(str(_metadata(folder)[-1].absolute()))


def _metadata(folder: Path) -> list[Path]:
    """Return the files that describe an Iceberg table, the last version last."""
    found = [
        (int(match[1]), path)
        for path in (folder / "metadata").glob("*.metadata.json")
        if (match := VERSION.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]


READERS: Mapping[str, tuple[str, Callable[[Path], pl.LazyFrame]]] = {
    "delta": ("deltalake", lambda folder: pl.scan_delta(str(folder))),
    "iceberg": ("pyiceberg", _iceberg),
}
