"""Whether a file may be written where it is asked for: seen before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gspo_rs.atomic import refuse_unreplaceable, resolved

__all__ = ["refuse_taken"]


def refuse_taken(target: Path, files: Iterable[str], *, overwrite: bool) -> None:
    """Raise if `target` is one of `files`, which are read, or is there and may not be replaced.

    A file is told by its inode, so that links, hard links and other spellings of its path are
    it, too.

    Raises
    ------
    ValueError
        If it is one of the files to read.
    OSError
        If it is there without `overwrite`, or could not be replaced.
    """
    place = resolved(target)
    if place.exists():
        found = place.stat()
        for file in files:
            if os.path.samestat(found, Path(file).stat()):
                raise ValueError(f"{target} is one of the files to read; write to another one")
    refuse_unreplaceable(place)
    if place.exists() and not overwrite:
        raise FileExistsError(
            f"{target} is there already; name another file, or replace it with --overwrite "
            "(overwrite=True); a glob in a command needs quotes"
        )
