"""Replacing an old output: whether it is possible, and what is kept of the old one."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from gspo_rs._core import exchange
from gspo_rs.files.temporary import aside

__all__ = ["refuse_unreplaceable", "resolved", "sync", "sync_tree"]

_MOUNTS = Path("/proc/self/mountinfo")
# What a file system answers that does not know the exchange of two names.
_UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def resolved(target: Path) -> Path:
    """Return the path to write: the path itself, or the target of a link.

    Parameters
    ----------
    target : Path
        May be absent.

    Raises
    ------
    OSError
        If links point at each other.
    """
    path = Path(os.path.realpath(target))
    if path.is_symlink():
        raise OSError(errno.ELOOP, "its links point at each other", str(target))
    return path


def refuse_unreplaceable(target: Path) -> None:
    """Raise before the work starts if `target` could not be replaced atomically.

    Parameters
    ----------
    target : Path
        As given to `directory` or `file`. May be absent.

    Raises
    ------
    OSError
        If it is a mount point, is neither file nor folder, can't be written beside, or is a folder
        on a file system that can't exchange two names.
    """
    target = resolved(target)
    if _is_mount(target):
        remedy = f"name a folder in it, such as {target}/out" if target.is_dir() else "name another"
        raise OSError(f"{target} is a mount point, which can't be replaced; {remedy}")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OSError(f"{target} is neither a file nor a folder; write to another name")
    written = [next(parent for parent in target.parents if parent.exists())]
    if not written[0].is_dir():
        raise NotADirectoryError(f"{written[0]} is no folder, so {target} cannot be in it")
    if target.is_dir() and any(target.iterdir()):
        written.append(target)
    for folder in written:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "may not be written in", str(folder))
    if target in written:
        _try_exchange(target)


def sync_tree(folder: Path, like: Path | None = None) -> None:
    """Flush a folder and everything below it to disk (fsync).

    Parameters
    ----------
    folder : Path
        Its files and folders are synced one by one.
    like : Path, optional
        A folder whose modes it takes, as do files and folders those of the same name there.
    """
    for path in sorted(folder.rglob("*")):
        old = None if like is None else like / path.relative_to(folder)
        sync(path, old)
    sync(folder, like)


def sync(path: Path, like: Path | None = None) -> None:
    """Flush one file or folder to disk (fsync).

    Parameters
    ----------
    path : Path
        A folder's sync makes the names in it last.
    like : Path, optional
        Whose mode, owner and group it takes, if there is anything of that name.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        if like is not None and like.exists() and not like.is_symlink():
            _take_mode(handle, like.stat())
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_mode(handle: int, old: os.stat_result) -> None:
    mode, now = stat.S_IMODE(old.st_mode), os.fstat(handle)
    if old.st_gid != now.st_gid and not _gives(handle, -1, old.st_gid):
        # Another group is not meant by the bits of the old one.
        mode &= ~0o070 | (mode & 0o007) << 3
    if old.st_uid != now.st_uid:
        _gives(handle, old.st_uid, -1)
    os.fchmod(handle, mode)


def _gives(handle: int, user: int, group: int) -> bool:
    try:
        os.fchown(handle, user, group)
    except PermissionError:
        return False
    return True


def _is_mount(path: Path) -> bool:
    """Tell whether a file system, or a part of one, is mounted at `path`, folder or file."""
    if os.path.ismount(path):
        return True
    if not _MOUNTS.exists():
        return False
    # Only here does a bind mount of the same file system differ from a plain folder.
    with _MOUNTS.open("rb") as lines:
        places = (line.split(b" ")[4] for line in lines)
        plain = (
            re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), at) for at in places
        )
        return os.fsencode(path) in plain


def _try_exchange(target: Path) -> None:
    with aside(target.parent) as folder:
        one, other = folder / "one", folder / "other"
        one.mkdir()
        other.mkdir()
        try:
            exchange(one, other)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
            problem = f"the file system of {target} can't exchange a folder for another at once"
            raise OSError(f"{problem}; remove it first, or choose another output") from error
