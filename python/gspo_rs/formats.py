"""The formats of files, told by their suffix, and how each is scanned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

__all__ = ["SCANNERS", "scan_files"]

# Every row is looked at for its type: a column that is null for the first hundred rows of a
# JSONL file, or an id that turns from 7 to "7b" in a CSV, is told at the start.
SCANNERS: Mapping[str, Callable[[list[str]], pl.LazyFrame]] = {
    ".parquet": lambda files: pl.scan_parquet(files, glob=False),
    ".jsonl": lambda files: pl.scan_ndjson(files, infer_schema_length=None),
    ".ndjson": lambda files: pl.scan_ndjson(files, infer_schema_length=None),
    ".csv": lambda files: pl.scan_csv(files, glob=False, infer_schema_length=None),
    ".arrow": lambda files: pl.scan_ipc(files, glob=False),
    ".ipc": lambda files: pl.scan_ipc(files, glob=False),
    ".feather": lambda files: pl.scan_ipc(files, glob=False),
}


def scan_files(files: list[str]) -> pl.LazyFrame:
    """Scan files of one format."""
    suffixes = sorted({Path(file).suffix.lower() for file in files})
    if len(suffixes) > 1:
        raise ValueError(f"files of several formats, {', '.join(suffixes)}; give one at a time")
    if suffixes[0] not in SCANNERS:
        known = ", ".join(SCANNERS)
        raise ValueError(f"cannot tell the format of {files[0]!r} by its suffix; known: {known}")
    return SCANNERS[suffixes[0]](files)
