"""The bars of a terminal."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["bars"]


def bars(terminal: TextIO) -> Progress:
    """Make a bar per pass, with rows per second and the time that remains."""
    return Progress(
        TextColumn("{task.description:10}"),
        BarColumn(),
        _Speed("{task.completed:>14,.0f} rows"),
        TimeRemainingColumn(),
        console=Console(file=terminal),
    )


class _Speed(TextColumn):
    """Rows, and rows per second."""

    def render(self, task: Task) -> Text:
        """Write the cell of one bar."""
        speed = f" {task.speed:,.0f}/s" if task.speed else ""
        return super().render(task) + Text(speed)
