"""Errors of a full disk, reported for the output whichever library raised them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_full", "naming"]

# No space left, no quota left, larger than a file may be.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How libraries in Rust end the text of such an error.
_IN_TEXT = re.compile(rf"\(os error ({'|'.join(map(str, _FULL))})\)")


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the disk is full.

    Examples
    --------
    >>> is_full(OSError(errno.ENOSPC, "No space left on device")), is_full(OSError("gone"))
    (True, False)
    """
    return _number(error) is not None


@contextmanager
def naming(target: str | Path) -> Iterator[None]:
    """Add the name of the output to an error about a full disk.

    Raises
    ------
    OSError
        In place of such an error, unless it says already what can't be written.
    """
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number is None or "cannot write " in str(error):
            raise
        raise OSError(f"cannot write {target}: {os.strerror(number)}") from error


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in _FULL:
        return error.errno
    found = _IN_TEXT.search(str(error))
    return int(found[1]) if found else None
