"""Plots as inline SVG: bars, lines, intervals and shares, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from xml.etree import ElementTree as Xml

from gspo_rs.report.comparisons import Curve
from gspo_rs.report.format import cut, number, share
from gspo_rs.report.histograms import Histogram, round_step

__all__ = ["bars", "intervals", "lines", "shares", "trend"]

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 28, 44
# Shares stand three in a row.
NARROW = 320
LEGEND = 20
WIDEST = 64
# Width of a letter of a label of a tick, at most: on a phone they are larger.
LETTER = 7.2

Scale = Callable[[float], float]


def bars(found: Histogram, *, title: str, x: str, y: str) -> str:
    """Draw a histogram.

    Parameters
    ----------
    found : Histogram
        With at least one bin.
    title : str
        Text for screen readers.
    x, y : str
        What the axes count.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    edges, counts, labels = _ends(found), found.counts.tolist(), found.labels
    top = max(counts)
    described = f"{x}: {labels[0]} to {labels[-1]}; at most {top:,} {y} in a bar."
    svg = _svg(title, described, HEIGHT)
    across, up = _scales(edges[0], edges[-1], 0, top)
    _y_axis(svg, up, 0, top, y, whole=True)
    for middle, wide, height, label in zip(*_places(found, across), counts, labels, strict=True):
        if not height:
            continue
        # A bar of one among thousands must not vanish.
        tall = max(up(0) - up(height), 1.5)
        shape = {"x": middle - wide / 2, "width": wide}
        bar = _add(svg, "rect", "bar", **shape, y=up(0) - tall, height=tall, rx=1)
        _add(bar, "title").text = f"{label}: {height:,} {y} ({share(height, found.total)})"
    _x_axis(svg, across, _bar_ticks(found, across), x)
    return _text(svg)


def lines(curves: Sequence[Curve], *, title: str, y: str) -> str:
    """Draw what k draws bring against k, each doubling one step to the right.

    The axis upwards is as long as the lines need: it need not hold zero.
    """
    most = max(curve.draws[-1] for curve in curves)
    values = [value for curve in curves for value in curve.mean]
    low, high = min(values), max(values)
    space = 0.06 * (high - low) or 0.5
    low, high = low - space, high + space
    described = f"{len(curves)} lines, from one draw to {most}."
    svg = _svg(title, described, HEIGHT + LEGEND * len(curves))
    across, up = _scales(0, math.log2(most), low, high)
    _y_axis(svg, up, low, high, y)
    _legend(svg, [curve.name for curve in curves], HEIGHT + 14)
    for colour, curve in enumerate(curves):
        pairs = zip(curve.draws, curve.mean, strict=True)
        points = [(across(math.log2(k)), up(mean)) for k, mean in pairs]
        of_draws = zip(curve.draws, curve.mean, curve.error, strict=True)
        name = cut(curve.name, 40)
        labels = [f"{name}, k = {k}: {number(m)} ± {number(error)}" for k, m, error in of_draws]
        _line(svg, colour, points, labels)
    # The last one only where it does not run into the power of two before it.
    steps = [*range(math.floor(math.log2(most / 1.3)) + 1), math.log2(most)]
    _x_axis(svg, across, [(step, f"{round(2**step):,}") for step in steps], "draws k")
    return _text(svg)


def trend(x: Sequence[float], y: Sequence[float], *, title: str, labels: tuple[str, str]) -> str:
    """Draw one line through points in the unit square, with a line at one half."""
    described = "; ".join(f"{number(a)}: {number(b)}" for a, b in zip(x, y, strict=True))
    svg = _svg(title, described, HEIGHT)
    across, up = _scales(0, 1, 0, 1)
    _y_axis(svg, up, 0, 1, labels[1])
    _add(svg, "line", "middle", x1=across(0), x2=across(1), y1=up(0.5), y2=up(0.5))
    _line(svg, 0, [(across(a), up(b)) for a, b in zip(x, y, strict=True)], [*map(number, y)])
    _x_axis(svg, across, _ticks(0, 1, whole=False), labels[0])
    return _text(svg)


