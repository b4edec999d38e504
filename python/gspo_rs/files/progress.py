"""How far a long run is: bars on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.text import Text

__all__ = ["Progress"]


class Progress:
    """One bar per pass, with rows per second and the time that remains."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:10}"),
            BarColumn(),
            _Speed("{task.completed:>14,.0f} rows"),
            TimeRemainingColumn(),
        )
        console = Console(file=sys.stderr)
        self._bars = Bars(*columns, console=console, disable=not sys.stderr.isatty())

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin(self, name: str, rows: int | None) -> None:
        """Start the bar of the next pass over `rows` rows, None if nobody knows how many."""
        self._current = self._bars.add_task(name, total=rows)

    def advance(self, rows: int) -> None:
        """Note that `rows` more rows are done."""
        self._bars.advance(self._current, rows)


class _Speed(TextColumn):
    """Rows, and rows per second."""

    def render(self, task: Bar) -> Text:
        """Write the cell of one bar."""
        speed = f" {task.speed:,.0f}/s" if task.speed else ""
        return super().render(task) + Text(speed)
