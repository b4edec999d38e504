"""Private staging folders next to a target, locked while their process lives."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gspo_rs.files.lock import let_go, mine_alone, try_lock

__all__ = ["aside", "is_aside", "sweep"]

_log = logging.getLogger("gspo_rs")

_FLAGS = os.O_RDONLY | os.O_DIRECTORY
_PREFIX, _SUFFIX = ".partial-", ".gspo-rs"
_NAME = re.compile(rf"{re.escape(_PREFIX)}\w+{re.escape(_SUFFIX)}")


@contextmanager
def aside(parent: Path) -> Iterator[Path]:
    """Yield a private folder next to the target and remove it afterwards.

    Parameters
    ----------
    parent : Path
        Made if absent. What killed processes have left in it is swept away.

    Yields
    ------
    Path
        A folder whose name nobody can predict and that is open to nobody else. It is locked until
        it is removed, so that no other process takes it for a leftover.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder, handle = _made(parent)
    try:
        mine_alone(handle)
        yield folder
    finally:
        _remove(folder)
        if folder.exists():
            _log.warning("%s could not be removed; nothing needs it any more", folder)
        let_go(handle)


def is_aside(name: str) -> bool:
    """Return whether a folder has a name that `aside` gives.

    Examples
    --------
    >>> is_aside(".partial-k2n5_x8q.gspo-rs"), is_aside("out")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove unfinished folders that killed processes left in `folder`.

    Parameters
    ----------
    folder : Path
        The parent of the targets. Only what this module made there is looked at: folders with its
        names, which are no links.
    """
    with os.scandir(folder) as entries:
        named = [entry.path for entry in entries if is_aside(entry.name)]
    for leftover in named:
        # Someone else's, or one whose process lives, or gone by now: not ours to remove.
        with suppress(OSError):
            handle = try_lock(Path(leftover), _FLAGS)
            if handle is not None:
                if os.fstat(handle).st_uid == os.geteuid():
                    shutil.rmtree(leftover, ignore_errors=True)
                os.close(handle)


def _made(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=_PREFIX, suffix=_SUFFIX))
        try:
            # A sweeper may come before the lock.
            with suppress(FileNotFoundError, BlockingIOError):
                handle = try_lock(folder, _FLAGS, needed=False)
                if handle is not None:
                    return folder, handle
        except BaseException:
            _remove(folder)
            raise


def _remove(folder: Path) -> None:
    """Remove a folder, also where Ctrl-C comes in the middle of that."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
