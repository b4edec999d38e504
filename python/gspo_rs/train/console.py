"""Console output of a run: a live table on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

# Column title, metric, format.
_COLUMNS = (
    ("reward", "reward/mean", "{:.3f}"),
    ("percentile", "eval/percentile", "{:.2f}"),
    ("ratio", "seq_ratio/mean", "{:.5f}"),
    ("clipped", "clip/token", "{:.1%}"),
    ("kl", "kl/old_k3", "{:.1e}"),
    ("grad norm", "grad_norm", "{:.3g}"),
    ("length", "length/mean", "{:.0f}"),
    ("dropped", "dropped_groups", "{:.0f}"),
    ("tokens/s", "speed/tokens_per_s", "{:,.0f}"),
)
_ROWS = 12


class Display:
    """Shows the steps of a run while it trains.

    Parameters
    ----------
    total : int
        Steps of the run.
    every : int
        Steps between two lines.
    console : rich.console.Console, optional
        Where to; standard output by default.
    """

    def __init__(self, total: int, every: int = 1, console: Console | None = None) -> None:
        self._total = total
        self._every = every
        self._console = console or Console(markup=False, emoji=False)
        self._rows: list[tuple[str, ...]] = []
        self._percentile: float | None = None
        self._live = (
            Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        )

    def __enter__(self) -> Self:
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
            self._live.stop()

    def show(self, record: Mapping[str, float]) -> None:
        """Show the metrics of a step; the percentile is kept until the next comparison."""
        self._percentile = record.get("eval/percentile", self._percentile)
        step = int(record["step"])
        if step % self._every and step != self._total and "eval/percentile" not in record:
            return
        known = dict(record)
        if self._percentile is not None:
            known["eval/percentile"] = self._percentile
        cells = tuple(
            shape.format(known[name]) if name in known else "" for _, name, shape in _COLUMNS
        )
        if self._live is None:
            named = zip(_COLUMNS, cells, strict=True)
            text = "  ".join(f"{column[0]} {cell}" for column, cell in named if cell)
            self._console.print(f"step {step}/{self._total}  {text}", soft_wrap=True)
            return
        self._rows = [*self._rows, (str(step), *cells)][-_ROWS:]
        self._live.update(self._table(step), refresh=True)

    def _table(self, step: int) -> Table:
        titles = (title for title, _, _ in _COLUMNS)
        table = Table("step", *titles, title=f"{step} of {self._total}")
        for column in table.columns:
            column.justify = "right"
        for row in self._rows:
            table.add_row(*row)
        return table