def intervals(
    rows: Sequence[tuple[str, float, float]], *, title: str, x: str, middle: float
) -> str:
    """Draw one dot a row with a line of two standard errors to both sides, and a `middle`."""
    reach = [2 * error if math.isfinite(error) else 0.0 for _, _, error in rows]
    low = min(middle, *(mean - far for (_, mean, _), far in zip(rows, reach, strict=True)))
    high = max(middle, *(mean + far for (_, mean, _), far in zip(rows, reach, strict=True)))
    space = 0.05 * (high - low or 1.0)
    step, height = 30, 30 * len(rows) + TOP + BOTTOM
    described = "; ".join(f"{cut(name, 40)} {number(mean)}" for name, mean, _ in rows)
    svg = _svg(title, described, height)
    across, _ = _scales(low - space, high + space, 0, 1, left=RIGHT)
    ground = height - BOTTOM
    _add(svg, "line", "middle", x1=across(middle), x2=across(middle), y1=TOP, y2=ground)
    for index, ((name, mean, error), far) in enumerate(zip(rows, reach, strict=True)):
        y = TOP + step * index + 23
        _add(svg, "text", "name", x=RIGHT, y=y - 8).text = cut(name, 60)
        _add(svg, "line", "grid", x1=RIGHT, x2=WIDTH - RIGHT, y1=y, y2=y)
        _add(svg, "line", "whisker", x1=across(mean - far), x2=across(mean + far), y1=y, y2=y)
        dot = _add(svg, "circle", "dot c0", cx=across(mean), cy=y, r=4)
        _add(dot, "title").text = f"{cut(name)}: {number(mean)} ± {number(error)}"
    _x_axis(svg, across, _ticks(low, high, whole=False), x, height=height)
    return _text(svg)


def shares(parts: Sequence[tuple[str, float]], *, title: str) -> str:
    """Draw one bar cut into the shares of `parts`, and a line of words for each."""
    total = sum(size for _, size in parts)
    labels = [f"{name}: {number(size)} ({share(size, total)})" for name, size in parts]
    svg = _svg(title, "; ".join(labels), 46 + LEGEND * len(parts), width=NARROW)
    x = 0.0
    for colour, (_, size) in enumerate(parts):
        wide = NARROW * size / total if total else 0.0
        if size:
            bar = _add(svg, "rect", f"part c{colour}", x=x, y=4, width=max(wide, 1), height=24)
            _add(bar, "title").text = labels[colour]
        x += wide
    _legend(svg, labels, 50)
    return _text(svg)


def _svg(title: str, described: str, height: float, *, width: float = WIDTH) -> Xml.Element:
    svg = Xml.Element("svg", {"viewBox": f"0 0 {width} {height:g}", "role": "img"})
    _add(svg, "title").text = title
    _add(svg, "desc").text = described
    return svg


def _add(parent: Xml.Element, tag: str, name: str = "", **attributes: float | str) -> Xml.Element:
    """Add an element with a class; numbers are written to a tenth of a unit."""
    element = Xml.SubElement(parent, tag, {"class": name} if name else {})
    for key, value in attributes.items():
        written = value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        element.set(key.replace("_", "-"), written)
    return element


def _line(
    svg: Xml.Element, colour: int, points: Sequence[tuple[float, float]], labels: Sequence[str]
) -> None:
    """Add a line with a dot and a label at each of its points."""
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    _add(svg, "polyline", f"line c{colour}", points=path)
    for (a, b), label in zip(points, labels, strict=True):
        dot = _add(svg, "circle", f"dot c{colour}", cx=a, cy=b, r=3)
        _add(dot, "title").text = label


def _legend(svg: Xml.Element, names: Sequence[str], y: float) -> None:
    for colour, name in enumerate(names):
        below = y + LEGEND * colour
        _add(svg, "rect", f"part c{colour}", x=2, y=below - 10, width=12, height=12, rx=2)
        _add(svg, "text", "name", x=21, y=below).text = cut(name, 60)


def _text(svg: Xml.Element) -> str:
    return Xml.tostring(svg, encoding="unicode")


