"""Files of one format whose columns differ: read as one table, each type widened exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from gspo_rs.data.column_names import column, free_name
from gspo_rs.data.frames import reading
from gspo_rs.groups.checks import EXACT

__all__ = ["UnionFiles", "is_wide", "refuse_mixed_keys", "refuse_partial", "union"]

TEXTS = (pl.String, pl.Categorical, pl.Enum)
SIGNED: tuple[pl.DataType, ...] = (pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.Int128())
UNSIGNED: tuple[pl.DataType, ...] = (pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64())
# Digits of the widest decimal that Polars makes; Arrow has wider ones.
WIDEST = 38


@dataclass(frozen=True)
class UnionFiles:
    """Files whose columns differ in their types, in their number or in their order.

    Attributes
    ----------
    frames : tuple of LazyFrame
        The rows of each file.
    files : tuple of str
        What errors call them.
    found : dict of str to dict of DataType to str
        Of each column its types, and the first file with each, by first appearance.
    """

    frames: tuple[pl.LazyFrame, ...]
    files: tuple[str, ...]
    found: dict[str, dict[pl.DataType, str]] = field(default_factory=dict)

    @cached_property
    def types(self) -> dict[str, pl.DataType]:
        """Return the type of each column that the types of all files go into exactly."""
        found: dict[str, pl.DataType] = {}
        for name, types in self.found.items():
            kind: pl.DataType | None = pl.Null()
            for other in types:
                kind = _common(kind, other)
            # A decimal of more digits can be read past, but neither be made nor cast.
            if kind is not None and not is_wide(kind):
                found[name] = kind
        return found

    def frame(self) -> pl.LazyFrame:
        """Return the rows of all files, null where one lacks a column."""
        types = self.types
        frames = zip(self.frames, self.files, strict=True)
        return pl.concat([_widened(frame, file, types) for frame, file in frames])

    def only(self, number: int) -> pl.LazyFrame:
        """Return the rows of one file with its own columns, whole numbers and texts widened."""
        frame, types = self.frames[number], self.types
        schema = frame.collect_schema()
        kinds = {name: types[name] for name, kind in schema.items() if name in types}
        alike = {name for name, kind in kinds.items() if _alike(schema[name], kind)}
        return frame.with_columns(column(name).cast(kinds[name]) for name in kinds if name in alike)

    def refuse_differing(self, name: str, *, key: bool) -> None:
        """Raise a TypeError if a column has types that do not go together, with a file of each."""
        types = self.found.get(name, {})
        if key:
            refuse_mixed_keys(name, types)
        if types and name not in self.types:
            raise TypeError(f"{_listed(name, types)}; make them one type, or drop the column")


def is_wide(kind: pl.DataType) -> bool:
    """Tell whether a type is a decimal of more digits than Polars has, which Arrow can have."""
    return isinstance(kind, pl.Decimal) and kind.precision > WIDEST


def refuse_partial(rows: object) -> None:
    """Raise a TypeError if a column of a union has no one type, for whoever needs all columns."""
    if isinstance(rows, UnionFiles):
        for name in rows.found:
            rows.refuse_differing(name, key=False)


def refuse_mixed_keys(name: str, types: dict[pl.DataType, str]) -> None:
    """Raise a TypeError if ids of several kinds would be compared, with a file of each."""
    kinds = {_kind(kind): (kind, file) for kind, file in types.items() if kind != pl.Null}
    if len(kinds) > 1:
        found = _listed(name, dict(kinds.values()))
        raise TypeError(f"{found}; ids of several types are not compared, make them one type")


def union(frames: Sequence[pl.LazyFrame], files: Sequence[str]) -> UnionFiles | None:
    """Return the union of some files, or None where all have the same columns and types.

    Raises
    ------
    OSError
        If a file can't be read; names it.

    Examples
    --------
    >>> one, other = pl.LazyFrame({"a": [1], "b": [2]}), pl.LazyFrame({"b": [0.5], "c": ["x"]})
    >>> union([one, other], ["one", "other"]).frame().collect().rows()
    [(1, 2.0, None), (None, 0.5, 'x')]
    """
    schemas = [_schema(frame, file) for frame, file in zip(frames, files, strict=True)]
    if all(list(schema.items()) == list(schemas[0].items()) for schema in schemas[1:]):
        return None
    found: dict[str, dict[pl.DataType, str]] = {}
    for schema, file in zip(schemas, files, strict=True):
        for name, kind in schema.items():
            found.setdefault(name, {}).setdefault(kind, file)
    return UnionFiles(tuple(frames), tuple(files), found)


def _schema(frame: pl.LazyFrame, file: str) -> pl.Schema:
    with reading(lambda: file):
        return frame.collect_schema()


def _widened(frame: pl.LazyFrame, file: str, types: dict[str, pl.DataType]) -> pl.LazyFrame:
    """Return the columns of `types` of one file, in these types, null where it lacks one."""
    schema = frame.collect_schema()
    number = free_name([*schema, *types], "row")
    columns: list[pl.Expr] = []
    for name, kind in types.items():
        if name not in schema:
            columns.append(pl.lit(None, kind).alias(name))
        elif schema[name].is_integer() and kind.is_float():
            columns.append(_exact(name, file, number))
        else:
            columns.append(column(name).cast(kind) if schema[name] != kind else column(name))
    return frame.with_row_index(number).select(columns)


def _exact(name: str, file: str, number: str) -> pl.Expr:
    """Make float64 of whole numbers, refusing those that are none; `number` has those of rows."""

    def checked(given: pl.Series) -> pl.Series:
        values = given.struct.field(name)
        beyond = (values >= EXACT) | (values <= -EXACT)
        if beyond.any():
            first = given.filter(beyond)[0]
            raise ValueError(
                f"column {name!r} of {file} is {first[name]} at row {first[number]}, which float64 "
                "does not hold for sure, and other files have floats there; scale it down"
            )
        return values.cast(pl.Float64)

    given = pl.struct(column(name), column(number)).alias(name)
    return given.map_batches(checked, return_dtype=pl.Float64, is_elementwise=True)


def _common(one: pl.DataType | None, other: pl.DataType | None) -> pl.DataType | None:
    """Return the type that both go into without a loss, None if there is none."""
    if one is None or other is None:
        return None
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    if one in TEXTS and other in TEXTS:
        return pl.String()
    kinds = {_kind(one), _kind(other)}
    if kinds <= {"bool", "int", "float"}:
        return pl.Float64() if "float" in kinds else _integer(one, other)
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = _common(one.inner, other.inner)  # type: ignore[arg-type]
        return None if inner is None else pl.List(inner)
    return None


def _integer(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the narrowest integer type that holds both; a bool counts as one bit."""
    given = [pl.UInt8() if kind == pl.Boolean else kind for kind in (one, other)]
    for types in (UNSIGNED, SIGNED):
        for kind in types:
            if all(_holds(kind, part) for part in given):
                return kind
    return None


def _holds(kind: pl.DataType, part: pl.DataType) -> bool:
    if part in SIGNED:
        return kind in SIGNED and SIGNED.index(part) <= SIGNED.index(kind)
    if part in UNSIGNED:
        place = UNSIGNED.index(part)
        return place <= UNSIGNED.index(kind) if kind in UNSIGNED else place < SIGNED.index(kind)
    return False


def _kind(kind: pl.DataType) -> str:
    if kind == pl.Boolean:
        return "bool"
    if kind in TEXTS:
        return "text"
    return "int" if kind.is_integer() else "float" if kind.is_float() else str(kind)


def _alike(own: pl.DataType, kind: pl.DataType) -> bool:
    """Return whether a file's own type is another type of the same kind."""
    return own != kind and _kind(own) == _kind(kind) != "float"


def _listed(name: str, types: dict[pl.DataType, str]) -> str:
    (one, here), *more = types.items()
    if not more:
        return f"column {name!r} is {one} in {here}, which is not read here"
    other, there = more[0]
    return f"column {name!r} is {one} in {here}, but {other} in {there}"
