"""A metric over the steps of a run: as text of blocks, and as an inline SVG."""

from collections.abc import Sequence
from xml.etree import ElementTree as Xml

import numpy as np
from numpy.typing import NDArray

from gspo_rs.train.shown import short

__all__ = ["blocks", "pooled", "svg"]

_BLOCKS, _PLAIN = " ▁▂▃▄▅▆▇█", " ..::||##"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 180, 52, 22, 24


def pooled(values: Sequence[float], width: int) -> NDArray[np.float64]:
    """Average neighbours until at most `width` values are left.

    Examples
    --------
    >>> pooled([1.0, 3.0, 5.0, 5.0], 2)
    array([2., 5.])
    """
    parts = np.array_split(np.asarray(values, dtype=np.float64), min(width, len(values)))
    return np.array([part.mean() for part in parts])


def blocks(
    steps: Sequence[float], values: Sequence[float], *, width: int = 60, ascii_only: bool = False
) -> list[str]:
    r"""Plot values over steps as lines of text, six of them and an axis.

    Parameters
    ----------
    steps, values : sequence of float
        At least one of each. Neighbours are averaged if there are more than columns.
    width : int
        Columns of the plot; its labels take ten more.
    ascii_only : bool
        Whether the terminal knows no other characters.

    Returns
    -------
    list of str

    Examples
    --------
    >>> print("\n".join(blocks([1, 2, 3, 4], [0.0, 1.0, 2.0, 4.0], ascii_only=True)))
       4.000 |   #
             |   #
             |   #
             |  ##
             | :##
       0.000 |.###
              1  4
    """
    shape = pooled(values, width)
    low, high, rows = shape.min(), shape.max(), 6
    # Halves, because the difference of two large numbers may not be one.
    rise = (shape / 2 - low / 2) / (high / 2 - low / 2) if high > low else np.full(len(shape), 0.5)
    eighths = np.clip(np.rint(rise * rows * 8), 1, rows * 8).astype(int)
    signs = _PLAIN if ascii_only else _BLOCKS
    lines = []
    for row in reversed(range(rows)):
        label = short(high) if row == rows - 1 else short(low) if row == 0 else ""
        bars = "".join(signs[min(max(height - 8 * row, 0), 8)] for height in eighths)
        lines.append(f"{label:>8} {'|' if ascii_only else '┤'}{bars}".rstrip())
    first, last = f"{steps[0]:,.0f}", f"{steps[-1]:,.0f}"
    gap = max(len(shape) - len(first) - len(last), 1)
    return [*lines, f"{'':10}{first}{' ' * gap}{last}"]


def svg(
    steps: Sequence[float],
    values: Sequence[float],
    *,
    title: str,
    bounds: tuple[float, float] | None = None,
) -> str:
    """Draw values over steps as an ``<svg>`` element that needs no style sheet.

    Parameters
    ----------
    steps, values : sequence of float
        At least one of each.
    title : str
        Above the plot.
    bounds : (float, float), optional
        Ends of the axis; by default those of the values.
    """
    low, high = bounds or (min(values), max(values))
    span, long = high - low or 1.0, steps[-1] - steps[0] or 1.0
    wide, tall = _WIDTH - _LEFT - 12, _HEIGHT - _TOP - _BOTTOM
    root = Xml.Element("svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", width=str(_WIDTH), role="img")
    Xml.SubElement(root, "title").text = title
    _text(root, 4, 14, title)
    for value in (low, high):
        y = _TOP + tall * (high - value) / span
        _line(root, f"{_LEFT},{y:.1f} {_LEFT + wide},{y:.1f}", "#8888", 1)
        _text(root, 4, y + 4, short(value))
    for step, anchor in ((steps[0], "start"), (steps[-1], "end")):
        x = _LEFT + wide * (step - steps[0]) / long
        _text(root, x, _HEIGHT - 6, f"{step:,.0f}", anchor)
    points = [
        f"{_LEFT + wide * (step - steps[0]) / long:.1f},{_TOP + tall * (high - value) / span:.1f}"
        for step, value in zip(steps, values, strict=True)
    ]
    _line(root, " ".join(points), "#1f6feb", 2)
    return Xml.tostring(root, encoding="unicode")


def _line(root: Xml.Element, points: str, colour: str, width: int) -> None:
    style = {"fill": "none", "stroke": colour, "stroke-width": str(width)}
    Xml.SubElement(root, "polyline", {"points": points} | style)


def _text(root: Xml.Element, x: float, y: float, text: str, anchor: str = "start") -> None:
    style = {"font-size": "11", "font-family": "sans-serif", "fill": "currentColor"}
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    Xml.SubElement(root, "text", place | style).text = text
