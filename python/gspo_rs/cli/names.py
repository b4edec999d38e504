"""Names of columns from options: repeated, or joined by commas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["STDIN", "named", "one_or_many", "with_stdin"]

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


def one_or_many(sources: Sequence[str]) -> Any:
    """Return a single source by itself, as errors name it."""
    return sources[0] if len(sources) == 1 else list(sources)


def named(given: Sequence[str] | None, source: Sequence[str]) -> list[str] | None:
    """Divide names at their commas, but for those of columns that have commas in their name.

    The columns of a stream on standard input are not known before it is read: its names are
    divided at every comma.

    Examples
    --------
    >>> named(["source,prompt_id", "task"], ["-"])
    ['source', 'prompt_id', 'task']
    """
    if given is None or not any("," in word for word in given):
        return None if given is None else list(given)
    known = _exists(source) if "-" not in source else lambda _: False
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


def _exists(source: Sequence[str]) -> Any:
    from gspo_rs.data.column_names import path_to
    from gspo_rs.files.resolve import resolve_source

    schema = resolve_source(one_or_many(source)).check([])
    return lambda name: path_to(schema, name) is not None
