"""Output of a run: a live line and a table on a terminal, plain lines elsewhere."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from transformers.utils import logging

from gspo_rs.data.standard_output import LastingConsole
from gspo_rs.train.notebook import Page, html
from gspo_rs.train.shown import cells, own, packed
from gspo_rs.train.summary import summary

__all__ = ["Display", "display", "without_bars"]

# Columns of the table with their widths, the most important first: 78 columns in all.
_TABLE = {
    "reward": 8,
    "± dev": 7,
    "signal": 6,
    "pctile": 6,
    "loss": 8,
    "entropy": 7,
    "kl": 8,
    "clip": 6,
    "tokens/s": 8,
}
_STEP = 6
_NAMES = {"± dev": "deviation", "pctile": "percentile"}
_AGAIN = 20
"""Rows after which the titles of the table are repeated."""


class Display:
    """Shows the steps of a run while it trains, and a summary when it is over.

    Parameters
    ----------
    total : int
        Steps of the run.
    every : int
        Steps between two lines.
    console : rich.console.Console, optional
        Where to; standard output by default.
    first : int
        Steps that were done before this process.
    """

    def __init__(
        self, total: int, every: int = 1, console: Console | None = None, *, first: int = 0
    ) -> None:
        self._total, self._every, self._first = total, every, first
        self._console = console or LastingConsole(markup=False, emoji=False, highlight=False)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._began = time.monotonic()
        self._record: dict[str, float] = {}
        self._records: list[Mapping[str, float]] = []
        self._rows = 0
        self._notes: list[str] = []
        self._doing: tuple[str, int, int] = ("starting", 0, 0)
        self._page = Page() if self._console.is_jupyter and not self._console.quiet else None
        terminal = self._console.is_interactive and not self._console.is_jupyter
        self._live = _live(self._console) if terminal and not self._console.quiet else None

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            if kind is None:
                self._live.update(Text(), refresh=True)
            self._live.stop()

    def report(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show what the run is doing; see `gspo_rs.train.progress.Report`."""
        self._doing = (what, done, total)
        self._refresh()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Show what the run is doing, and count the seconds of it."""
        self.report(what)
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[what] += time.perf_counter() - began

    def note(self, line: str) -> None:
        """Show a line above everything else."""
        self._notes.append(line)
        if self._page is None:
            self._console.print(self._spelled(line), soft_wrap=self._live is None)

    def show(self, record: Mapping[str, float]) -> None:
        """Show the metrics of a step; the percentile is kept until the next comparison."""
        kept = {k: v for k, v in self._record.items() if k == "eval/percentile"}
        self._record = kept | dict(record)
        for name, value in record.items():
            if name.startswith("time/"):
                self._seconds[name] += value
        step = int(record["step"])
        if self._page is not None:
            self._records.append(record)
        elif step % self._every == 0 or step == self._total or "eval/percentile" in record:
            self._print(step)
        self._refresh()

    def finish(self, records: Sequence[Mapping[str, float]], folder: Path) -> None:
        """Print the summary of a run, below everything else.

        Parameters
        ----------
        records : sequence of mapping
            All its steps.
        folder : Path
            Where it is.
        """
        plain, elapsed = self._console.options.ascii_only, time.monotonic() - self._began
        lines = summary(records, self._seconds, elapsed, folder, ascii_only=plain)
        if self._page is not None:
            self._page.update(html(records, lines=[*self._notes, *lines]), now=True)
            return
        for line in lines:
            self._console.print(self._spelled(line), soft_wrap=True)

    def _print(self, step: int) -> None:
        shown = cells(self._record)
        if self._live is None:
            spread = f" ± {shown.pop('deviation')}" if "deviation" in shown else ""
            texts = [f"{k} {v}{spread if k == 'reward' else ''}" for k, v in shown.items()]
            line = "  ".join([f"step {step}/{self._total}", *texts])
            self._console.print(self._spelled(line), soft_wrap=True)
            return
        titles = self._titles()
        if self._rows % _AGAIN == 0:
            self._line("step", titles, style="bold")
        self._rows += 1
        nothing = "-"
        self._line(f"{step}", [shown.get(_NAMES.get(name, name), nothing) for name in titles])

    def _line(self, step: str, texts: Sequence[str], style: str = "") -> None:
        widths = _TABLE.values()
        columns = [f"{text:>{width}}" for text, width in zip(texts, widths, strict=False)]
        line = self._spelled(" ".join([f"{step:>{_STEP}}", *columns]))
        self._console.print(line, style=style, soft_wrap=True)

    def _titles(self) -> list[str]:
        """Return the columns that the terminal is wide enough for."""
        room = self._console.width - 1 - _STEP
        kept: list[str] = []
        for name, width in _TABLE.items():
            room -= 1 + width
            if room < 0:
                break
            kept.append(name)
        return kept

    def _refresh(self) -> None:
        if self._page is not None:
            self._page.update(html(self._records, lines=[*self._notes, *self._lines()]))
        if self._live is not None:
            self._live.update(Group(*map(Text, self._lines())), refresh=True)

    def _lines(self) -> list[str]:
        """Return the live lines: the latest step, and what is being done."""
        width, step = self._console.width - 1, int(self._record.get("step", self._first))
        shown = cells(self._record)
        if "deviation" in shown:
            shown["reward"] += f" ± {shown.pop('deviation')}"
        names = ("reward", "signal", "percentile", "loss", "entropy", "kl", "clip", "tokens/s")
        texts = [f"{name} {shown[name]}" for name in names if name in shown]
        texts += [f"{name} {text}" for name, text in own(self._record)]
        place = [f"step {step}/{self._total}", f"ETA {self._left(step)}"]
        return [
            self._spelled(line)
            for line in [*packed([*place, *texts], width), self._activity(width)]
        ]

    def _left(self, step: int) -> str:
        """Estimate the time that is left by that of the steps of this process."""
        done = step - self._first
        if done <= 0:
            return "?"
        elapsed = time.monotonic() - self._began
        left = round(elapsed / done * (self._total - step))
        return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"

    def _activity(self, width: int) -> str:
        what, done, total = self._doing
        if not total:
            return what
        text = f"{what:10}  {done:,} of {total:,} completions  "
        room = max(width - len(text), 0)
        full = room * done // total
        return f"{text}{'━' * full}{'┄' * (room - full)}"

    def _spelled(self, text: str) -> str:
        """Return a line in characters that the terminal has."""
        if not self._console.options.ascii_only:
            return text
        for sign, plain in (("±", "+-"), ("━", "#"), ("┄", ".")):
            text = text.replace(sign, plain)
        return text


def _live(console: Console) -> Live:
    # Without a thread that draws, because reward functions may fork; and what goes to a file stays
    # out of the terminal.
    return Live(console=console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())


def display(total: int, first: int, every: int, *, quiet: bool) -> Display:
    """Make the display of a run, which shows nothing if `quiet`."""
    console = LastingConsole(markup=False, emoji=False, highlight=False, quiet=quiet)
    return Display(total, every, console, first=first)


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep the progress bars of transformers, which would cut through ours, away for a while."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
