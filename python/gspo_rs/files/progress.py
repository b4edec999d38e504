"""How far a long run is: bars on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

__all__ = ["Progress"]


class Progress:
    """One bar per pass, with rows per second and the time that remains."""

    def __init__(self) -> None:
        self._bars = None
        if sys.stderr.isatty():
            # Here, because loading it takes longer than scoring a small file.
            from gspo_rs.files.bars import bars

            self._bars = bars(sys.stderr)

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    def begin(self, name: str, rows: int | None) -> None:
        """Start the bar of the next pass over `rows` rows, None if nobody knows how many."""
        if self._bars:
            self._current = self._bars.add_task(name, total=rows)

    def advance(self, rows: int) -> None:
        """Note that `rows` more rows are done."""
        if self._bars:
            self._bars.advance(self._current, rows)