def _scales(
    low: float, high: float, bottom: float, top: float, *, left: float = LEFT
) -> tuple[Scale, Scale]:
    """Return what turns values into places: across, and upwards."""
    wide, tall = WIDTH - RIGHT - left, HEIGHT - TOP - BOTTOM
    # Halves, because the difference of two large numbers may not be one.
    span, rise = (high / 2 - low / 2) or 0.5, (top / 2 - bottom / 2) or 0.5
    return (
        lambda value: left + wide * ((value / 2 - low / 2) / span),
        lambda value: TOP + tall * (1 - (value / 2 - bottom / 2) / rise),
    )


def _ticks(low: float, high: float, *, whole: bool) -> list[tuple[float, str]]:
    span = high - low
    if not math.isfinite(span) or span <= 1e-9 * max(abs(low), abs(high)) or span < 1e-300:
        return [(low, number(low))]
    step = round_step(span, 6)
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    places = [float(f"{index * step:.12g}") for index in range(first, last + 1)]
    return [(place, f"{place:,.6g}" if abs(place) < 1e6 else f"{place:.3g}") for place in places]


def _ends(found: Histogram) -> list[float]:
    """Return the edges as they stand on the axis: those that double are one step apart."""
    return list(range(len(found.edges))) if found.doubling else found.edges.tolist()


def _places(found: Histogram, across: Scale) -> tuple[list[float], list[float]]:
    """Return the middle and the width of each bar."""
    ends = [across(edge) for edge in _ends(found)]
    if found.values is not None:
        middles = [across(value) for value in found.values.tolist()]
        closest = min((b - a for a, b in pairwise(middles)), default=ends[-1] - ends[0])
        return middles, [min(max(0.8 * closest, 2.0), WIDEST)] * len(middles)
    middles = [(a + b) / 2 for a, b in pairwise(ends)]
    # A lone bar is a bar and not a wall.
    return middles, [min(b - a - min(2.0, 0.2 * (b - a)), WIDEST) for a, b in pairwise(ends)]


def _bar_ticks(found: Histogram, across: Scale) -> list[tuple[float, str]]:
    edges = found.edges.tolist()
    if found.whole:
        return _ticks(edges[0] + 0.5, edges[-1] - 0.5, whole=True)
    if found.doubling:
        ticks = [(float(place), f"{int(edge):,}") for place, edge in enumerate(edges)]
        return next(kept for step in (1, 2, 4, 8) if _fits(kept := ticks[::step], across))
    if found.values is None:
        return _ticks(edges[0], edges[-1], whole=False)
    values = found.values.tolist()
    ticks = list(zip(values, found.labels, strict=True))
    return ticks if _fits(ticks, across) else _ticks(values[0], values[-1], whole=False)


def _fits(ticks: Sequence[tuple[float, str]], across: Scale) -> bool:
    """Tell whether no label runs into the next one."""
    return all(
        across(b) - across(a) >= LETTER * (len(one) + len(other)) / 2 + LETTER
        for (a, one), (b, other) in pairwise(ticks)
    )


def _x_axis(
    svg: Xml.Element,
    across: Scale,
    ticks: Sequence[tuple[float, str]],
    label: str,
    *,
    height: float = HEIGHT,
) -> None:
    ground = height - BOTTOM
    for place, written in ticks:
        x = across(place)
        _add(svg, "line", "tick", x1=x, x2=x, y1=ground, y2=ground + 4)
        # The last label ends with the plot.
        middle = min(x, WIDTH - LETTER * len(written) / 2)
        _add(svg, "text", "tick", x=middle, y=ground + 17, text_anchor="middle").text = written
    middle = (across(ticks[0][0]) + across(ticks[-1][0])) / 2 if len(ticks) > 1 else WIDTH / 2
    _add(svg, "text", "axis", x=middle, y=height - 8, text_anchor="middle").text = cut(label)


def _y_axis(
    svg: Xml.Element, up: Scale, low: float, high: float, label: str, *, whole: bool = False
) -> None:
    for place, written in _ticks(low, high, whole=whole):
        y = up(place)
        _add(svg, "line", "grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        _add(svg, "text", "tick", x=LEFT - 6, y=y + 4, text_anchor="end").text = written
    _add(svg, "text", "axis", x=2, y=12).text = cut(label, 60)
