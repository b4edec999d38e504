"""Atomic folders and files: written aside, fsynced, renamed, so that a crash leaves old or new."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASIDE = ".partial-"


@contextmanager
def directory(target: Path) -> Iterator[Path]:
    """Give a folder to write into, which takes the place of `target` when the block ends well.

    Parameters
    ----------
    target : Path
        Appears with everything in it, on the disk, or not at all. One that is there already is
        replaced; between its removal and the rename neither has the name.

    Yields
    ------
    Path
        A new folder beside `target`, which `sweep` removes if the process is killed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with directory(Path(folder) / "out") as partial:
    ...         _ = (partial / "a.txt").write_text("a")
    ...     sorted(path.name for path in Path(folder).rglob("*"))
    ['a.txt', 'out']
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{_ASIDE}{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        sync_tree(partial)
        remove(target)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync(target.parent)


def remove(target: Path) -> None:
    """Remove a folder so that a crash on the way leaves nothing of its name behind.

    Parameters
    ----------
    target : Path
        May be absent.
    """
    if target.is_dir():
        aside = target.with_name(f"{_ASIDE}old-{target.name}")
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)
        shutil.rmtree(aside)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written in `folder`.

    Parameters
    ----------
    folder : Path
        The parent of the targets.
    """
    for leftover in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@contextmanager
def file(target: Path) -> Iterator[Path]:
    """Give the name of a file to write, which takes the place of `target` when the block ends well.

    Parameters
    ----------
    target : Path
        Holds its old content or all of the new one, whatever happens.

    Yields
    ------
    Path
        A name beside `target`, which `sweep` removes if the process is killed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with file(Path(folder) / "a.txt") as partial:
    ...         _ = partial.write_text("a")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{_ASIDE}{target.name}")
    try:
        yield partial
        sync(partial)
        partial.rename(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(target.parent)


def write_text(target: Path, text: str) -> None:
    """Replace the text of a file at once.

    Parameters
    ----------
    target : Path
        Holds its old text or all of the new one, whatever happens.
    text : str
        Written in UTF-8.
    """
    with file(target) as partial:
        partial.write_text(text, encoding="utf-8")


def sync_tree(folder: Path) -> None:
    """Bring a folder and all that lies below it to the disk.

    Parameters
    ----------
    folder : Path
        Its files and folders are synced one by one.
    """
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Bring one file or folder to the disk.

    Parameters
    ----------
    path : Path
        A folder's sync makes the names in it last.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
