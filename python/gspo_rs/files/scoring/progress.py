"""Progress bars of a long run: shown on a terminal only."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

__all__ = ["Progress"]


class Progress(ExitStack):
    """One bar per pass, with rows per second and the time that remains."""

    _bars: Bars | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = self.enter_context(_bars())
        return self

    def begin(self, name: str, rows: int | None) -> None:
        """Start the bar of the next pass over `rows` rows, None if nobody knows how many."""
        if self._bars:
            self._current = self._bars.add_task(name, total=rows)

    def advance(self, rows: int) -> None:
        """Note that `rows` more rows are done."""
        if self._bars:
            self._bars.advance(self._current, rows)


def _bars() -> Bars:
    """Make a bar per pass."""
    # Here, because loading it takes longer than scoring a small file.
    from rich.console import Console
    from rich.progress import BarColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Speed(TextColumn):
        def render(self, task: Task) -> Text:
            speed = f" {task.speed:,.0f}/s" if task.speed else ""
            return super().render(task) + Text(speed)

    return Bars(
        TextColumn("{task.description:10}"),
        BarColumn(),
        Speed("{task.completed:>14,.0f} rows"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )
