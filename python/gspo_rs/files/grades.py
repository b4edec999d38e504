"""Rows with the rewards that `gspo-rs grade` gave them, joined where they are read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from gspo_rs._core import file_digest
from gspo_rs.data.column_names import column
from gspo_rs.data.formats import scanned
from gspo_rs.data.ledgers import refuse_unfinished
from gspo_rs.data.source import ANYTHING, EXPECTED, KEY, Source, SourceLike, locate
from gspo_rs.files.parts import PartEntry, RunManifest, ledger_of, run_manifest

__all__ = ["MADE_BY", "GradedSource", "Grades", "graded", "grades_in"]

MADE_BY = "gspo-rs grade"

_log = logging.getLogger("gspo_rs")


@dataclass(frozen=True)
class Grades:
    """A folder that `gspo-rs grade` wrote, all of whose parts are as they were written.

    Attributes
    ----------
    folder : Path
    manifest : RunManifest
    parts : list of PartEntry
        In the order of the rows.
    """

    folder: Path
    manifest: RunManifest
    parts: list[PartEntry]

    @property
    def files(self) -> list[str]:
        """The files of the parts."""
        return [str(self.folder / part.name) for part in self.parts]

    @property
    def n_rows(self) -> int:
        """The rows that were graded."""
        return sum(part.rows for part in self.parts)

    @property
    def rewards(self) -> list[str]:
        """The names of the rewards, without the sum of them."""
        return [str(reward["name"]) for reward in self.manifest.asked["rewards"]]

    @property
    def columns(self) -> list[str]:
        """The columns of the sum and of the rewards."""
        return ["reward", *(f"reward_{name}" for name in self.rewards)]

    @property
    def keys(self) -> list[str]:
        """The columns that name a row; none if only its place does."""
        asked = self.manifest.asked
        return [*(asked.get("by") or ()), *asked["key"]] if asked.get("key") else []

    def frame(self) -> pl.LazyFrame:
        """Return all columns of all rows, in the order of what was graded."""
        return pl.scan_parquet(self.files, glob=False, hive_partitioning=False)


@dataclass(frozen=True, kw_only=True)
class GradedSource(Source):
    """Rows of a source with columns of grades beside them, instead of those of the same names.

    Attributes
    ----------
    grades : LazyFrame
        The columns, in the order of the rows.
    origin : Grades
        Where they are from.
    """

    grades: pl.LazyFrame
    origin: Grades

    @property
    def frame(self) -> pl.LazyFrame:
        """The rows with their grades."""
        names = self.grades.collect_schema().names()
        rows = scanned(self.rows)
        others = [column(name) for name in rows.collect_schema().names() if name not in names]
        return pl.concat([rows.select(others), self.grades], how="horizontal")

    def check(self, columns: Iterable[tuple[str, str]]) -> pl.Schema:
        """Check columns as `Source.check`; those of the grades are numbers."""
        columns, schema = list(columns), self.grades.collect_schema()
        for name, expected in columns:
            if name in schema and not EXPECTED[expected](schema[name]):
                problem = f"column {name!r} of {self.name} is {schema[name]}"
                raise TypeError(f"{problem}; it must be {expected}")
        return super().check([one for one in columns if one[0] not in schema])


def graded(source: SourceLike, grades: str | Path, *, split: str | None = None) -> Source:
    """Join rows with their grades, lazily.

    Parameters
    ----------
    source : path, glob, sequence of these, LazyFrame or DataFrame
        What was graded, or any rows that have the key columns of the grades, some of them too.
    grades : path
        The folder that `gspo-rs grade` wrote.
    split : str, optional
        Which part of a data set that has several.

    Returns
    -------
    Source
        The rows with ``reward`` and a ``reward_`` and its name for each reward, to be given to any
        command. A column of the rows that has one of these names is not read.

    Raises
    ------
    ValueError
        If `grades` is no whole output of `gspo-rs grade` or a part of it has changed; if the files
        are not those that were graded and there are no keys; or a row has no grade, or its key
        another row too. Names the file or the row.
    OSError
        If something can't be read.

    Notes
    -----
    The parts are read once for their digests. Where the files are those that were graded, by size
    and time of change, rows and grades lie side by side and nothing else is read. Otherwise the
    keys of all rows are, and their grades are held: 8 bytes a row and reward.
    """
    located, found = locate(source, split), grades_in(Path(grades))
    taken = [name for name in found.columns if name in located.check([])]
    if taken:
        names = " and ".join(map(repr, taken))
        _log.info("%s of %s, and not that of %s", names, found.folder, located.name)
    change = _changed(located, found)
    if change is None:
        beside = found.frame().select(map(column, found.columns))
    elif found.keys:
        beside = _by_key(located, found)
    else:
        raise ValueError(
            f"{change}, so the grades in {found.folder} may be of other rows; grade them again, or"
            " grade with --key, and grades are joined by it"
        )
    return GradedSource(
        rows=located.rows,
        name=located.name,
        files=located.files,
        names=located.names,
        behind=(*located.behind, *found.files),
        grades=beside,
        origin=found,
    )


def grades_in(folder: Path) -> Grades:
    """Open a folder that `gspo-rs grade` wrote, and check its parts against their digests.

    Raises
    ------
    ValueError
        If the run is not over, was another command's, or a part has changed.
    OSError
        If a file is not there or can't be read.
    """
    manifest = run_manifest(folder)
    if manifest.made_by != MADE_BY:
        raise ValueError(f"{folder} was made by `{manifest.made_by}`, not by `{MADE_BY}`")
    refuse_unfinished([folder])
    parts = sorted(ledger_of(folder), key=lambda part: part.name)
    for part in parts:
        path = folder / part.name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing")
        if path.stat().st_size != part.size or file_digest(path) != part.digest:
            raise ValueError(f"{path} has changed since it was written; grade again")
    return Grades(folder, manifest, parts)


def _changed(located: Source, found: Grades) -> str | None:
    """Say what of a source is not what was graded, as far as the manifest tells."""
    inputs: list[dict[str, Any]] = found.manifest.asked["inputs"]
    if not located.files:
        return f"{located.name} is no file that was graded"
    if len(located.files) != len(inputs):
        return f"{located.name} is {len(located.files)} files, and {len(inputs)} were graded"
    for file, given in zip(located.files, inputs, strict=True):
        stamp = Path(file).stat()
        if (stamp.st_size, stamp.st_mtime_ns) != (given.get("size"), given.get("mtime_ns")):
            return f"{file} is not, or not any more, what was graded"
    rows = located.count()
    return None if rows == found.n_rows else f"{located.name} has {rows} rows"


def _by_key(located: Source, found: Grades) -> pl.LazyFrame:
    """Return the grades of each row, found by its key."""
    keys = found.keys
    located.check([(name, KEY) for name in keys])
    graded_rows = Source(found.frame(), str(found.folder))
    graded_rows.check([(name, ANYTHING) for name in keys])
    theirs, mine = (
        source.collect([*_keys(source, keys), *map(column, more)])
        for source, more in ((graded_rows, found.columns), (located, ()))
    )
    names = mine.columns
    mine, theirs = _of_one_type(mine, theirs, keys, (located.name, found.folder))
    _refuse_repeated(mine, located)
    joined = mine.join(
        theirs.with_columns(pl.lit(True).alias("graded")),
        on=names,
        how="left",
        maintain_order="left",
        nulls_equal=True,
    )
    missing = joined["graded"].is_null()
    if missing.any():
        row = missing.arg_true()[0]
        raise ValueError(
            f"{located.place(row)} of {located.name}, with the key {_shown(mine.row(row))}, has no"
            f" grade in {found.folder} (nor have {missing.sum() - 1} more)"
        )
    return joined.select(map(column, found.columns)).lazy()


def _keys(source: Source, keys: Sequence[str]) -> list[pl.Expr]:
    return [source.key(name).alias(f"key {number}") for number, name in enumerate(keys)]


def _of_one_type(
    mine: pl.DataFrame, theirs: pl.DataFrame, keys: Sequence[str], names: Sequence[object]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return both with keys of the types that they share."""
    for column_name, key in zip(mine.columns, keys, strict=True):
        kinds = (mine.schema[column_name], theirs.schema[column_name])
        if (kind := _shared(*kinds)) is None:
            raise TypeError(
                f"the key {key!r} is {kinds[0]} in {names[0]} and {kinds[1]} in {names[1]}; give"
                " both one type"
            )
        mine, theirs = (frame.cast({column_name: kind}) for frame in (mine, theirs))
    return mine, theirs


def _refuse_repeated(mine: pl.DataFrame, located: Source) -> None:
    """Raise if two rows have the same key."""
    repeated = ~mine.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    if repeated.any():
        row = repeated.arg_true()[0]
        value = mine.row(row)
        both = located.both(mine.head(row).rows().index(value), row)
        raise ValueError(f"the key {_shown(value)} is at {both} of {located.name}")


def _shared(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the type that two keys have in common; None if they are never equal."""
    if one.is_integer() and other.is_integer():
        return pl.Int128()
    texts = (pl.String, pl.Categorical, pl.Enum)
    if one in texts and other in texts:
        return pl.String()
    return one if one == other else None


def _shown(values: tuple[Any, ...]) -> str:
    return repr(values[0] if len(values) == 1 else values)
