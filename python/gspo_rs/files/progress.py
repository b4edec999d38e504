"""How far a long run is: bars on a terminal, nothing anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

__all__ = ["Progress"]


class Progress:
    """One bar per pass, with rows per second and the time that remains."""

    def __init__(self) -> None:
        self._bars = _bars() if sys.stderr.isatty() else None

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
