"""Parquet files, checked before their rows are read: the footer, and pages that have checksums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from gspo_rs._core import check_parquet, packed_bytes

__all__ = ["check_pages", "largest_row_group", "packed", "row_groups"]


def check_pages(files: Iterable[str], columns: Sequence[str]) -> None:
    """Check the footers, and all pages of `columns` that carry a checksum.

    Parameters
    ----------
    files : iterable of str
        Those that are not Parquet are passed over.
    columns : sequence of str
        Names of columns of the file; those that it does not have are passed over.

    Raises
    ------
    OSError
        Naming the file.

    Examples
    --------
    >>> import tempfile
    >>> import polars as pl
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/rows.parquet"
    ...     pl.DataFrame({"reward": [0.0, 1.0]}).write_parquet(file)
    ...     check_pages([file], ["reward"])
    """
    for file in files:
        if Path(file).suffix.lower() == ".parquet":
            _checked(file, columns)


def row_groups(file: str) -> int:
    """Return the number of row groups of a Parquet file.

    Raises
    ------
    OSError
        Naming the file.
    """
    return _checked(file, [])[0]


def largest_row_group(file: str) -> int:
    """Return the number of rows of the largest row group of a Parquet file.

    Raises
    ------
    OSError
        Naming the file.
    """
    return _checked(file, [])[1]


def packed(file: str, columns: Sequence[str] | None) -> tuple[int, int]:
    """Return the row group whose `columns`, or all, take most bytes in a Parquet file, and these.

    Raises
    ------
    OSError
        Naming the file.
    """
    try:
        return packed_bytes(file, None if columns is None else list(columns))
    except OSError as error:
        raise OSError(f"cannot read {file}: {error}") from error


def _checked(file: str, columns: Sequence[str]) -> tuple[int, int]:
    try:
        return check_parquet(file, list(columns))
    except OSError as error:
        raise OSError(f"cannot read {file}: {error}") from error
