"""One writer at a time: a file lock that the kernel releases when the process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LockedError", "let_go", "locked", "mine_alone", "try_lock"]

# Handles of locks. A child that is forked has them too, and would hold the locks of a parent that
# is gone.
_handles: set[int] = set()


class LockedError(RuntimeError):
    """Another process writes the same target."""


@contextmanager
def locked(path: Path, target: Path) -> Iterator[None]:
    """Hold the lock file `path`; the caller may remove it.

    Raises
    ------
    LockedError
        If another process holds it; names `target`.
    """
    handle = _acquire(path, target)
    mine_alone(handle)
    try:
        yield
    finally:
        let_go(handle)


def try_lock(path: Path, flags: int, *, needed: bool = True) -> int | None:
    """Open and lock what is no link, or return None if it was taken away meanwhile.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    OSError
        If it can't be opened, or the file system has no locks and one is `needed`.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if needed or isinstance(error, BlockingIOError):
            os.close(handle)
            raise
    # Whoever held it before may have removed what we have opened.
    if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
        return handle
    os.close(handle)
    return None


def mine_alone(handle: int) -> None:
    """Keep the handle of a lock out of forked children."""
    _handles.add(handle)


def let_go(handle: int) -> None:
    """Close the handle of a lock once, in the process that holds it."""
    if handle in _handles:
        _handles.discard(handle)
        os.close(handle)


def _forget() -> None:
    for handle in list(_handles):
        let_go(handle)


os.register_at_fork(after_in_child=_forget)


def _acquire(path: Path, target: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = try_lock(path, os.O_CREAT | os.O_RDWR)
        except BlockingIOError:
            problem = f"another process is writing {target}; wait for it, or choose another output"
            raise LockedError(problem) from None
        if handle is not None:
            return handle
