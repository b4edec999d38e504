"""The files of a source, each with the name of the output that it gets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from gspo_rs.data.addresses import scan_addresses
from gspo_rs.data.formats import rows_of_each, suffix_of
from gspo_rs.data.formats.parquet import check_pages
from gspo_rs.data.formats.text import TextFiles
from gspo_rs.data.found import Found, find
from gspo_rs.data.hive import partitions
from gspo_rs.data.paths import remote, spelled
from gspo_rs.data.source import KEY, NUMBER, Source, SourceLike
from gspo_rs.files.grades import GradedSource

__all__ = ["Input", "Stamp", "inputs_of", "unchanged"]


@dataclass(frozen=True)
class Stamp:
    """What tells a file that was rewritten: its size and the time of its last change."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Input:
    """One file to be scored, or a whole LazyFrame.

    `name` is that of its output, below the target; `path` and `stamp` are None for rows that
    are in no file of this machine; `hive` has the columns that are no columns of the files but
    names of folders.
    """

    source: Source
    name: str
    path: str | None = None
    stamp: Stamp | None = None
    hive: pl.DataFrame | None = None

    @property
    def place(self) -> str | None:
        """Where its rows can be read again; None for those of a LazyFrame."""
        return self.path or (self.source.name if remote(self.source.name) else None)

    @property
    def is_parquet(self) -> bool:
        """Whether the bytes of the columns can be copied as they are."""
        return self.path is not None and self.path.lower().endswith(".parquet")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Name the file in whatever is wrong with its rows."""
        try:
            with self.source.reading():
                yield
        except (ValueError, TypeError) as error:
            if self.source.name in str(error):
                raise
            raise type(error)(f"{self.source.name}: {error}") from error

    def count(self) -> int:
        """Return the number of rows; cheap for Parquet."""
        with self.reading():
            check_pages(self.source.files, [])
            return self.source.count()


def inputs_of(source: SourceLike, target: Path, layout: str) -> list[Input]:
    """List what is to be scored into `target`.

    Raises
    ------
    OSError
        If a file is missing or can't be read.
    ValueError
        If no file is found, or two would get the same output; or if rows with grades are to be
        scored narrow.
    """
    if layout == "narrow" and isinstance(source, GradedSource):
        raise ValueError(
            "narrow scores are read beside files, and those have no grades; write them wide, or"
            " score the folder of the grades itself, which has no texts"
        )
    found = _found(source)
    if found.rows is not None:
        rows = Source(found.rows, found.name, behind=found.behind)
        return [Input(rows, "scores.parquet")]
    if found.addresses:
        return [_remote(path, number) for number, path in enumerate(found.addresses)]
    files = [spelled(file) for file in found.files]
    names = list(found.names)
    hive = partitions(names)
    each = zip(files, names, rows_of_each(files, hive), strict=True)
    inputs = [_local(file, name, rows, hive) for file, name, rows in each]
    _refuse_clashes(inputs, Path(os.path.realpath(target)))
    return inputs


def unchanged(given: Input) -> None:
    """Raise if the file is not the one that was listed.

    Raises
    ------
    ValueError
        Naming the file.
    """
    if given.path is not None and _stamp(given.path) != given.stamp:
        raise ValueError(f"{given.path} changed while it was scored; start again")


def _found(source: SourceLike) -> Found:
    if not isinstance(source, Source):
        return find(source)
    if isinstance(source, GradedSource):  # whose files have not all columns
        return Found(source.name, source.frame, behind=(*source.files, *source.behind))
    rows = None if source.files else source.rows
    return Found(source.name, rows, source.files, source.names, behind=source.behind)


def _local(
    file: str, name: str, rows: pl.LazyFrame | TextFiles, hive: pl.DataFrame | None
) -> Input:
    output = name[: -len(suffix_of(file))] + ".parquet"
    return Input(Source(rows, file, (file,)), output, file, _stamp(file), hive)


def _remote(path: str, number: int) -> Input:
    return Input(Source(scan_addresses([path]), path), f"part-{number:05}.parquet")


def _stamp(file: str) -> Stamp:
    found = Path(file).stat()
    return Stamp(found.st_size, found.st_mtime_ns)


def _refuse_clashes(found: list[Input], target: Path) -> None:
    owner: dict[str, str | None] = {}
    for one in found:
        path = Path(str(one.path))
        # Both what a link points at and the link itself would be replaced with the folder.
        places = (os.path.realpath(path), Path(os.path.realpath(path.parent)) / path.name)
        if str(target) in map(str, places):
            raise ValueError(f"{target} is one of the files to read; write to another one")
        if any(Path(place).is_relative_to(target) for place in places):
            raise ValueError(f"{one.path} lies in the output {target}; choose another output")
        if ".." in Path(one.name).parts:
            raise ValueError(f"{one.path} would be written as {one.name}, outside of the output")
        if one.name in owner:
            other = owner[one.name]
            raise ValueError(f"{other} and {one.path} would both be written as {one.name}")
        owner[one.name] = one.path


def checked(given: Input, by: tuple[str, ...], reward: str, taken: Sequence[str]) -> pl.Schema:
    """Check the columns of one file.

    Raises
    ------
    ValueError
        If a column is missing, or has the name of one that will be added.
    TypeError
        If a key or the reward has a type that can't be one.
    """
    schema = given.source.check([*((key, KEY) for key in by), (reward, NUMBER)])
    for name in taken:
        if name in schema:
            raise ValueError(
                f"{given.source.name} has a column {name!r} already, which scoring adds; "
                "leave it out with --drop (drop=), or give the new ones an ending with --suffix "
                "(suffix=)"
            )
    return schema
