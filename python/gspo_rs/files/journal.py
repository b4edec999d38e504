"""A file of numbered lines that a crash can cut off and nobody can change unseen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gspo_rs.files.digested_json import seal, unseal

__all__ = ["Journal"]


class Journal:
    """A file of JSON lines, each with its number and a digest, that grows by one line at a time.

    Parameters
    ----------
    path : Path
        May be absent.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     journal = Journal(Path(folder) / "journal.jsonl")
    ...     journal.append(part="a")
    ...     with journal.path.open("a") as file:
    ...         _ = file.write('{"line": 1, "par')
    ...     Journal(journal.path).read()
    [{'part': 'a'}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = 0

    def append(self, **facts: Any) -> None:
        """Write one more line, to the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(seal({"line": self._lines, **facts}))
            file.flush()
            os.fsync(file.fileno())
        self._lines += 1

    def read(self, *, whole: bool = False, cut: bool = True) -> list[dict[str, Any]]:
        """Return what the lines say, up to the first that a crash has cut off or somebody changed.

        Parameters
        ----------
        whole : bool
            Whether only the last line, which alone a crash can spoil, may be such a one.
        cut : bool
            Whether to cut it off, with what follows: the next line would be appended to half a one.

        Raises
        ------
        ValueError
            If `whole`, and lines follow one that cannot be read; names it.
        """
        found: list[dict[str, Any]] = []
        if not self.path.exists():
            return found
        size = 0
        with self.path.open("rb") as file:
            for line in file:
                facts = _facts(line)
                if facts is None or facts.pop("line", None) != len(found):
                    break
                found.append(facts)
                size += len(line)
            if whole and any(_facts(line) is not None for line in file):
                raise ValueError(f"line {len(found) + 1} of {self.path} was damaged or edited")
        if cut and size < self.path.stat().st_size:
            os.truncate(self.path, size)
        self._lines = len(found)
        return found

    def begin(self) -> None:
        """Start afresh, without lines."""
        with self.path.open("wb") as file:
            os.fsync(file.fileno())
        self._lines = 0


def _facts(line: bytes) -> dict[str, Any] | None:
    """Return what a whole line says, or None."""
    try:
        return unseal(line.decode("utf-8")) if line.endswith(b"\n") else None
    except ValueError:
        return None
