"""The passes of a scoring run, one after the other, as bars on a terminal."""

from __future__ import annotations

from typing import Self

from gspo_rs.data.progress import Pass, passes

__all__ = ["Progress"]


class Progress:
    """One bar per pass, with rows per second and the time that remains."""

    _current: Pass | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            passes.end(self._current)

    def begin(self, name: str, rows: int | None) -> None:
        """Start the bar of the next pass over `rows` rows, None if nobody knows how many."""
        before, self._current = self._current, passes.begin(name, rows)
        if before is not None:
            passes.end(before)

    def advance(self, rows: int) -> None:
        """Note that `rows` more rows are done."""
        assert self._current is not None
        passes.advance(self._current, rows)
