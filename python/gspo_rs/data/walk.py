"""Walk folders for files, visiting each folder once, whatever links point at it."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["matching", "place", "tree"]

ANY_DEPTH = "**"


def matching(pattern: str) -> list[str]:
    """List what a pattern matches, in the order of the names; ``**`` is folders of any depth.

    Notes
    -----
    `glob.glob` follows links to folders round and round, and finds the same files again.
    """
    return sorted(set(_matching(pattern)))


def place(file: str) -> str:
    """Return where a file is by its own name, with links in place of folders resolved.

    Two links to one file are at two places; a file below two links to one folder is at one.
    """
    path = Path(file).absolute()
    return str(Path(os.path.realpath(path.parent)) / path.name)


def tree(folder: Path, hidden: str = ".") -> Iterator[Path]:
    """Yield a folder and those below it, each once, under its own name before that of a link.

    Names that begin with a letter of `hidden` are passed over.

    Raises
    ------
    OSError
        If a folder can't be read: the files below it would be missing.
    """
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for root in waiting:
            if os.path.realpath(root) not in seen:
                yield from _own(root, hidden, seen, links)
        waiting = links


def _own(folder: Path, hidden: str, seen: set[str], links: list[Path]) -> Iterator[Path]:
    """Yield a folder and those below it that are no links; add these to `links`."""
    for root, names, _ in os.walk(folder, onerror=_refuse):
        seen.add(os.path.realpath(root))
        yield Path(root)
        names[:] = sorted(name for name in names if name[0] not in hidden)
        links += [path for name in names if (path := Path(root) / name).is_symlink()]


def _refuse(error: OSError) -> None:
    raise error


def _matching(pattern: str) -> Iterator[str]:
    parts = pattern.split("/")
    if ANY_DEPTH not in parts:
        yield from glob.glob(pattern)  # noqa: PTH207 - `Path.glob` takes no absolute pattern
        return
    first = parts.index(ANY_DEPTH)
    head, rest = "/".join(parts[:first]), "/".join(parts[first + 1 :])
    roots = [head] if first == 0 else _matching(head or "/")
    for root in roots:
        if first and not Path(root).is_dir():
            continue
        for folder in tree(Path(root)):
            # As it was given: without a dot for the working directory.
            below = "" if str(folder) == "." and not first else glob.escape(f"{folder}/")
            yield from _matching(below.replace("//", "/") + (rest or "*"))
