"""One writer at a time: a lock that the kernel lets go when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]


@contextmanager
def locked(path: Path, target: Path) -> Iterator[None]:
    """Hold the lock file `path`, which the caller may remove.

    Raises
    ------
    RuntimeError
        If another process holds it; names `target`.
    """
    handle = _acquire(path, target)
    try:
        yield
    finally:
        os.close(handle)


def _acquire(path: Path, target: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            problem = f"another process is writing {target}; wait for it, or choose another output"
            raise RuntimeError(problem) from None
        # Whoever held it before may have removed the file that we have opened.
        if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
            return handle
        os.close(handle)
