"""A table that would be written, returned as a DataFrame where no target is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec, Protocol, cast, overload

import polars as pl

from gspo_rs.data.source import SourceLike
from gspo_rs.files.writer import WriteSummary

__all__ = ["Writer", "frame_without_target"]

P = ParamSpec("P")


class Writer(Protocol[P]):
    """A function that writes a table to `target`, or returns it if there is none."""

    @overload
    def __call__(
        self, source: SourceLike, target: None = None, *args: P.args, **kwargs: P.kwargs
    ) -> pl.DataFrame: ...

    @overload
    def __call__(
        self, source: SourceLike, target: str | Path, *args: P.args, **kwargs: P.kwargs
    ) -> WriteSummary: ...


def frame_without_target(
    write: Callable[Concatenate[SourceLike, str | Path, P], WriteSummary],
) -> Writer[P]:
    """Let a function that writes a file return a DataFrame of its rows if `target` is None.

    The rows go through a Parquet file in the folder for temporary files, so that they are those
    of a file to the last bit, and are made with as little memory.

    Examples
    --------
    >>> @frame_without_target
    ... def copy(source, target):
    ...     source.write_parquet(target)
    >>> copy(pl.DataFrame({"id": [1, 2]}))["id"].to_list()
    [1, 2]
    """

    @wraps(write)
    def written(source: SourceLike, target: str | Path | None = None, **options: Any) -> Any:
        if target is not None:
            return write(source, target, **options)  # type: ignore[call-arg]
        with TemporaryDirectory(prefix="gspo_rs-") as folder:
            file = Path(folder) / "rows.parquet"
            write(source, file, **options)  # type: ignore[call-arg]
            return pl.read_parquet(file)

    found = signature(write)
    optional = [
        one.replace(default=None, annotation="str | Path | None") if name == "target" else one
        for name, one in found.parameters.items()
    ]
    written.__signature__ = found.replace(  # type: ignore[attr-defined]
        parameters=optional, return_annotation="WriteSummary | pl.DataFrame"
    )
    return cast("Writer[P]", written)
