"""Check, before any work is done, that a target file may be written."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from gspo_rs.data.paths import remote
from gspo_rs.data.source import Source
from gspo_rs.files.atomic import refuse_unreplaceable, resolved

__all__ = ["JSON", "checked_target", "refuse_read"]

JSON = (".jsonl", ".ndjson")

# How Polars shows what a query reads; of several files, the first.
_SCAN = re.compile(r"SCAN \[(.+?)(, \.\.\. \d+ other sources?)?\]$", re.MULTILINE)


def checked_target(
    given: str | Path,
    source: Source,
    suffixes: Sequence[str] = (".parquet", *JSON),
    *,
    overwrite: bool,
) -> Path:
    """Return the file to write, which is none that `source` reads, and may be replaced if there.

    A file is identified by its inode, so that links, hard links and other spellings of its path are
    it, too.

    Raises
    ------
    ValueError
        If its suffix is none of `suffixes`, if there are any, or it is one of the files to read,
        or may be one that a LazyFrame reads.
    OSError
        If it is a folder, is there without `overwrite`, or could not be replaced.
    """
    target = Path(given)
    if target.is_dir():
        example = f"{target}/out{''.join(suffixes[:1])}"
        raise IsADirectoryError(f"{target} is a folder; name a file in it, such as {example}")
    if suffixes and target.suffix.lower() not in suffixes:
        known = ", ".join(suffixes)
        raise ValueError(f"cannot tell the format of {str(target)!r} by its suffix; known: {known}")
    # Before it is resolved: /dev/stdout is a link to a pipe that has no path.
    if target.exists() and not target.is_file():
        raise OSError(
            f"{target} is neither a file nor a folder, but a device or a pipe; name a file, and "
            "read that one"
        )
    refuse_read(target, source)
    place = resolved(target)
    refuse_unreplaceable(place)
    if place.exists() and not overwrite:
        raise FileExistsError(
            f"{target} is there already; name another file, or replace it with --overwrite "
            "(overwrite=True); a glob in a command needs quotes"
        )
    return target


def refuse_read(target: Path, source: Source) -> None:
    """Raise a ValueError if a target is, or may be, one of the files that `source` reads."""
    place = resolved(target)
    if place.exists():
        found = place.stat()
        for file in (*source.files, *source.behind) or _scanned(source, target):
            if not remote(file) and os.path.samestat(found, Path(file).stat()):
                raise ValueError(f"{target} is one of the files to read; write to another one")


def _scanned(source: Source, target: Path) -> list[str]:
    """List the files that a LazyFrame reads, as its plan shows them."""
    files = []
    for file, others in _SCAN.findall(source.frame.explain(optimized=False)):
        # A glob that Polars has not looked at yet stands for itself.
        if others or not (remote(file) or Path(file).is_file()):
            problem = f"{target} may be one of the files that {source.name} reads"
            raise ValueError(f"{problem}; give it the paths of the files, or write to another name")
        files.append(file)
    return files
