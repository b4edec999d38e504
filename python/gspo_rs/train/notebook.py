"""A run in a notebook: a table of its last metrics, and the curves of reward and percentile."""

import time
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gspo_rs.train.curve import pooled, svg
from gspo_rs.train.shown import cells, short

__all__ = ["Page", "html"]

_POINTS = 200
_BETWEEN = 0.25
"""Seconds between two drawings of a page at least."""

# Metric → title and ends of its axis.
_CURVES: dict[str, tuple[str, tuple[float, float] | None]] = {
    "reward/mean": ("mean reward", None),
    "eval/percentile": ("share of the start's completions beaten", (0.0, 1.0)),
}


class Page:
    """The output of a notebook's cell, which is drawn again and again."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._made: Any = HTML
        self._handle: Any = display(HTML(""), display_id=True)
        self._last = float("-inf")

    def update(self, text: str, *, now: bool = False) -> None:
        """Draw HTML in place of what was there, unless that was a moment ago."""
        if now or time.monotonic() - self._last >= _BETWEEN:
            self._last = time.monotonic()
            self._handle.update(self._made(text))


def html(
    records: Sequence[Mapping[str, float]], *, title: str = "", lines: Sequence[str] = ()
) -> str:
    """Return steps of a run as HTML.

    Parameters
    ----------
    records : sequence of mapping
        At least one step for a table.
    title : str
        Text above it.
    lines : sequence of str
        Lines of text below it.
    """
    parts = [f"<p>{escape(title)}</p>"] if title else []
    if records:
        parts += [_table(records[-1]), *(_curve(records, name) for name in _CURVES)]
    if lines:
        parts.append(f"<pre>{escape(chr(10).join(lines))}</pre>")
    return f"<div>{''.join(parts)}</div>"


def _table(record: Mapping[str, float]) -> str:
    """Return the metrics that matter most as a row, and all of them folded below."""
    shown = {"step": f"{record['step']:,.0f}", **cells(record)}
    head = "".join(f"<th>{escape(name)}</th>" for name in shown)
    row = "".join(f"<td>{escape(text)}</td>" for text in shown.values())
    rest = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(short(value))}</td></tr>"
        for name, value in record.items()
    )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody><tr>{row}</tr></tbody></table>"
        f"<details><summary>all metrics of the step</summary><table>{rest}</table></details>"
    )


def _curve(records: Sequence[Mapping[str, float]], name: str) -> str:
    known = [(record["step"], record[name]) for record in records if name in record]
    if not known:
        return ""
    steps, values = (pooled(part, _POINTS).tolist() for part in zip(*known, strict=True))
    title, bounds = _CURVES[name]
    return svg(steps, values, title=title, bounds=bounds)
