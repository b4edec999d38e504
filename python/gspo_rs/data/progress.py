"""Progress bars of what takes longer than two seconds: on standard error, on a terminal only."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

__all__ = ["Pass", "Passes", "counted", "passes", "silent", "under_way"]

# Seconds without a bar: most work is done by then, and loading the bars takes a while as well.
DELAY = 2.0


@dataclass(eq=False)
class Pass:
    """One pass over `total` rows, None if nobody knows how many; `done` of them are done."""

    name: str
    total: int | None
    done: int = 0
    bar: Any = None
    note: str = ""


class Passes:
    """The bars of all passes that are under way, one below the other.

    They appear `DELAY` seconds after the first of them has begun, and stay until the last is over.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: list[Pass] = []
        self._bars: Bars | None = None
        self._timer: threading.Timer | None = None
        self.silent = 0

    def begin(self, name: str, total: int | None) -> Pass:
        """Start a pass, and its bar if there are any."""
        found = Pass(name, total)
        with self._lock:
            self._open.append(found)
            if self._bars is not None:
                self._add(found)
            elif self._timer is None and not self.silent and sys.stderr.isatty():
                self._timer = threading.Timer(DELAY, self._appear)
                self._timer.daemon = True
                self._timer.start()
        return found

    def advance(self, one: Pass, rows: int) -> None:
        """Note that `rows` more rows of a pass are done."""
        one.done += rows
        if self._bars is not None and one.bar is not None:
            self._bars.update(one.bar, completed=one.done)

    def note(self, one: Pass, text: str) -> None:
        """Show a text after what is done of a pass."""
        one.note = text
        if self._bars is not None and one.bar is not None:
            self._bars.update(one.bar, note=text)

    def end(self, one: Pass) -> None:
        """End a pass; the bars go with the last one."""
        with self._lock:
            if one not in self._open:
                return
            self._open.remove(one)
            if self._bars is not None and one.bar is not None and one.total is None:
                self._bars.update(one.bar, total=max(one.done, 1), completed=max(one.done, 1))
            if not self._open:
                self.close()

    def close(self) -> None:
        """Take the bars away, whatever is under way: the terminal is for others now."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._bars is not None:
                self._bars.stop()
            self._timer = self._bars = None
            self._open.clear()

    def _appear(self) -> None:
        made = _bars()
        with self._lock:
            if self._open and self._timer is not None:
                self._bars = made
                for one in self._open:
                    self._add(one)
                made.start()

    def _add(self, one: Pass) -> None:
        assert self._bars is not None
        one.bar = self._bars.add_task(one.name, total=one.total, completed=one.done, note=one.note)


passes = Passes()


def counted(frames: Iterable[pl.DataFrame], name: str, total: int) -> Iterator[pl.DataFrame]:
    """Yield frames, and show how many of `total` rows they had.

    Examples
    --------
    >>> frames = [pl.DataFrame({"id": [1, 2]}), pl.DataFrame({"id": [3]})]
    >>> [frame.height for frame in counted(frames, "reading", 3)]
    [2, 1]
    """
    with under_way(name, total) as one:
        for frame in frames:
            yield frame
            passes.advance(one, frame.height)


@contextmanager
def under_way(name: str, total: int | None = None) -> Iterator[Pass]:
    """Show that something is under way, and how far it is if that is known."""
    one = passes.begin(name, total)
    try:
        yield one
    finally:
        passes.end(one)


@contextmanager
def silent() -> Iterator[None]:
    """Show no bars meanwhile."""
    passes.silent += 1
    try:
        yield
    finally:
        passes.silent -= 1


def _bars() -> Bars:
    # Here, because loading it takes longer than reading a small file.
    from rich.progress import BarColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    from gspo_rs.data.standard_output import LastingConsole

    class Speed(TextColumn):
        def render(self, task: Task) -> Text:
            if not task.completed:
                return Text("")
            speed = f" {task.speed:,.0f}/s" if task.speed else ""
            note = f", {task.fields['note']}" if task.fields.get("note") else ""
            return super().render(task) + Text(speed + note)

    return Bars(
        TextColumn("{task.description:10}"),
        BarColumn(),
        Speed("{task.completed:>14,.0f} rows"),
        TimeRemainingColumn(),
        console=LastingConsole(file=sys.stderr),
    )
