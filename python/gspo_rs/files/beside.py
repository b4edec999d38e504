"""The hidden folder beside a target in which its next content grows until it takes its place."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["beside", "refuse_planted"]

# What file systems take as a name.
NAME_BYTES: Final = 255


def beside(target: Path, kind: str = "") -> Path:
    """Return the folder of a target, named after it as far as a name may be long.

    Examples
    --------
    >>> beside(Path("runs/out")).name, beside(Path("runs/out"), ".parts").name
    ('.out.gspo-rs', '.out.parts.gspo-rs')
    """
    given = f".{target.name}{kind}.gspo-rs"
    if len(os.fsencode(given)) > NAME_BYTES:
        given = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()}{kind}.gspo-rs"
    return target.parent / given


def refuse_planted(folder: Path) -> None:
    """Raise an OSError if what will be written in is a link, or was made by another user."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(f"{folder} is a link or another user's, and no run of yours: remove it")
