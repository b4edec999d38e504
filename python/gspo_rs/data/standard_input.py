"""Rows of standard input, kept in a nameless file so that they can be read twice."""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import cache
from typing import IO, Any

from gspo_rs.data.contents import contents
from gspo_rs.data.formats.text import TextFiles

__all__ = ["DASH", "NAME", "standard_input"]

# What stands for standard input in a command, and what errors call it.
DASH = "-"
NAME = "stdin"


def standard_input() -> TextFiles:
    """Return the rows of JSON Lines, or of a JSON array, that standard input gives.

    It is read once to its end, the first time that it is asked for.

    Raises
    ------
    ValueError
        If it is a terminal, or gives something else than text; says what.
    OSError
        If a line is wrong, with its number, or the disk for temporary files is full.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError(
            "- reads JSON Lines from standard input, and none come; pipe them in, as "
            "`cat rows.jsonl | gspo-rs …`, or name a file"
        )
    file = _kept(sys.stdin)
    # Opened by this path it is read from its start, each time.
    path = f"/proc/self/fd/{file.fileno()}"
    if (found := contents(path)) is not None:
        raise ValueError(f"{NAME} is {found[0]}; - takes JSON Lines: name the file instead")
    return TextFiles([path], None, names=[NAME])


@cache
def _kept(stream: Any) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process is
    shutil.copyfileobj(stream.buffer, file)
    file.flush()
    return file
