"""Names of columns from options: repeated, or joined by commas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["STDIN", "named", "place", "with_stdin"]

# Stands for `-`, which cyclopts would take for an option; no word of a command line has a NUL.
STDIN = "\0"


def with_stdin(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with `STDIN` in place of a dash that is a source.

    Examples
    --------
    >>> with_stdin(["scan", "-", "-o", "-"]) == ["scan", STDIN, "-o", "-"]
    True
    """
    before = ["", *words]
    return [
        STDIN if word == "-" and last not in ("-o", "--output") else word
        for last, word in zip(before, words, strict=False)
    ]


def place(sources: Sequence[str], split: str | None = None, grades: Path | None = None) -> Any:
    """Return what a command reads: a single source by itself, as errors name it.

    A `split` is looked for at once, and `grades` are joined.
    """
    found = sources[0] if len(sources) == 1 else list(sources)
    if grades is not None:
        from gspo_rs.files.grades import graded

        return graded(found, grades, split=split)
    if split is None:
        return found
    from gspo_rs.data.source import locate

    return locate(found, split)


def named(given: Sequence[str] | None, source: Any) -> list[str] | None:
    """Divide names at their commas, but for those of columns that have commas in their name.

    Examples
    --------
    >>> import polars as pl
    >>> named(["a,b", "b,c"], pl.DataFrame({"a,b": [1], "b": [2], "c": [3]}))
    ['a,b', 'b', 'c']
    """
    if given is None or not any("," in word for word in given):
        return None if given is None else list(given)
    known = _exists(source)
    return [name for word in given for name in _divided(word.split(","), known)]


def _divided(parts: Sequence[str], known: Any) -> Iterable[str]:
    """Yield the longest names that exist, from the left, and single parts otherwise."""
    start = 0
    while start < len(parts):
        for stop in range(len(parts), start, -1):
            name = ",".join(parts[start:stop])
            if stop == start + 1 or known(name):
                yield name if known(name) else name.strip()
                start = stop
                break


def _exists(source: Any) -> Any:
    from gspo_rs.data.column_names import path_to
    from gspo_rs.files.resolve import resolve_source

    schema = resolve_source(source).check([])
    return lambda name: path_to(schema, name) is not None
