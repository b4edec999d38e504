"""Where a page comes from: the names of its files, and the command that makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath

from gspo_rs._core import __version__
from gspo_rs.data.source import Source

__all__ = ["Origin", "arguments", "command", "made", "shown"]


@dataclass(frozen=True)
class Origin:
    """The name of the source, when and by which version the page was made, and the command.

    `keep` is the command that keeps the groups with a signal.
    """

    name: str
    made: str
    version: str
    command: str
    keep: str


def shown(source: Source) -> str:
    """Return the name of the file without its folders, of the first one if there are several.

    Examples
    --------
    >>> import polars as pl
    >>> from gspo_rs.data.source import locate
    >>> shown(locate(pl.DataFrame({"reward": [1.0]})))
    'the DataFrame'
    """
    files = source.files
    if not files:
        local = PurePath(source.name).is_absolute() or Path(source.name).exists()
        return PurePath(source.name).name if local else source.name
    first = PurePath(files[0]).name
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"


def command(verb: str, source: Source, options: Mapping[str, object]) -> str:
    """Write a command line, to be run where the files are, or a call for rows in memory.

    Options that are None are left out; those with several values are repeated.
    """
    if not source.files and source.name.startswith(("the ", "a ", "an ")):
        given = [f"{name}={value!r}" for name, value in options.items() if value is not None]
        return f"gs.{verb}({', '.join([source.name.removeprefix('the ').lower(), *given])})"
    words = ["gspo-rs", verb, *arguments(source)]
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [value]
        for one in values:
            if one is not None:
                words += [f"--{name.replace('_', '-')}", str(one)]
    return " ".join(map(shlex.quote, words))


def made(source: Source, options: Mapping[str, object], keep: Mapping[str, object]) -> Origin:
    """Return where a page comes from that is made now, with the options that it was made with.

    Those of `keep` are of the command that keeps the groups with a signal.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    kept = command("filter", source, keep)
    kept += " -o kept.parquet" if kept.startswith("gspo-rs") else ""
    return Origin(shown(source), now, __version__, command("report", source, options), kept)


def arguments(source: Source) -> Sequence[str]:
    """Return the files as they are named in their folder, more than three as a glob."""
    names = [PurePath(file).name for file in source.files] or [shown(source)]
    # A long list says no more than its kind.
    suffixes = sorted({PurePath(name).suffix for name in names})
    return names if len(names) <= 3 else [f"*{suffix}" for suffix in suffixes]
