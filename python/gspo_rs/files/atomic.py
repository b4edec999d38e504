"""Atomic writes of folders and files: a crash leaves the old one or the new one, never a mix.

Everything that is written goes the same way: into a private folder beside the target, whose name
nobody can predict and which is locked as long as its process lives; to the disk; then to the name
of the target in one step of the kernel. What is replaced goes only after that step.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gspo_rs._core import exchange
from gspo_rs.data.full_disk import naming
from gspo_rs.files.replacement import refuse_unreplaceable, resolved, sync, sync_tree
from gspo_rs.files.temporary import aside, sweep

__all__ = [
    "directory",
    "file",
    "put_directory",
    "put_file",
    "refuse_unreplaceable",
    "remove",
    "resolved",
    "sweep",
    "sync",
    "sync_tree",
    "write_text",
]


@contextmanager
def directory(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target` if the block succeeds.

    Parameters
    ----------
    target : Path
        Appears with everything in it, on the disk, or not at all. One that is there already stays
        whole until the new one has its name; the new one takes its modes. A link stays, and what
        it points at is replaced.
    overwrite : bool
        Whether a folder that has anything in it may be replaced.

    Yields
    ------
    Path
        A new folder in a private one beside `target`, which the next writer sweeps away if the
        process is killed.

    Raises
    ------
    OSError
        If `target` can't be replaced; as `refuse_unreplaceable`, before anything is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with directory(Path(folder) / "out") as partial:
    ...         _ = (partial / "a.txt").write_text("a")
    ...     sorted(path.name for path in Path(folder).rglob("*"))
    ['a.txt', 'out']
    """
    target = resolved(target)
    refuse_unreplaceable(target)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file, not a folder")
    with naming(target), aside(target.parent) as folder:
        partial = folder / target.name
        partial.mkdir()
        yield partial
        put_directory(partial, target, overwrite=overwrite)


@contextmanager
def file(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary file name that replaces `target` if the block succeeds.

    Parameters
    ----------
    target : Path
        Holds its old content or all of the new one, whatever happens. The new file takes the mode
        of the old one. A link stays, and what it points at is replaced.
    overwrite : bool
        Whether a file that is there, or appears meanwhile, may be replaced.

    Yields
    ------
    Path
        A name in a private folder beside `target`, which the next writer sweeps away if the
        process is killed.

    Raises
    ------
    OSError
        If `target` can't be replaced; as `refuse_unreplaceable`, before anything is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with file(Path(folder) / "a.txt") as partial:
    ...         _ = partial.write_text("a")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    target = resolved(target)
    refuse_unreplaceable(target)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder, not a file")
    with naming(target), aside(target.parent) as folder:
        partial = folder / target.name
        yield partial
        put_file(partial, target, overwrite=overwrite)


def write_text(target: Path, text: str, *, overwrite: bool = True) -> None:
    """Replace the text of a file atomically.

    Parameters
    ----------
    target : Path
        Holds its old text or all of the new one, whatever happens.
    text : str
        Written in UTF-8.
    overwrite : bool
        Whether a file that is there may be replaced.
    """
    with file(target, overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf-8")


def remove(target: Path) -> None:
    """Remove a folder atomically: a crash leaves nothing under its name.

    Parameters
    ----------
    target : Path
        May be absent. Of a link, the link alone goes.
    """
    if target.is_symlink():
        target.unlink()
    elif target.is_dir():
        with aside(target.parent) as folder:
            target.rename(folder / target.name)


def put_directory(new: Path, target: Path, *, overwrite: bool) -> None:
    """Let a folder that is whole take the place of another, which gets its name if it is there.

    Parameters
    ----------
    new : Path
        On the file system of `target`, in a folder that nobody else can write.
    target : Path
        Resolved; absent, or a folder.
    overwrite : bool
        Whether a folder that has anything in it may be replaced.
    """
    sync_tree(new, target)
    taken = target.is_dir() and any(target.iterdir())
    if taken and not overwrite:
        raise _appeared(target)
    if taken:
        exchange(new, target)
    else:
        try:
            new.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise _appeared(target) from error
    sync(target.parent)


def put_file(new: Path, target: Path, *, overwrite: bool) -> None:
    """Let a file that is whole take the place of another, as `put_directory` does a folder."""
    sync(new, target)
    _put_file(new, target, overwrite=overwrite)
    sync(target.parent)


def _put_file(new: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite:
        new.rename(target)
        return
    try:
        # Unlike a rename this replaces nothing that has appeared meanwhile.
        os.link(new, target, follow_symlinks=False)
    except FileExistsError:
        raise _appeared(target) from None
    except OSError:
        # A file system without links. Only here another process can come between the two steps.
        if os.path.lexists(target):
            raise _appeared(target) from None
        new.rename(target)


def _appeared(target: Path) -> FileExistsError:
    return FileExistsError(
        f"another process has written {target} meanwhile; it is left as it is, write elsewhere"
    )
