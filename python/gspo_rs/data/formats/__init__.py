"""File formats, recognised by suffix, and how each is scanned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import polars as pl

from gspo_rs.data.contents import refuse_foreign
from gspo_rs.data.formats.arrow import scan_arrow
from gspo_rs.data.formats.text import TextFiles
from gspo_rs.data.formats.unions import UnionFiles, union
from gspo_rs.data.hive import within
from gspo_rs.data.tables import MixedRows

__all__ = [
    "SUFFIXES",
    "Rows",
    "is_text",
    "rows_of",
    "rows_of_each",
    "scan_files",
    "scanned",
    "suffix_of",
]

SCANNERS: Mapping[str, Callable[[Sequence[str]], pl.LazyFrame]] = {
    ".parquet": lambda files: pl.scan_parquet(list(files), glob=False),
    ".arrow": scan_arrow,
    ".arrows": scan_arrow,
    ".ipc": scan_arrow,
    ".feather": scan_arrow,
}
# What lies between the fields of a line; JSON has none.
DELIMITERS: Mapping[str, str | None] = {
    ".jsonl": None,
    ".ndjson": None,
    ".json": None,
    ".csv": ",",
    ".tsv": "\t",
}
PACKED = (".gz", ".zst")
SUFFIXES = (
    *(".parquet", *DELIMITERS, *(text + packed for text in DELIMITERS for packed in PACKED)),
    *(".arrow", ".arrows", ".ipc", ".feather"),
)


Rows: TypeAlias = "pl.LazyFrame | TextFiles | UnionFiles | MixedRows"


def suffix_of(path: str | Path) -> str:
    """Return the suffix of the format, with that of the compression, such as ``.csv.gz``.

    Examples
    --------
    >>> suffix_of("runs/Some.v2.JSONL.zst"), suffix_of("a.parquet")
    ('.jsonl.zst', '.parquet')
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    packed = suffixes[-1:] and suffixes[-1] in PACKED
    return "".join(suffixes[-2:] if packed else suffixes[-1:])


def scan_files(files: Sequence[str], hive: pl.DataFrame | None = None) -> pl.LazyFrame:
    """Scan files of one format, as `rows_of`."""
    return scanned(rows_of(files, hive))


def scanned(rows: Rows) -> pl.LazyFrame:
    """Return the rows as a LazyFrame."""
    return rows if isinstance(rows, pl.LazyFrame) else rows.frame()


def is_text(path: str) -> bool:
    """Return whether a file is a text format, by its suffix."""
    return _unpacked(suffix_of(path)) in DELIMITERS


def rows_of(files: Sequence[str], hive: pl.DataFrame | None = None) -> Rows:
    """Return the rows of files of one format, whose columns may differ (see `unions`).

    Parameters
    ----------
    files : sequence of str
    hive : DataFrame, optional
        What the folders say of each file; see `gspo_rs.data.hive.partitions`.

    Raises
    ------
    ValueError
        If the suffixes differ or are not known, or a folder hides a column.
    OSError
        If a text file can't be read or a line is wrong, with its number.
    """
    formats = {_format(file): suffix_of(file) for file in files}
    if len(formats) > 1:
        found = ", ".join(sorted(formats.values()))
        raise ValueError(f"files of several formats, {found}; give one at a time")
    (suffix,) = formats.values()
    if suffix not in SCANNERS:
        return TextFiles(files, DELIMITERS[_unpacked(suffix)], hive)
    if len(files) == 1 and hive is None:
        return SCANNERS[suffix](files)
    frames = _frames(files, hive)
    if (differing := union(frames, files)) is not None:
        return differing
    return pl.concat(frames) if hive is not None else SCANNERS[suffix](files)


def _frames(files: Sequence[str], hive: pl.DataFrame | None) -> list[pl.LazyFrame]:
    """Scan each file separately, with its hive partition columns."""
    frames = [SCANNERS[suffix_of(file)]([file]) for file in files]
    if hive is None:
        return frames
    places = zip(frames, files, hive.iter_slices(1), strict=True)
    return [within(frame, file, values) for frame, file, values in places]


def rows_of_each(
    files: Sequence[str], hive: pl.DataFrame | None = None
) -> list[pl.LazyFrame | TextFiles]:
    """Return the rows of each file; a column has one type in all of them, if one holds them all."""
    if len({_format(file) for file in files}) == 1 and is_text(files[0]):
        rows = rows_of(files, hive)
        assert isinstance(rows, TextFiles)
        return [rows.only(number) for number in range(len(files))]
    for file in files:
        _format(file)
    if any(map(is_text, files)):
        found = [
            rows_of([file], None if hive is None else hive[number : number + 1])
            for number, file in enumerate(files)
        ]
        return [rows if isinstance(rows, TextFiles) else scanned(rows) for rows in found]
    frames = _frames(files, hive)
    differing = union(frames, files)
    return [*frames] if differing is None else [*map(differing.only, range(len(files)))]


def _format(file: str) -> str | None:
    """Return what is the same for files of one format, refusing those of none."""
    suffix = suffix_of(file)
    refuse_foreign(file)
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise ValueError(f"cannot tell the format of {file!r} by its suffix; known: {known}")
    return suffix if suffix in SCANNERS else DELIMITERS[_unpacked(suffix)]


def _unpacked(suffix: str) -> str:
    return suffix.removesuffix(".gz").removesuffix(".zst")
